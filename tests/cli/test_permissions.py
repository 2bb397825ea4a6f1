"""Other users of the machine neither read nor change what a registry keeps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from servers import ServerMissing
from support.commands import run_inside
from support.content import image
from support.missing import server_needed
from support.server import PROGRAM, running_registry
from support.wire import connect, open_upload, push

WITHOUT_UMASK = ("sh", "-c", 'umask 000; exec "$@"', "sh")


def test_umask(data: Path) -> None:
    """Whatever the umask is, others see nothing, and content and keys are private."""
    with (
        running_registry(data, "--workers", "1", prefix=WITHOUT_UMASK) as registry,
        connect(registry.url) as client,
    ):
        push(client, "a", image("modes"), "v1")
        client.patch(open_upload(client, "a"), content=b"abc")
        modes = {path: path.stat().st_mode & 0o777 for path in (data, *data.rglob("*"))}
    assert len(modes) > 10
    assert {path: mode for path, mode in modes.items() if mode & 0o027} == {}
    keys = ("portside.db", "portside.db-wal", "portside.db-shm")
    private = [path for path in modes if path.is_dir() and path != data]
    assert len(private) > 4
    assert {modes[path] for path in private} == {0o700}
    assert {modes[data / name] for name in keys if data / name in modes} == {0o600}


def test_owner(data: Path) -> None:
    """Whose a file is that cannot be used, and who tries, is said, with what to do."""
    with server_needed():
        if os.geteuid() != 0:
            raise ServerMissing("only root can give files to another user")
    assert run_inside("migrate", "--create", "--data", str(data))[0] == 0
    os.chown(data / "portside.db", 1, -1)
    whose = "belongs to daemon, and this process runs as root;"
    owned = f"{data}/portside.db {whose} as root, make root the owner: `chown -R root: {data}`"
    serve = ("serve", "--listen", "127.0.0.1:0", "--data", str(data))
    assert refused(*serve) == owned
    assert refused("user", "list", "--data", str(data)) == owned
    os.chown(data, 1, -1)
    assert refused(*serve) == f"{data} {whose} run it as daemon"
    rules = data.with_name("rules.toml")
    rules.touch(0o600)
    os.chown(rules, 1, -1)
    unreadable = refused("webhooks", "test", "deploy", "--rules", str(rules))
    assert unreadable == f"cannot read {rules}: Permission denied for the user root"


def test_no_directory(tmp_path: Path) -> None:
    """A directory that cannot be created is named, with how to create it."""
    with server_needed():
        if os.geteuid() != 0:
            raise ServerMissing("only root can give files to another user")
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 1, -1)
    line = refused("serve", "--data", f"{tmp_path}/new", "--listen", "127.0.0.1:0")
    assert line.endswith(f"as root: `install --directory --owner root {tmp_path}/new`")


def refused(*command: str) -> str:
    """Run a command as root without its capabilities; returns the one line that it prints."""
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", *PROGRAM)
    done = subprocess.run([*without, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line.removeprefix("portside: ")
