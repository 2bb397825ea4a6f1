"""The state machine of upload sessions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.spec.digests import Algorithm
from portside.spec.errors import BlobUploadUnknown, OffsetMismatch
from portside.spec.names import RepositoryName
from portside.spec.ranges import ByteRange
from portside.spec.uploads import (
    TRANSITIONS,
    UploadEvent,
    UploadId,
    UploadSession,
    UploadState,
)

ENDS = {UploadState.FINISHED, UploadState.CANCELLED, UploadState.EXPIRED}


def fresh() -> UploadSession:
    """Open a session."""
    return UploadSession(
        id=UploadId.fresh(),
        repository=RepositoryName("a"),
        algorithm=Algorithm.SHA256,
        created=0,
        updated=0,
    )


@given(st.lists(st.sampled_from(UploadEvent), max_size=6))
def test_any_sequence(events: list[UploadEvent]) -> None:
    """A session takes events until one ends it, and none after that."""
    session = fresh()
    for event in events:
        if session.state in ENDS:
            with pytest.raises(BlobUploadUnknown):
                session.after(event)
            return
        session = session.after(event, offset=session.offset + 1)
    assert session.offset == len(events)


def test_the_table_is_whole() -> None:
    """Every state that is no end takes every event, and an end takes none."""
    for state in UploadState:
        taken = {event for (of, event) in TRANSITIONS if of is state}
        assert taken == (set() if state in ENDS else set(UploadEvent))


@given(st.integers(0, 100), st.integers(0, 100))
def test_chunks(offset: int, start: int) -> None:
    """A chunk is taken where the session stands, and nowhere else."""
    session = fresh().after(UploadEvent.RECEIVE, offset=offset)
    if start == offset:
        session.check_chunk(ByteRange(start, start + 1))
    else:
        with pytest.raises(OffsetMismatch) as caught:
            session.check_chunk(ByteRange(start, start + 1))
        assert caught.value.session == session
    session.check_chunk(None)


def test_received() -> None:
    """The Range header ends at the last byte, and is 0-0 for none."""
    assert fresh().received == "0-0"
    assert fresh().after(UploadEvent.RECEIVE, offset=10).received == "0-9"


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "../" * 10])
def test_ids(text: str) -> None:
    """What Portside cannot have made is no id."""
    with pytest.raises(BlobUploadUnknown):
        UploadId.parse(text)
    assert UploadId.parse(UploadId.fresh())
