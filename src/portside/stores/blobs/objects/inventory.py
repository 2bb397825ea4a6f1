"""What an object store holds, for those who check and collect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from itertools import groupby
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from portside.spec.digests import Digest
from portside.spec.uploads import UploadId
from portside.stores.blobs.objects.chunks import find_reach
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.keys import (
    BLOBS,
    PROBES,
    UPLOADS,
    blob_key,
    is_probe_key,
    lease_key,
    parse_blob_key,
    parse_chunk_key,
    parse_upload_key,
    upload_prefix,
)
from portside.stores.blobs.objects.leases import is_live
from portside.stores.inspection import OrphanedFile
from portside.stores.marks import NAME as MARK
from portside.stores.marks import Mark, decode_mark, encode_mark

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

LIST_PAGE = 1000
"""Objects that are listed at once: what one request to S3 gives."""

YOUNG = 3600
"""Seconds after its last write in which a chunk without a lease may belong to a request."""

READ_SIZE = 1024 * 1024
"""Bytes that are hashed at once."""


class ObjectInventory:
    """The objects below one prefix."""

    def __init__(
        self, store: ObjectStore, *, pool: ThreadPoolExecutor, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock

    async def _list(self, prefix: str | None) -> AsyncIterator[ObjectMeta]:
        with translated(f"listing {prefix or 'all objects'}"):
            async for entries in obstore.list(self._store, prefix, chunk_size=LIST_PAGE):
                for entry in entries:
                    yield entry

    async def read_mark(self) -> Mark | None:
        """Read the object of the mark."""
        with translated("reading the mark"):
            content = await self._get(MARK)
        return decode_mark(content) if content is not None else None

    async def _get(self, key: str) -> bytes | None:
        try:
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None

    async def put_mark(self, mark: Mark) -> None:
        """Put the object on the condition that there is none."""
        with translated("leaving the mark"), suppress(AlreadyExistsError):
            await obstore.put_async(self._store, MARK, encode_mark(mark), mode="create")

    async def holds_blobs(self) -> bool:
        """List up to the first blob."""
        async with aclosing(self.stored_blobs()) as found:
            return await anext(found, None) is not None

    async def stored_blobs(self) -> AsyncGenerator[tuple[Digest, int], None]:
        """List every blob."""
        async for entry in self._list(BLOBS):
            digest = parse_blob_key(entry["path"])
            if digest is not None:
                yield digest, entry["size"]

    async def verify(self, digest: Digest) -> bool | None:
        """Hash the whole object, in a thread."""
        loop = asyncio.get_running_loop()
        hasher = digest.algorithm.hasher()
        with translated("reading a blob"):
            try:
                found = await obstore.get_async(self._store, blob_key(digest))
            except FileNotFoundError:
                return None
            async for piece in found.stream(min_chunk_size=READ_SIZE):
                await loop.run_in_executor(self._pool, hasher.update, piece)
        return Digest.finish(digest.algorithm, hasher) == digest

    async def missing_directories(self) -> list[str]:
        """Return nothing: an object store has no directories."""
        return []

    async def orphaned_files(self) -> AsyncIterator[OrphanedFile]:
        """List the objects that no registry has put there."""
        async for entry in self._list(None):
            if _is_foreign(entry["path"]):
                advice = "nothing of a registry has this name; move it away"
                yield OrphanedFile(entry["path"], advice)

    async def is_orphaned(self, file: OrphanedFile) -> bool:
        """Look for the object once more."""
        if not _is_foreign(file.path):
            return False
        with translated("looking at an object"):
            try:
                await obstore.head_async(self._store, file.path)
            except FileNotFoundError:
                return False
        return True

    async def drop_orphaned_files(self, before: int) -> list[int]:
        """Drop the objects of probes; incomplete multipart uploads are the store's to drop."""
        gone = [entry async for entry in self._list(PROBES) if _written(entry) < before]
        with translated("dropping orphaned objects"):
            for entry in gone:
                await obstore.delete_async(self._store, entry["path"])
        return [entry["size"] for entry in gone]

    async def staged_uploads(self) -> AsyncIterator[tuple[UploadId, int]]:
        """List every upload that has a chunk, and the bytes up to the first gap."""
        # S3, Azure and Google list in the order of keys, but a directory does not.
        entries = sorted([entry async for entry in self._list(UPLOADS)], key=lambda it: it["path"])
        for upload, found in groupby(entries, lambda entry: parse_upload_key(entry["path"])):
            chunks = [parse_chunk_key(entry["path"], entry["size"]) for entry in found]
            if upload is not None and any(chunks):
                yield upload, find_reach(chunk for chunk in chunks if chunk is not None)

    async def staged_size(self, upload: UploadId) -> int | None:
        """List the upload's chunks."""
        known = [
            chunk
            async for entry in self._list(upload_prefix(upload))
            if (chunk := parse_chunk_key(entry["path"], entry["size"])) is not None
        ]
        return find_reach(known) if known else None

    async def is_held(self, upload: UploadId) -> bool:
        """Read the upload's lease; a blob that comes in one request has none, but is young."""
        with translated("looking at an upload"):
            content = await self._get(lease_key(upload))
        if content is not None:
            return is_live(content, self._clock())
        young = self._clock() - YOUNG * 1_000_000
        entries = [entry async for entry in self._list(upload_prefix(upload))]
        return any(_written(entry) > young for entry in entries)

    async def list_stale_uploads(self, before: int) -> list[UploadId]:
        """List uploads none of whose objects was written since."""
        newest: dict[UploadId, int] = {}
        async for entry in self._list(UPLOADS):
            upload = parse_upload_key(entry["path"])
            if upload is not None:
                newest[upload] = max(newest.get(upload, 0), _written(entry))
        return [upload for upload, written in newest.items() if written < before]


def _is_foreign(key: str) -> bool:
    if not key:
        # Some servers list the prefix itself, as the directory that it is to them.
        return False
    known = parse_blob_key(key) is not None or parse_upload_key(key) is not None
    return not known and not is_probe_key(key) and key != MARK


def _written(entry: ObjectMeta) -> int:
    """Give the time of an object's last write, in microseconds since 1970."""
    return int(entry["last_modified"].timestamp() * 1_000_000)
