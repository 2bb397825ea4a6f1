"""Upload sessions: blobs that arrive over several requests.

A session is opened by POST (end-4a). PATCH (end-5) and PUT (end-6) append bytes at its offset, the
number of bytes that the registry holds durably. Whatever cuts a request off, the offset never falls
behind what was acknowledged. A session ends when its blob is made (PUT), when it is cancelled
(DELETE, end-14) or when it expires; it is unknown from then on, but to a PUT that is repeated.
"""

from __future__ import annotations

import re
import secrets
from typing import Self

import msgspec

from portside.spec.digests import Algorithm
from portside.spec.errors import BlobUploadUnknown, OffsetMismatch
from portside.spec.names import RepositoryName
from portside.spec.ranges import ByteRange


class UploadId(str):
    """The id of a session: unguessable, so that knowing it is enough to find the session."""

    __slots__ = ()

    _GRAMMAR = re.compile(r"[a-f0-9]{32}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the id in a path.

        Raises BlobUploadUnknown: Portside makes no other ids, so there is no such session.
        """
        if cls._GRAMMAR.fullmatch(text) is None:
            unknown = f"invalid upload session id {text[:64]!r}"
            raise BlobUploadUnknown(unknown)
        return cls(text)

    @classmethod
    def fresh(cls) -> Self:
        """Return an id that cannot be guessed (128 random bits)."""
        return cls(secrets.token_hex(16))


class UploadSession(msgspec.Struct, frozen=True):
    """One upload session as the database knows it.

    `offset` counts the bytes that are held durably. `algorithm` is the one that the client
    announced (end-4c), by which bytes are hashed while they arrive. Times are microseconds since
    1970. `owner` is the identity that opened the session, or empty for anonymous clients; it is not
    read again.
    """

    id: UploadId
    repository: RepositoryName
    algorithm: Algorithm
    created: int
    updated: int
    offset: int = 0
    owner: str = ""

    def at(self, offset: int) -> UploadSession:
        """Return the session as it is once it holds `offset` bytes."""
        return msgspec.structs.replace(self, offset=offset)

    def check_chunk(self, chunk: ByteRange | None) -> None:
        """Check that a chunk starts at the offset; one without a range always does.

        Raises OffsetMismatch ("If a chunk is uploaded out of order, the registry MUST respond with
        416").
        """
        if chunk is not None and chunk.start != self.offset:
            elsewhere = (
                f"the chunk starts at byte {chunk.start}, but the offset of upload session"
                f" {self.id} is {self.offset}; continue from byte {self.offset}"
            )
            raise OffsetMismatch(self, elsewhere)

    @property
    def received(self) -> str:
        """The Range header that tells the client the offset.

        An empty session is `0-0` too: the header cannot say "none", and this is what distribution
        answers and clients expect.
        """
        return f"0-{max(self.offset - 1, 0)}"
