"""The mark of a blob store: whose blobs it holds.

A database and a blob store that are configured separately can be mixed up: a node that is given
another prefix than the others would acknowledge what no other node can read, and `portside collect`
with the wrong database would remove every blob. So the first node that serves leaves a mark beside
the blobs, and records its content in the database.
"""

from __future__ import annotations

import msgspec

from portside.spec.errors import Unavailable

NAME = "registry.json"
"""The name of the mark, beside `blobs`."""


class Mark(msgspec.Struct, frozen=True):
    """The identity of the registry, and a random name of this blob store."""

    registry: str
    storage: str


def encode_mark(mark: Mark) -> bytes:
    """Return a mark as the content of a file or an object."""
    return msgspec.json.encode(mark) + b"\n"


def decode_mark(content: bytes) -> Mark:
    """Return the mark that a file or an object holds; raises Unavailable if it is damaged."""
    try:
        return msgspec.json.decode(content, type=Mark)
    except msgspec.DecodeError as error:
        raise Unavailable(f"{NAME} beside the blobs is damaged: {error}") from error
