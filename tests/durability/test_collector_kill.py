"""kill -9 beside a garbage collector: nothing that a client was told is wrong afterwards."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from support.checks import assert_sound
from support.collecting import KEPT, OPTIONS, Pusher, keep_one, stored_in
from support.content import digest_of
from support.server import RunningRegistry, run_portside, start_registry
from support.waiting import PATIENCE, until
from support.wire import connect


def has_collected(registry: RunningRegistry, rounds: int) -> bool:
    """Whether the collector has removed something in so many rounds."""
    return registry.log.count("collected ") >= rounds


@pytest.mark.long
def test_kill(data: Path) -> None:
    """Three times load and kill -9; what is reachable is whole, and the rest can be freed."""
    for turn in range(3):
        registry = start_registry(data, *OPTIONS)
        stop = threading.Event()
        pushers = [Pusher(registry.url, f"{turn}-{number}", stop) for number in range(4)]
        for pusher in pushers:
            pusher.start()
        # Its log is that of all its lives.
        until(partial(has_collected, registry, turn + 1))
        registry.kill()
        stop.set()
        for pusher in pushers:
            pusher.join(PATIENCE)
        assert [pusher.failure for pusher in pushers if pusher.failure] == []
        assert all(pusher.pushes for pusher in pushers)
        assert_sound(data, crashed=True)
    registry = start_registry(data, *OPTIONS)
    with connect(registry.url) as client:
        keep_one(client)
    assert registry.stop() == 0
    command = ("collect", "--grace", "0", "--keep-deleted", "0", "--data", str(data))
    code, _, errors = run_portside(*command)
    assert (code, errors) == (0, "")
    assert stored_in(data) == {digest_of(blob) for blob in KEPT.blobs}
    assert_sound(data, crashed=True)
