"""Marks: what a blob store says of whose blobs it holds.

A database and a blob store that are apart can be mixed up: a node that is told another prefix than
the others would acknowledge what nobody else can read, and whoever collects strays with the wrong
database would remove all blobs. So the first that serves leaves a mark beside the blobs, and notes
in the database what is in it.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from portside.spec.errors import Unavailable

NAME = "registry.json"
"""The name of the mark, beside `blobs`."""


class Mark(msgspec.Struct, frozen=True):
    """The identity of the registry, and a random name of this very blob store."""

    registry: str
    storage: str


class MarkedBlobs(Protocol):
    """A blob store that can be marked. Blocking; raises Unavailable and StorageFull."""

    def read_mark(self) -> Mark | None:
        """Read the mark, or give None if there is none."""
        ...

    def put_mark(self, mark: Mark) -> None:
        """Leave a mark, durably, unless there is one."""
        ...


def encode_mark(mark: Mark) -> bytes:
    """Write a mark as the content of a file or an object."""
    return msgspec.json.encode(mark) + b"\n"


def decode_mark(content: bytes) -> Mark:
    """Read the content of a mark; raises Unavailable if it is damaged."""
    try:
        return msgspec.json.decode(content, type=Mark)
    except msgspec.DecodeError as error:
        raise Unavailable(f"{NAME} beside the blobs is damaged: {error}") from error
