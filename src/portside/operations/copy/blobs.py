"""Blobs: copy bytes from one store to the other, and only then their rows.

Bytes are hashed on their way and become a blob of the target as in a push. A blob is not copied
again if its row is in the target, nor if only its bytes are, as a killed copy can leave them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from portside.operations.copy.plan import Plan, compared
from portside.operations.staging import stage
from portside.spec.digests import Digest
from portside.spec.errors import DigestInvalid, RegistryError
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.copying import CopiedTable, Key, Row

AT_ONCE = 4
"""Blobs that are copied at the same time; each has a few MiB in memory."""

TRIES = 2
"""Attempts to read a blob that fails or is damaged."""


class _SourceFailed(Exception):
    """The source's bytes of a blob cannot be read, or are not those of the blob."""


class BlobMover:
    """Copies the blobs of a plan; `sound` has those of the target that were read to their end."""

    def __init__(self, plan: Plan) -> None:
        self._source, self._target, self._identity, self._tally, self._progress = plan
        self.sound: set[Digest] = set()

    async def move(self, table: CopiedTable, *, verify: bool) -> list[Key]:
        """Copy every blob that the target lacks; return the keys of those that the source lacks.

        With `verify`, each blob of the target is read, and copied again if it is damaged.
        """
        extra: list[Key] = []

        async def wanted() -> AsyncIterator[tuple[Row, bool]]:
            async for row, there in compared(self._source.metadata, self._target.metadata, table):
                if row is not None:
                    if verify or row != there:
                        yield row, row == there
                elif there is not None:
                    extra.append(table.key_of(there))

        async def work(wanted: tuple[Row, bool]) -> None:
            row, has_row = wanted
            await self._try(row, has_row=has_row, verify=verify)

        await _in_parallel(wanted(), work)
        return extra

    async def _try(self, row: Row, *, has_row: bool, verify: bool) -> None:
        """Copy a blob; if its bytes fail, it may have been removed and pushed again since."""
        for _ in range(TRIES):
            try:
                await self._move(row, has_row=has_row, verify=verify)
            except (_SourceFailed, DigestInvalid) as error:
                problem = f"blob {row[0]} of the source {error}"
            else:
                return
        if await self._source.metadata.blob_record(row[0]) is not None:
            self._tally.problems.append(problem)

    async def drop(self, keys: list[Key]) -> None:
        """Drop blobs that the source no longer has."""
        for (key,) in keys:
            digest = Digest(key)
            self.sound.discard(digest)
            remove = self._target.blobs.remove(digest)
            await self._target.metadata.drop_blob(self._identity, digest, remove=remove)
            self._tally.dropped += 1
            self._progress()

    async def _move(self, row: Row, *, has_row: bool, verify: bool) -> None:
        digest, size = Digest.parse(row[0]), row[1]
        if not await self._is_there(digest, size, verify=verify):
            self.sound.discard(digest)
            await self._stream(row, digest, size)
            self._tally.blobs += 1
            self._tally.bytes += size
        elif not has_row:
            confirm = self._target.blobs.confirm(digest, size)
            await self._target.metadata.put_blob(self._identity, row, place=confirm)
            self._tally.rows += 1
        else:
            return
        self._progress()

    async def _is_there(self, digest: Digest, size: int, *, verify: bool) -> bool:
        blobs = self._target.blobs
        if await blobs.stat(digest) != size:
            return False
        if not verify or digest in self.sound:
            return True
        if await blobs.verify(digest):
            self.sound.add(digest)
            return True
        return False

    async def _stream(self, row: Row, digest: Digest, size: int) -> None:
        """Stage the bytes, and make them a blob if they are what they should be."""
        async with self._target.blobs.hold(UploadId.fresh(), fresh=True) as staging:
            found, _ = await stage(staging, self._read(digest, size), digest.algorithm)
            if found != digest:
                raise _SourceFailed(f"is damaged: its content has the digest {found}")
            place = await staging.place(digest)
            await self._target.metadata.put_blob(self._identity, row, place=place)

    async def _read(self, digest: Digest, size: int) -> AsyncGenerator[bytes, None]:
        """Read from the source; its failures become _SourceFailed, unlike those of the target."""
        try:
            stored = await self._source.blobs.stat(digest)
            if stored is None:
                raise _SourceFailed("is missing")
            if stored != size:
                raise _SourceFailed(f"has {stored} bytes, and should have {size}")
            if size:
                async with aclosing(self._source.blobs.read(digest, ByteRange(0, size))) as pieces:
                    async for piece in pieces:
                        yield piece
        except RegistryError as error:
            raise _SourceFailed(f"cannot be read: {error}") from error


async def _in_parallel(
    items: AsyncIterator[tuple[Row, bool]], work: Callable[[tuple[Row, bool]], Awaitable[None]]
) -> None:
    """Work on several items at a time; the first failure cancels the others, and is raised."""
    one_at_a_time = asyncio.Lock()

    async def take() -> None:
        while True:
            async with one_at_a_time:
                item = await anext(items, None)
            if item is None:
                return
            await work(item)

    workers = [asyncio.ensure_future(take()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
