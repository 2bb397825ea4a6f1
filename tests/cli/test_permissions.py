"""Other users of the machine neither read nor change what a registry keeps."""

from __future__ import annotations

from pathlib import Path

from support.content import image
from support.server import running_registry
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
