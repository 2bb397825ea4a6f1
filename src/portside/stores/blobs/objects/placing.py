"""Placing: make the verified bytes of an upload the object at the key of their digest.

What runs within the transaction is one request, or two: a small blob, which is still in memory, is
put; the one object of a larger one is copied by the store itself, and looked at. Bytes that were
staged in several objects are joined into one before. All of them replace what is at the key: it
costs no more than to look first, it heals an object that was damaged, and to take the bytes back is
up to the caller, who knows whether a row referred to them before.

A blob that is larger than what one copy carries is joined straight to its key, before the
transaction, because it takes minutes. The digest can be removed in that time, and none of
that does harm. What is written there is the content of its key, verified while it is read, and
appears whole or not at all: over the same blob, it changes nothing. A removal that comes before it
changes nothing either. One that comes after it takes the object away, and this is seen within the
transaction, where no request can remove the digest: the object is looked for there, and if it
is gone, the push fails, to be tried again. If no transaction follows, an object without a row
stays, as after a crash, and `portside collect` removes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import BaseError

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.layout import Chunk
from portside.stores.interfaces import Undo

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MIB = 1024 * 1024
_MAX_PARTS = 10_000
"""S3 takes as many parts for one object, and Azure 50,000 blocks."""

_COPY_DEADLINE = 30.0
_COPY_PAUSE = 0.2
"""Seconds. Azure may answer before a copy is whole, although within one account it never does."""


PATIENCE = 600.0
"""Seconds to wait for a share of the memory, which comes free when a whole upload ends: large ones
take minutes.

A proxy, or the client, may give up sooner. Waiting for longer than they do costs nothing.
"""


class Sizes(NamedTuple):
    """In which pieces bytes go to the store; in bytes, but for `in_flight` and `patience`.

    `part` is what one request carries, and what stays in memory until the digest is known: S3 wants
    5 MiB at least. `in_flight` parts are sent at once, beside the one that is filled. `chunk` is
    where a body goes on in another object, before it has more parts than a store takes. `copy` is
    what one server-side copy carries: 5 GB on S3. `together` is the memory of all uploads of a
    process, and `patience` how long, in seconds, one of them waits for its share of it.
    """

    part: int = 8 * _MIB
    in_flight: int = 2
    chunk: int = 64 * 1024 * _MIB
    copy: int = 5_000_000_000
    together: int = 512 * _MIB
    patience: float = PATIENCE

    @property
    def share(self) -> int:
        """What one upload takes at most: those parts, and one that comes in or is read again."""
        return self.part * (self.in_flight + 2)


def size_of(store: ObjectStore, key: str) -> int | None:
    """Return the size in bytes of an object; None if it is missing. Raises obstore's errors."""
    try:
        return obstore.head(store, key)["size"]
    except FileNotFoundError:
        return None


def put(store: ObjectStore, content: bytes, key: str) -> Undo:
    """Make bytes the object at a key; blocking. Raises StorageFull and Unavailable."""
    with translated("placing a blob"):
        obstore.put(store, key, content, use_multipart=False)
    return partial(_take_back, store, key)


def copy(store: ObjectStore, chunk: Chunk, key: str) -> Undo:
    """Make the store copy an object to a key; blocking. Raises StorageFull and Unavailable."""
    deadline = time.monotonic() + _COPY_DEADLINE
    with translated("placing a blob"):
        obstore.copy(store, chunk.key, key, overwrite=True)
        while (placed := size_of(store, key)) != chunk.size and time.monotonic() < deadline:
            time.sleep(_COPY_PAUSE)
    _check(placed, chunk.size, key)
    return partial(_take_back, store, key)


def keep(store: ObjectStore, size: int, key: str) -> None:
    """Look for what is at a key already; blocking. Raises Unavailable if it is not there."""
    with translated("placing a blob"):
        placed = size_of(store, key)
    _check(placed, size, key)


def confirm(store: ObjectStore, size: int, key: str) -> Undo:
    """Look for what was joined at a key; blocking. Raises Unavailable if it is gone."""
    keep(store, size, key)
    return partial(_take_back, store, key)


def _check(placed: int | None, size: int, key: str) -> None:
    if placed != size:
        differ = f"placing a blob: {key} should have {size} bytes and has {placed}; try again"
        raise Unavailable(differ)


def _take_back(store: ObjectStore, key: str) -> None:
    try:
        obstore.delete(store, key)
    except (BaseError, OSError):
        # It stays as an object without a row, which `portside collect` removes.
        return


async def join(
    store: ObjectStore, chunks: Sequence[Chunk], key: str, digest: Digest, sizes: Sizes
) -> Chunk:
    """Read chunks and write them again as one object, if they are the content of the digest.

    If this fails midway, nothing appears at the key, and the parts are dropped again. Raises
    StorageFull and Unavailable.
    """
    size = sum(chunk.size for chunk in chunks)
    fewest = -(-size // _MAX_PARTS)
    part = max(sizes.part, -(-fewest // _MIB) * _MIB)
    with translated("joining an upload"):
        await obstore.put_async(
            store,
            key,
            _verified(store, chunks, digest, sizes.part),
            use_multipart=True,
            chunk_size=part,
            max_concurrency=sizes.in_flight,
        )
    return Chunk(key, 0, size)


async def _verified(
    store: ObjectStore, chunks: Sequence[Chunk], digest: Digest, step: int
) -> AsyncIterator[obstore.Bytes]:
    """Read chunks; if they are something else, say so before they have been written to the end."""
    hasher = digest.algorithm.hasher()
    for chunk in chunks:
        async for piece in read_chunk(store, chunk, step):
            await asyncio.to_thread(hasher.update, piece)
            yield piece
    if Digest.finish(digest.algorithm, hasher) != digest:
        raise Unavailable(f"the staged bytes are no longer the content of {digest}; try again")


async def read_chunk(store: ObjectStore, chunk: Chunk, step: int) -> AsyncIterator[obstore.Bytes]:
    """Read a chunk in pieces of `step` bytes; raises Unavailable if it is shorter than it was."""
    for start in range(0, chunk.size, step):
        wanted = min(step, chunk.size - start)
        piece = await obstore.get_range_async(store, chunk.key, start=start, length=wanted)
        if len(piece) != wanted:
            raise Unavailable(f"{chunk.key} is shorter than it was")
        yield piece
