"""Rounds: make the target equal to the source.

Rows are written after the rows that they need, and after the bytes that they promise. What the
source no longer has is dropped at the end, in the opposite order. The source may change during a
round: the next round corrects what this one read too early or too late.
"""

from __future__ import annotations

from portside.operations.copy.blobs import BlobMover
from portside.operations.copy.plan import Plan, compared
from portside.stores.copying import (
    BLOBS,
    CopiedTable,
    CopyableMetadata,
    Key,
    ReadableRows,
    Row,
)

BATCH = 500
"""Rows that are written in one transaction."""

HEAVY_BATCH = 16
"""The same for rows that can be large: a manifest may have several MiB."""


class Rounds:
    """The rounds of one copy."""

    def __init__(self, plan: Plan) -> None:
        self._source, self._target, self._identity, self._tally, self._progress = plan
        self.blobs = BlobMover(plan)

    async def run(self, *, verify: bool = False) -> int:
        """Go through the whole registry once; return how many things were copied or dropped.

        With `verify`, every blob of the target is read too.
        """
        before = self._tally.moved
        extra: dict[str, list[Key]] = {}
        for table in self._source.metadata.tables:
            if table.name == BLOBS:
                extra[table.name] = await self.blobs.move(table, verify=verify)
            else:
                extra[table.name] = await self._put(table)
        for table in reversed(self._source.metadata.tables):
            if table.name == BLOBS:
                await self.blobs.drop(extra[table.name])
            else:
                await self._drop(table, extra[table.name])
        self._tally.rounds += 1
        return self._tally.moved - before

    async def _put(self, table: CopiedTable) -> list[Key]:
        """Write what is new or different; return the keys that the source lacks."""
        extra: list[Key] = []
        batch: list[Row] = []
        most = _batch(table)
        async for row, there in compared(self._source.metadata, self._target.metadata, table):
            if row is None:
                extra += [table.key_of(there)] if there is not None else []
            elif row != there:
                batch.append(row)
                if len(batch) == most:
                    await self._write(table, batch)
                    batch = []
        if batch:
            await self._write(table, batch)
        return extra

    async def _write(self, table: CopiedTable, rows: list[Row]) -> None:
        if table.heavy:
            rows = await self._source.metadata.read_whole(table, [*map(table.key_of, rows)])
        refused = await self._target.metadata.put_rows(self._identity, table, rows)
        for key in refused:
            self._tally.problems.append(f"{describe(table, key)} has a text that cannot be stored")
        self._tally.rows += len(rows) - len(refused)
        self._progress()

    async def _drop(self, table: CopiedTable, keys: list[Key]) -> None:
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            await self._target.metadata.drop_rows(self._identity, table, batch)
            self._tally.dropped += len(batch)
            self._progress()

    async def compare(self) -> None:
        """Report every row that is not the same in both registries as a problem."""
        for table in self._source.metadata.tables:
            async for row, there in compared(self._source.metadata, self._target.metadata, table):
                if row != there:
                    some = row if row is not None else there
                    where = "in the source only" if there is None else "in the target only"
                    state = "different on both sides" if row and there else where
                    named = describe(table, table.key_of(some)) if some is not None else table.name
                    self._tally.problems.append(f"{named} is {state}")


def describe(table: CopiedTable, key: Key) -> str:
    """Return what a row is called: its key, which holds no secret."""
    return f"{table.name} {' '.join(map(str, key))}"


async def copy_rows(source: ReadableRows, target: CopyableMetadata, identity: str) -> None:
    """Write all rows of a source that does not change into an empty target without blobs."""
    for table in source.tables:
        after: Key | None = None
        while rows := await source.list_rows(table, after, _batch(table)):
            keys = [*map(table.key_of, rows)]
            after = keys[-1]
            whole = await source.read_whole(table, keys) if table.heavy else rows
            await target.put_rows(identity, table, whole)


def _batch(table: CopiedTable) -> int:
    return HEAVY_BATCH if table.heavy else BATCH
