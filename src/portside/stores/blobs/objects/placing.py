"""Placing: make the chunks of an upload the object at the key of their digest. Blocking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import BaseError

from portside.spec.errors import Unavailable
from portside.stores.blobs.objects.chunks import Chunk
from portside.stores.blobs.objects.faults import translated
from portside.stores.interfaces import Undo

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MIB = 1024 * 1024
_MAX_PARTS = 10_000
"""S3 takes as many parts for one object, and Azure 50,000 blocks."""


class Sizes(NamedTuple):
    """In which pieces bytes go to the store; all in bytes, but for `in_flight`, in parts.

    `part` is what one request carries: S3 wants 5 MiB at least. `in_flight` parts are sent at
    once, beside the one that is filled, so that a body takes (in_flight + 1) parts of memory.
    `chunk` is where a body goes on in another object, before it has more parts than a store takes.
    `copy` is what one server-side copy carries: 5 GB on S3.
    """

    part: int = 8 * _MIB
    in_flight: int = 2
    chunk: int = 64 * 1024 * _MIB
    copy: int = 5_000_000_000


def size_of(store: ObjectStore, key: str) -> int | None:
    """Give the size in bytes of an object, or None if there is none; raises obstore's errors."""
    try:
        return obstore.head(store, key)["size"]
    except FileNotFoundError:
        return None


def place(store: ObjectStore, chunks: Sequence[Chunk], key: str, sizes: Sizes) -> Undo | None:
    """Make the content of the chunks the object at a key, unless one of that size is there.

    Raises StorageFull and Unavailable.
    """
    size = sum(chunk.size for chunk in chunks)
    with translated("placing a blob"):
        found = size_of(store, key)
        if found == size:
            return None
        if not chunks:
            obstore.put(store, key, b"")
        elif len(chunks) == 1 and size <= sizes.copy:
            obstore.copy(store, chunks[0].key, key, overwrite=True)
        else:
            _join(store, chunks, key, sizes)
        placed = size_of(store, key)
    if placed != size:
        differ = f"placing a blob: {key} should have {size} bytes and has {placed}; try again"
        raise Unavailable(differ)
    return partial(_take_back, store, key) if found is None else None


def _join(store: ObjectStore, chunks: Sequence[Chunk], key: str, sizes: Sizes) -> None:
    """Read the chunks and write them again, as one object.

    If this fails midway, nothing appears at the key; the parts go when the store drops unfinished
    uploads, which it should be told to.
    """
    size = sum(chunk.size for chunk in chunks)
    fewest = -(-size // _MAX_PARTS)
    part = max(sizes.part, -(-fewest // _MIB) * _MIB)
    writer = obstore.open_writer(store, key, buffer_size=part, max_concurrency=sizes.in_flight)
    for chunk in chunks:
        for piece in _read(store, chunk, sizes.part):
            writer.write(piece)
    writer.close()


def _read(store: ObjectStore, chunk: Chunk, step: int) -> Iterator[obstore.Bytes]:
    for start in range(0, chunk.size, step):
        wanted = min(step, chunk.size - start)
        piece = obstore.get_range(store, chunk.key, start=start, length=wanted)
        if len(piece) != wanted:
            raise Unavailable(f"placing a blob: {chunk.key} is shorter than it was")
        yield piece


def _take_back(store: ObjectStore, key: str) -> None:
    try:
        obstore.delete(store, key)
    except (BaseError, OSError):
        # It stays as an object without a row, which `portside collect` removes.
        return
