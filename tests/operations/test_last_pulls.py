"""When manifests were last pulled, as a process notes and stores it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from portside.operations import last_pulls
from portside.operations.last_pulls import COARSENESS, LastPulls
from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.spec.names import RepositoryName
from portside.stores.interfaces import LastPull
from stores.conftest import Clock

A, B = RepositoryName("a"), RepositoryName("b")
FIRST, SECOND = Digest.of(b"1"), Digest.of(b"2")


class Written:
    """A store that keeps what it is given, unless it is broken."""

    def __init__(self) -> None:
        self.writes: list[list[LastPull]] = []
        self.is_broken = False

    async def note_pulls(self, pulls: Sequence[LastPull]) -> None:
        """Keep the pulls."""
        if self.is_broken:
            raise Unavailable("broken")
        self.writes.append(list(pulls))


@pytest.fixture
def clock() -> Clock:
    """Make a clock that does not move."""
    return Clock()


@pytest.fixture
def store() -> Written:
    """Make an empty store."""
    return Written()


@pytest.fixture
def pulls(store: Written, clock: Clock) -> LastPulls:
    """Note pulls of that store."""
    return LastPulls(store, clock=clock)


async def test_together(pulls: LastPulls, store: Written, clock: Clock) -> None:
    """All that were noted are written at once, in one order, and once."""
    start = clock.now
    pulls.note(B, FIRST)
    clock.now += 1
    pulls.note(A, SECOND)
    pulls.note(A, FIRST)
    await pulls.store()
    await pulls.store()
    expected = [LastPull(A, FIRST, start + 1), LastPull(A, SECOND, start + 1)]
    assert store.writes == [sorted([*expected, LastPull(B, FIRST, start)])]


async def test_at_most_once_an_hour(pulls: LastPulls, store: Written, clock: Clock) -> None:
    """A manifest that is pulled again and again is written once an hour."""
    start = clock.now
    for _ in range(3):
        pulls.note(A, FIRST)
        clock.now += COARSENESS // 4
        await pulls.store()
    assert store.writes == [[LastPull(A, FIRST, start)]]
    clock.now = start + COARSENESS
    pulls.note(A, FIRST)
    await pulls.store()
    assert store.writes[1:] == [[LastPull(A, FIRST, start + COARSENESS)]]


async def test_broken_store(pulls: LastPulls, store: Written, clock: Clock) -> None:
    """What could not be written is written with what came later."""
    start = clock.now
    pulls.note(A, FIRST)
    store.is_broken = True
    with pytest.raises(Unavailable):
        await pulls.store()
    clock.now += COARSENESS
    pulls.note(A, FIRST)
    pulls.note(A, SECOND)
    with pytest.raises(Unavailable):
        await pulls.store()
    store.is_broken = False
    await pulls.store()
    later = start + COARSENESS
    assert store.writes == [sorted([LastPull(A, FIRST, later), LastPull(A, SECOND, later)])]


async def test_memory(pulls: LastPulls, store: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many pulls are held until they are written; pulls go on."""
    monkeypatch.setattr(last_pulls, "MOST", 3)
    digests = [Digest.of(b"%d" % number) for number in range(10)]
    for digest in (*digests, *digests):
        pulls.note(A, digest)
    await pulls.store()
    (written,) = store.writes
    assert {pull.digest for pull in written} == set(digests[:3])
    pulls.note(A, digests[5])
    await pulls.store()
    assert len(store.writes[1]) == 1
