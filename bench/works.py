"""What is measured: each work gives a rate, and more is better."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.content import (
    MIB,
    Prepared,
    digest_of,
    image_manifest,
    push_blob,
    put_manifest,
)
from bench.peers import Peer

ACCEPT = "Accept: application/vnd.oci.image.manifest.v1+json"
CIPHER = ("--tls13-ciphers", "TLS_AES_128_GCM_SHA256")
"""What the clients of the field, written in Go, ask for first; curl would ask for 256 bits."""

UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
CREATED = "201"


class Work(NamedTuple):
    """One row of the table.

    `floor` is the ratio that Portside must reach, `best` that of the fastest peer we measured.
    """

    name: str
    title: str
    unit: str
    floor: float
    best: float | None
    measure: Callable[[Peer, Prepared, int], float]
    is_secure: bool = False


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _wrk(peer: Peer, path: str, seconds: int, connections: int, figure: str) -> float:
    """Let wrk ask for one path; gives requests or bytes per second."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-H", ACCEPT, "--timeout", "60s"]
    printed = _run("wrk", *options, f"{peer.url}{path}")
    if "Non-2xx" in printed:
        raise RuntimeError(f"{peer.name} {path}: {printed}")
    found = re.search(rf"{figure}/sec: +([\d.]+)([KMG]?)", printed)
    if found is None:
        raise RuntimeError(printed)
    return float(found.group(1)) * UNITS[found.group(2)]


def get_manifest(peer: Peer, _: Prepared, seconds: int) -> float:
    """GET a manifest of 2 kB by tag."""
    return _wrk(peer, "/v2/library/app/manifests/1", seconds, 32, "Requests")


def head_blob(peer: Peer, prepared: Prepared, seconds: int) -> float:
    """HEAD a blob; ab, because wrk waits for the body of a HEAD."""
    url = f"{peer.url}/v2/library/app/blobs/{prepared.layer}"
    printed = _run("ab", "-q", "-i", "-k", "-c32", f"-t{seconds}", "-n10000000", url)
    found = re.search(r"Requests per second: +([\d.]+)", printed)
    if found is None or "Non-2xx" in printed:
        raise RuntimeError(printed)
    return float(found.group(1))


def get_large(peer: Peer, prepared: Prepared, _: int) -> float:
    """GET the large blob on one connection."""
    url = f"{peer.url}/v2/library/app/blobs/{prepared.large}"
    written = "%{size_download} %{speed_download}"
    printed = _run("curl", "-sk", *CIPHER, "--http1.1", "-o", "/dev/null", "-w", written, url)
    size, speed = printed.split()
    if int(size) != prepared.megabytes * MIB:
        raise RuntimeError(f"{peer.name} sent {size} bytes")
    return float(speed)


def get_medium(peer: Peer, prepared: Prepared, seconds: int) -> float:
    """GET a blob of 64 MiB on eight connections."""
    path = f"/v2/library/app/blobs/{prepared.medium}"
    return _wrk(peer, path, max(seconds, 4), 8, "Transfer")


def push_large(peer: Peer, prepared: Prepared, _: int) -> float:
    """Push a large blob that the registry has not seen, by POST and PUT."""
    with prepared.file.open("r+b") as file:
        file.write(os.urandom(32))
        file.seek(0)
        digest = digest_of(file.read())
    os.sync()
    start = time.monotonic()
    opened = _run("curl", "-s", "-D-", "-X", "POST", f"{peer.url}/v2/bench/push/blobs/uploads/")
    location = re.search(r"(?im)^location: *(\S+)", opened)
    if location is None:
        raise RuntimeError(opened)
    target = location.group(1)
    if target.startswith("/"):
        target = f"{peer.url}{target}"
    joint = "&" if "?" in target else "?"
    sent = ["-T", str(prepared.file), "-H", "Expect:", "-w", "%{http_code}", "-o", "/dev/null"]
    status = _run("curl", "-s", *sent, f"{target}{joint}digest={digest}")
    elapsed = time.monotonic() - start
    if status != CREATED:
        raise RuntimeError(f"{peer.name} answered {status}")
    _forget(peer, digest)
    return prepared.megabytes * MIB / elapsed


def _forget(peer: Peer, digest: str) -> None:
    """Delete a blob, and its bytes where the peer leaves them for its garbage collection."""
    _run("curl", "-s", "-X", "DELETE", f"{peer.url}/v2/bench/push/blobs/{digest}")
    if peer.name == "docker-registry":
        encoded = digest.partition(":")[2]
        blobs = peer.root / "docker" / "registry" / "v2" / "blobs" / "sha256"
        (blobs / encoded[:2] / encoded / "data").unlink()


def push_image(peer: Peer, _: Prepared, __: int) -> float:
    """Push an image of 100 layers of 10 kB over one connection; gives layers per second."""
    layers = [os.urandom(10_000) for _ in range(100)]
    blobs = [(content, digest_of(content)) for content in [os.urandom(200), *layers]]
    connection = peer.connect()
    start = time.monotonic()
    for content, digest in blobs:
        connection.request("HEAD", f"/v2/bench/image/blobs/{digest}")
        connection.getresponse().read()
        push_blob(connection, "bench/image", content, digest)
    manifest = image_manifest(blobs[0][1], [digest for _, digest in blobs[1:]])
    put_manifest(connection, "bench/image", "latest", manifest)
    elapsed = time.monotonic() - start
    connection.close()
    return len(layers) / elapsed


def list_tags(peer: Peer, _: Prepared, seconds: int) -> float:
    """List 100 tags out of 50,000."""
    return _wrk(peer, "/v2/library/tags/tags/list?n=100&last=v025000", seconds, 4, "Requests")


def list_repositories(peer: Peer, _: Prepared, seconds: int) -> float:
    """List 100 repositories out of 5,000."""
    return _wrk(peer, "/v2/_catalog?n=100&last=many/r02500", seconds, 4, "Requests")


WORKS = (
    Work("get-manifest", "GET manifest by tag, 32 connections", "req/s", 16, 17, get_manifest),
    Work("head-blob", "HEAD blob, 32 connections", "req/s", 5, 6, head_blob),
    Work("get-large", "GET large blob, 1 connection", "B/s", 0.9, 1.3, get_large),
    Work("get-large-tls", "the same over TLS", "B/s", 1.25, 1.3, get_large, is_secure=True),
    Work("get-medium", "GET 64 MiB blobs, 8 connections", "B/s", 1.0, None, get_medium),
    Work("push-large", "push large blob (POST, PUT)", "B/s", 1.8, 2.3, push_large),
    Work("push-image", "push image, 100 layers of 10 kB", "layers/s", 1.5, None, push_image),
    Work("list-tags", "100 tags of 50,000", "req/s", 20, None, list_tags),
    Work("list-repositories", "100 repositories of 5,000", "req/s", 20, None, list_repositories),
)
