r"""The life of an upload session, as one state machine.

A session is opened by POST (end-4a). PATCH (end-5) and PUT (end-6) append bytes at its offset,
which is what the registry holds durably; whatever cuts a request off, the session stays where it
was, or further on, and never behind what was acknowledged. It ends in one of three ways, and after
each of them it is unknown:

                 receive              finish
      OPENED ------------> RECEIVING ---------> FINISHED
        |   \\               |  ^ |  \\
        |    \\   receive    +--+ |   +-- cancel --> CANCELLED
        |     \\                  |
        |      +-- finish, cancel, expire lead to the same ends
        +------------------------+-- expire --> EXPIRED
"""

from __future__ import annotations

import enum
import re
import secrets
from typing import Self

import msgspec

from portside.spec.digests import Algorithm
from portside.spec.errors import BlobUploadUnknown, OffsetMismatch
from portside.spec.names import RepositoryName
from portside.spec.ranges import ByteRange


class UploadState(enum.Enum):
    """Where a session stands."""

    OPENED = enum.auto()
    RECEIVING = enum.auto()
    FINISHED = enum.auto()
    CANCELLED = enum.auto()
    EXPIRED = enum.auto()


class UploadEvent(enum.Enum):
    """What can happen to a session."""

    RECEIVE = enum.auto()
    FINISH = enum.auto()
    CANCEL = enum.auto()
    EXPIRE = enum.auto()


TRANSITIONS: dict[tuple[UploadState, UploadEvent], UploadState] = {
    (UploadState.OPENED, UploadEvent.RECEIVE): UploadState.RECEIVING,
    (UploadState.OPENED, UploadEvent.FINISH): UploadState.FINISHED,
    (UploadState.OPENED, UploadEvent.CANCEL): UploadState.CANCELLED,
    (UploadState.OPENED, UploadEvent.EXPIRE): UploadState.EXPIRED,
    (UploadState.RECEIVING, UploadEvent.RECEIVE): UploadState.RECEIVING,
    (UploadState.RECEIVING, UploadEvent.FINISH): UploadState.FINISHED,
    (UploadState.RECEIVING, UploadEvent.CANCEL): UploadState.CANCELLED,
    (UploadState.RECEIVING, UploadEvent.EXPIRE): UploadState.EXPIRED,
}
"""Every step there is; what is not in the table ends in BLOB_UPLOAD_UNKNOWN."""


class UploadId(str):
    """The name of a session: unguessable, so that knowing it is enough to find the session."""

    __slots__ = ()

    _GRAMMAR = re.compile(r"[a-f0-9]{32}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take an id as it stood in the path.

        Raises BlobUploadUnknown: an id that Portside cannot have made names no session.
        """
        if cls._GRAMMAR.fullmatch(text) is None:
            unknown = f"{text[:64]!r} is not the id of an upload session"
            raise BlobUploadUnknown(unknown)
        return cls(text)

    @classmethod
    def fresh(cls) -> Self:
        """Make an id that nobody can guess (128 random bits)."""
        return cls(secrets.token_hex(16))


class UploadSession(msgspec.Struct, frozen=True):
    """One upload session as the database knows it.

    `offset` counts the bytes that are held durably. `algorithm` is the one that the client
    announced (end-4c), by which bytes are hashed while they arrive. Times are microseconds since
    1970.
    """

    id: UploadId
    repository: RepositoryName
    algorithm: Algorithm
    created: int
    updated: int
    offset: int = 0
    state: UploadState = UploadState.OPENED

    def after(self, event: UploadEvent, *, offset: int | None = None) -> UploadSession:
        """Take one step of the table; `offset` is where a RECEIVE has come to.

        Raises BlobUploadUnknown if a session in this state has no such step.
        """
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            over = f"upload session {self.id} is {self.state.name.lower()}"
            raise BlobUploadUnknown(over)
        reached = self.offset if offset is None else offset
        return msgspec.structs.replace(self, state=state, offset=reached)

    def check_chunk(self, chunk: ByteRange | None) -> None:
        """Accept a chunk that starts at the offset; one without a range always does.

        Raises OffsetMismatch ("If a chunk is uploaded out of order, the registry MUST respond with
        416").
        """
        if chunk is not None and chunk.start != self.offset:
            elsewhere = (
                f"the chunk starts at byte {chunk.start}, and upload session {self.id} stands at"
                f" {self.offset}; send the bytes from {self.offset} on"
            )
            raise OffsetMismatch(self, elsewhere)

    @property
    def received(self) -> str:
        """The Range header that tells the client where the session stands.

        `0-0` stands for an empty session too: the header cannot say "none", and this is what
        distribution answers and clients expect.
        """
        return f"0-{max(self.offset - 1, 0)}"
