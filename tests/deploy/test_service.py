"""`deploy/portside.service`: systemd accepts it, and Portside does nothing that it forbids."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portside.config import make_settings
from servers import ServerMissing
from support.content import digest_of, image
from support.missing import server_needed
from support.pages import ROOT
from support.power_loss import require_tracer
from support.server import running_registry
from support.spoken import check_command
from support.waiting import until
from support.wire import connect, push

UNIT = ROOT / "deploy" / "portside.service"
BACKUP = ROOT / "deploy" / "portside-backup.service"
PROGRAM = "/opt/portside/bin/portside"
EXPOSURE = 15
"""Tenths of the points that `systemd-analyze security` gives; 100 is a service without limits."""

PASSWORD = "correct horse battery"  # noqa: S105
AS_ROOT = {"chown", "fchown"}
"""What tests that run as root see and the service does not do: root gives files to their owner."""


def values(key: str) -> list[str]:
    """Return all values of a key of the unit, in order."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def analyze(*arguments: str) -> str:
    """Run systemd-analyze to its end, which has to be a good one; returns what it prints."""
    with server_needed():
        if shutil.which("systemd-analyze") is None:
            raise ServerMissing("there is no systemd-analyze; `make test` installs it")
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def system_calls(*groups: str) -> set[str]:
    """List the system calls of groups, and of the groups in them."""
    found: set[str] = set()
    for line in analyze("syscall-filter", *groups).splitlines():
        name = line.strip()
        if line.startswith(" ") and not name.startswith("#"):
            found |= system_calls(name) if name.startswith("@") else {name}
    return found


def test_accepted(tmp_path: Path) -> None:
    """The manager knows every key and value; only the program is another one."""
    copied = [tmp_path / unit.name for unit in (UNIT, BACKUP, BACKUP.with_suffix(".timer"))]
    for path in copied:
        text = (UNIT.parent / path.name).read_text("utf-8")
        assert (PROGRAM in text) is (path.suffix == ".service")
        path.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("portside"))))
    assert analyze("verify", "--man=no", *map(str, copied)) == ""


def test_exposure() -> None:
    """By the manager's own measure of what the services could do to the machine is low."""
    for unit in (UNIT, BACKUP):
        printed = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(unit))
        assert "Overall exposure level" in printed


def test_backup() -> None:
    """The backup is made of the registry that is served, by its user and as confined."""
    served, saved = (
        dict(line.split("=", 1) for line in unit.read_text("utf-8").splitlines() if "=" in line)
        for unit in (UNIT, BACKUP)
    )
    program, *words = saved["ExecStart"].split()
    assert program == PROGRAM
    check_command(words)
    assert served["ExecStart"].endswith(" ".join(words[-2:]))
    assert saved["ReadWritePaths"].split() == [words[1], "/var/lib/portside"]
    for key in ("User", "SystemCallFilter", "CapabilityBoundingSet", "ProtectSystem", "UMask"):
        assert saved[key] == served[key]


def test_command() -> None:
    """The unit starts a command that there is, and waits for its end for long enough."""
    (command,) = values("ExecStart")
    program, *words = command.split()
    assert program == PROGRAM
    check_command(words)
    (timeout,) = values("TimeoutStopSec")
    settings = make_settings({})
    assert int(timeout) > settings.shutdown_timeout
    (descriptors,) = values("LimitNOFILE")
    assert int(descriptors) > 2 * settings.max_connections


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Record what a registry asks of the system, from its start over a push to its end."""
    with server_needed():
        require_tracer()
    folder = tmp_path_factory.mktemp("traced")
    record = folder / "calls"
    content = image("traced")
    env = {"PORTSIDE_ADMIN_PASSWORD": PASSWORD, "PORTSIDE_PASSWORD_COST": "4"}
    # The registry is the process that is started, and can be ended without the tracer.
    tracer = ("strace", "--daemonize=pgroup", "--follow-forks", "--quiet=all", f"--output={record}")
    with (
        running_registry(folder / "data", "--workers", "2", env=env, prefix=tracer) as registry,
        connect(registry.url, auth=("admin", PASSWORD)) as client,
    ):
        push(client, "traced", content, "1")
        for blob in content.blobs:
            assert client.get(f"/v2/traced/blobs/{digest_of(blob)}").content == blob
        assert client.delete(f"/v2/traced/manifests/{content.digest}").status_code == 202
        assert client.get("/readyz/writes").status_code == 200
    # The line is cut behind the number if another process does something in between.
    ended = re.compile(rf"^{registry.process.pid} +exit_group\(0[ )]", re.MULTILINE)
    until(lambda: ended.search(record.read_text()) is not None)
    return record.read_text().replace(str(folder / "data"), "/var/lib/portside")


class TestConfined:
    """What a registry does, the unit allows."""

    def test_system_calls(self, trace: str) -> None:
        """No call is made that the filters of the unit refuse."""
        allowed, refused = values("SystemCallFilter")
        assert refused.startswith("~")
        made = set(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))
        assert {"openat", "accept4", "fsync"} <= made
        permitted = system_calls(*allowed.split(), "@default")
        assert made - AS_ROOT <= permitted - system_calls(*refused[1:].split())

    def test_addresses(self, trace: str) -> None:
        """No socket is of a family that the unit refuses."""
        (families,) = values("RestrictAddressFamilies")
        made = set(re.findall(r"\bsocket\((AF_\w+)", trace))
        assert made
        assert made <= set(families.split())

    def test_memory(self, trace: str) -> None:
        """No memory can be written to and executed (MemoryDenyWriteExecute)."""
        assert values("MemoryDenyWriteExecute") == ["yes"]
        executable = [line for line in trace.splitlines() if "PROT_EXEC" in line]
        assert executable
        for line in executable:
            assert "PROT_WRITE" not in line
            assert " mprotect(" not in line

    def test_files(self, trace: str) -> None:
        """Files are written in the directories of the unit, its own for /tmp, and memory."""
        assert values("ProtectSystem") == ["strict"]
        assert values("PrivateTmp") == ["yes"]
        opened = re.findall(r'\bopen(?:at)?\([^"\n]*"(/[^"\n]*)", ([A-Z_|]+)', trace)
        written = {path for path, flags in opened if re.search("O_WRONLY|O_RDWR|O_CREAT", flags)}
        assert "/var/lib/portside/portside.db" in written
        for path in written:
            # Python keeps what it compiles where it may.
            if "__pycache__" not in path:
                assert re.match(r"/(?:var/lib/portside|dev/shm|dev/null|(?:var/)?tmp)\b", path), (
                    path
                )
