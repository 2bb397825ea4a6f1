"""Upload sessions: where a chunk may start, and what an id looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.spec.digests import Algorithm
from portside.spec.errors import BlobUploadUnknown, OffsetMismatch
from portside.spec.names import RepositoryName
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId, UploadSession


def fresh() -> UploadSession:
    """Open a session."""
    return UploadSession(
        id=UploadId.fresh(),
        repository=RepositoryName("a"),
        algorithm=Algorithm.SHA256,
        created=0,
        updated=0,
    )


@given(st.integers(0, 100), st.integers(0, 100))
def test_chunks(offset: int, start: int) -> None:
    """A chunk is accepted at the session's offset only."""
    session = fresh().at(offset)
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
    assert fresh().at(10).received == "0-9"


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "../" * 10])
def test_ids(text: str) -> None:
    """A text that Portside cannot have issued is not an upload id."""
    with pytest.raises(BlobUploadUnknown):
        UploadId.parse(text)
    assert UploadId.parse(UploadId.fresh())
