"""Blobs: copy bytes from one store to the other, and only then their rows.

Bytes are hashed on their way and become a blob of the target as in a push. A blob is not copied
again if its row is in the target, nor if only its bytes are, as a killed copy can leave them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from portside.operations.copy.plan import Plan, compared
from portside.operations.copy.streams import attempt, in_parallel, staged_copy
from portside.spec.digests import Digest
from portside.stores.copying import CopiedTable, Key, Row


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

        await in_parallel(wanted(), work)
        return extra

    async def _try(self, row: Row, *, has_row: bool, verify: bool) -> None:
        """Copy a blob; note what is wrong with it, unless it was removed since."""
        problem = await attempt(lambda: self._move(row, has_row=has_row, verify=verify))
        if problem is not None and await self._source.metadata.blob_record(row[0]) is not None:
            self._tally.problems.append(f"blob {row[0]} of the source {problem}")

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
        source, target = self._source.blobs, self._target.blobs
        async with staged_copy(source, target, digest, size) as place:
            await self._target.metadata.put_blob(self._identity, row, place=place)
