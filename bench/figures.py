"""Figures that are not ratios: time to start, memory at rest and under uploads."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.content import MIB
from bench.peers import Peer, start_portside

UPLOADS = 32
UPLOAD_MIB = 256
HTTP_OK = 200
HTTP_ACCEPTED = 202


def lines(folder: Path) -> Iterator[str]:
    """Measure, and give one line for each figure."""
    for title, root in (("empty", folder / "empty"), ("full", folder / "portside-plain")):
        start = time.monotonic()
        peer = start_portside(root)
        first = time.monotonic() - start
        _wait_ready(peer)
        ready = time.monotonic() - start
        yield f"start with an {title} store: first answer {first:.2f} s, ready {ready:.2f} s"
        if title == "full":
            peer.stop()
            continue
        rest = memory(peer)
        yield f"two workers at rest: {rest / MIB:.0f} MiB resident, all processes together"
        peak = _upload_all(peer)
        yield (
            f"{UPLOADS} uploads of {UPLOAD_MIB} MiB at once:"
            f" {(peak - rest) / MIB:.0f} MiB more at the peak"
        )
        peer.stop()


def _wait_ready(peer: Peer) -> None:
    while True:
        connection = peer.connect()
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        if status == HTTP_OK:
            return


def memory(peer: Peer) -> int:
    """Give the resident bytes of a registry's processes, shared pages counted once (PSS)."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if os.getpgid(int(folder.name)) != peer.process.pid:
                continue
            rollup = (folder / "smaps_rollup").read_text()
        except (OSError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
    return total * 1024


def _upload_all(peer: Peer) -> int:
    """Send many large uploads at once; gives the most memory that was seen meanwhile."""
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, memory(peer))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(lambda _: _upload(peer), range(UPLOADS)))
    done.set()
    watcher.join()
    return peak


def _upload(peer: Peer) -> None:
    piece = bytes(MIB)
    connection = http.client.HTTPConnection("127.0.0.1", peer.port)
    connection.request("POST", "/v2/bench/memory/blobs/uploads/")
    opened = connection.getresponse()
    opened.read()
    location = opened.headers["Location"]
    connection.putrequest("PATCH", location)
    connection.putheader("Content-Length", str(UPLOAD_MIB * MIB))
    connection.endheaders()
    for _ in range(UPLOAD_MIB):
        connection.send(piece)
    answer = connection.getresponse()
    answer.read()
    if answer.status != HTTP_ACCEPTED:
        raise RuntimeError(f"{answer.status}")
    connection.request("DELETE", location)
    connection.getresponse().read()
    connection.close()
