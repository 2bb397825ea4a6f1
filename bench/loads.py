"""The load generators; each gives a rate of which more is better.

Each is the cheapest that was found for its work, because on a machine of two cores the generator
and the server share them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

from bench.content import OCI_INDEX, OCI_MANIFEST
from bench.peer import Peer
from bench.programs import BenchError, run
from bench.wire import Connection

ACCEPT = f"Accept: {OCI_MANIFEST}, {OCI_INDEX}"

CIPHER = "TLS_AES_128_GCM_SHA256"
"""What clients written in Go, podman and docker among them, get from both servers. Left to curl,
the two would choose different ones."""

HEADS_PER_SECOND = 100_000
"""More than ab can ask for: the time ends its run."""

_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def get_requests(
    peer: Peer, path: str, *, connections: int, seconds: int, headers: Sequence[str] = ()
) -> float:
    """GET one path with wrk; return requests per second."""
    options = (f"-c{connections}", "-t1", f"-d{seconds}s", "--timeout", "60s")
    sent = [part for header in (ACCEPT, *headers) for part in ("-H", header)]
    printed = run("wrk", *options, *sent, f"{peer.url}{path}")
    for trouble in ("Non-2xx", "Socket errors"):
        if trouble in printed:
            line = next(line for line in printed.splitlines() if trouble in line)
            raise BenchError(f"{peer.name}, GET {path}: {line.strip()}")
    rate, unit = _find(r"Requests/sec: +([\d.]+)([kMG]?)", printed)
    return float(rate) * _UNITS[unit]


def head_requests(peer: Peer, path: str, *, connections: int, seconds: int) -> float:
    """HEAD one path with ab, because wrk would wait for a body; return requests per second."""
    enough = f"-n{seconds * HEADS_PER_SECOND}"
    options = ("-q", "-i", "-k", f"-c{connections}", f"-t{seconds}", enough)
    printed = run("ab", *options, f"{peer.url}{path}")
    failed = re.search(r"^(Non-2xx responses|Failed requests): +[1-9]\d*", printed, re.MULTILINE)
    if failed is not None:
        raise BenchError(f"{peer.name}, HEAD {path}: {failed.group()}")
    (rate,) = _find(r"Requests per second: +([\d.]+)", printed)
    return float(rate)


def get_bytes(peer: Peer, path: str, size: int, seconds: int) -> float:
    """GET a blob over and over on one connection; returns bytes per second."""
    total = 0
    with peer.connect() as connection:
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            connection.socket.sendall(connection.head("GET", path, 0))
            left = _expect_body(peer, path, size, connection.read_head())
            while left:
                left -= connection.throw_away(left)
            total += size
        return total / (time.monotonic() - begun)


def get_many_bytes(peer: Peer, paths: Sequence[str], size: int, seconds: int) -> float:
    """GET blobs over and over, each path on a connection of its own; returns bytes per second."""
    with ExitStack() as stack, ThreadPoolExecutor(len(paths)) as pool:
        connections = [stack.enter_context(peer.connect()) for _ in paths]
        begun = time.monotonic()
        end = begun + seconds

        def read(connection: Connection, path: str) -> int:
            total = 0
            while True:
                connection.socket.sendall(connection.head("GET", path, 0))
                left = _expect_body(peer, path, size, connection.read_head())
                while left:
                    taken = connection.throw_away(left)
                    left -= taken
                    total += taken
                    if time.monotonic() > end:
                        return total

        total = sum(pool.map(read, connections, paths))
        return total / (time.monotonic() - begun)


def get_digest(connection: Connection, path: str) -> str:
    """GET a blob once and compute its digest."""
    connection.socket.sendall(connection.head("GET", path, 0))
    status, headers = connection.read_head()
    if status != 200:  # noqa: PLR2004
        raise BenchError(f"GET {path} answered {status}")
    hasher = hashlib.sha256()
    left = int(headers["content-length"])
    while left:
        piece = connection.read_piece(left)
        hasher.update(piece)
        left -= len(piece)
    return f"sha256:{hasher.hexdigest()}"


def get_digest_elsewhere(url: str) -> str:
    """GET a blob once from another server and compute its digest."""
    parts = urlsplit(url)
    with Connection(parts.hostname or "", parts.port or 80) as connection:
        return get_digest(connection, f"{parts.path}?{parts.query}")


def get_bytes_securely(peer: Peer, path: str, size: int, seconds: int, http_version: str) -> float:
    """GET a blob over TLS with curl, which decrypts faster than Python.

    Raises BenchError where the server does not agree to the version.
    """
    total, elapsed = 0, 0.0
    options = ("-sSk", f"--http{http_version}", "--tls13-ciphers", CIPHER, "-o", "/dev/null")
    while elapsed < seconds:
        written = "%{http_version} %{http_code} %{size_download} %{time_total}"
        printed = run("curl", *options, "-w", written, f"{peer.url}{path}")
        spoken, status, length, took = printed.split()
        if spoken != http_version:
            raise BenchError(f"{peer.name} speaks HTTP/{spoken}, not HTTP/{http_version}")
        _expect_body(peer, path, size, (int(status), {"content-length": length}))
        total += size
        elapsed += float(took)
    return total / elapsed


def _expect_body(peer: Peer, path: str, size: int, head: tuple[int, dict[str, str]]) -> int:
    status, headers = head
    if (status, headers.get("content-length")) != (200, str(size)):
        length = headers.get("content-length")
        raise BenchError(f"{peer.name}, GET {path}: {status} with {length} bytes of {size}")
    return size


def _find(pattern: str, printed: str) -> tuple[str, ...]:
    found = re.search(pattern, printed)
    if found is None:
        raise BenchError(f"cannot read what the load generator printed: {printed[-200:]!r}")
    return found.groups()
