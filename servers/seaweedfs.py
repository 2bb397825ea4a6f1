"""A real S3 server that keeps real objects: SeaweedFS, on the loopback."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from servers import ServerMissing
from servers.ports import free_ports

ACCESS_KEY = "portside"
SECRET_KEY = "portside-secret"  # noqa: S105
BUCKET = "registry"
REGION = "us-east-1"
START_DEADLINE = 20.0
TRIES = 3

IDENTITIES = {
    "identities": [
        {
            "name": "portside",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}

PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "admin.port", "admin.port.grpc", "s3.port.grpc", "s3.port", "metricsPort",
)  # fmt: skip
"""All that it listens on, so that nothing is left at its default, which others may have."""

SHOWN = ("s3.port", "filer.port", "metricsPort")

OPTIONS = (
    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}", "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-webdav=false", "-admin.ui=false",
    "-master.telemetry=false", "-volume.max=20", "-volume.preStopSeconds=0",
)  # fmt: skip


class S3(NamedTuple):
    """A server that answers.

    `filer` shows what it keeps behind the S3 interface, `metrics` what it has done.
    """

    endpoint: str
    filer: str
    metrics: str

    @property
    def environment(self) -> dict[str, str]:
        """Where the clouds' tools look for an endpoint and for credentials."""
        return self.environment_at(self.endpoint)

    @staticmethod
    def environment_at(endpoint: str) -> dict[str, str]:
        """Return the same for another way to the server."""
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        }

    def list_unfinished(self) -> list[str]:
        """List the multipart uploads that were begun and not ended."""
        found = httpx.get(
            f"{self.filer}/buckets/{BUCKET}/.uploads/", headers={"Accept": "application/json"}
        )
        if found.status_code == httpx.codes.NOT_FOUND:
            return []
        return [entry["FullPath"] for entry in found.json()["Entries"] or []]


def find_weed() -> str:
    """Find the server; raises ServerMissing."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is not None:
        return found
    raise ServerMissing("there is no SeaweedFS; `make test` and `make bench` install it")


@contextmanager
def running_s3(root: Path) -> Iterator[S3]:
    """Serve one empty bucket, kept below a directory, for the length of a block.

    Raises ServerMissing.
    """
    (root / "s3.json").write_text(json.dumps(IDENTITIES))
    for attempt in range(TRIES):
        folder = root / f"weed-{attempt}"
        folder.mkdir()
        with _alone():
            ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
            process = _start(folder, root / "s3.json", ports)
            server = S3(*(f"http://127.0.0.1:{ports[name]}" for name in SHOWN))
            does_answer = _answers(server, process)
        try:
            if does_answer:
                yield server
                return
        finally:
            process.kill()
            process.wait(START_DEADLINE)
            _sweep(ports)
    raise RuntimeError((folder / "log").read_text())


@contextmanager
def _alone() -> Iterator[None]:
    """Keep others from choosing ports: what two find free at once, one of them does not get."""
    with (Path(tempfile.gettempdir()) / "portside-seaweedfs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(folder: Path, identities: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    named = [f"-{name}={port}" for name, port in ports.items()]
    command = [find_weed(), "mini", f"-dir={folder}", f"-s3.config={identities}", *named, *OPTIONS]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def _answers(server: S3, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the bucket is there, and closed to those without credentials."""
    deadline = time.monotonic() + START_DEADLINE
    bucket = (f"{server.filer}/buckets/{BUCKET}/", f"{server.endpoint}/{BUCKET}")
    # One client for all attempts: making one takes longer than the server needs to answer.
    with httpx.Client() as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if [client.get(url).status_code for url in bucket] == [httpx.codes.OK, 403]:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    return False


def _sweep(ports: dict[str, int]) -> None:
    """Remove the sockets that it leaves in the one directory that it knows for them.

    Where it did not get a port, the socket of that number is another server's, and in use.
    """
    for port in ports.values():
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
            if not _is_served(left):
                left.unlink(missing_ok=True)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
