"""A real S3 server that keeps real objects: rclone's, over a directory, on the loopback.

Debian's rclone is too old to have `serve s3`; `go install github.com/rclone/rclone@latest` makes
one. It is looked for on the PATH, in Go's own place, and where PORTSIDE_TEST_RCLONE says.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ACCESS_KEY = "portside"
SECRET_KEY = "portside-secret"  # noqa: S105
BUCKET = "registry"
START_DEADLINE = 20.0


class S3(NamedTuple):
    """A server that answers; `objects` is the directory of its bucket."""

    endpoint: str
    objects: Path

    @property
    def environment(self) -> dict[str, str]:
        """Where the clouds' tools look for an endpoint and for credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }


def find_rclone() -> str | None:
    """Find an rclone that can serve S3."""
    named = os.environ.get("PORTSIDE_TEST_RCLONE")
    go = Path(os.environ.get("GOPATH", Path.home() / "go")) / "bin" / "rclone"
    for found in (named, shutil.which("rclone"), str(go)):
        if found and Path(found).exists() and _can_serve(found):
            return found
    return None


def _can_serve(rclone: str) -> bool:
    done = subprocess.run([rclone, "serve", "s3", "--help"], capture_output=True, check=False)
    return done.returncode == 0 and b"--auth-key" in done.stdout


@contextmanager
def running_s3(rclone: str, root: Path) -> Iterator[S3]:
    """Serve a directory, with one bucket in it, on a free port."""
    objects = root / "served" / BUCKET
    objects.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        rclone, "serve", "s3", str(objects.parent), "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", os.devnull,
        "--cache-dir", str(root / "cache"), "--vfs-cache-mode", "off",
    ]  # fmt: skip
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(port, process, root / "log")
        yield S3(f"http://127.0.0.1:{port}", objects)
    finally:
        process.terminate()
        process.wait(START_DEADLINE)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while True:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return
