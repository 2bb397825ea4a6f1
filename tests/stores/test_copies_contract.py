"""What every metadata store keeps to as the source of a copy, and as its target."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import ReadOnly
from portside.spec.names import RepositoryName, Tag
from portside.stores.access import AccessStore
from portside.stores.copying import CopiedTable as Table
from portside.stores.copying import CopyableMetadata, Key, NotItsCopy, Row
from portside.stores.metadata.copies import STATEMENTS, Copies
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.sqlite.statements import rewritten
from stores.conftest import CheckableStore, Clock, Shelf
from stores.test_access_contract import ALICE, KEY, PULL
from stores.test_metadata_contract import add, add_blob, parsed
from stores.test_read_only_contract import fill
from support.content import image, index
from support.copying import ELSEWHERE

A, B = RepositoryName("a"), RepositoryName("b")
SOURCE = "0123456789abcdef0123456789abcdef"
BLOB = f"sha256:{'1' * 64}"
TABLES = Copies.tables
BY_NAME = {table.name: table for table in TABLES}
BLOBS = BY_NAME["blobs"]

ROWS: dict[str, list[Row]] = {
    "scope_maps": [("pull", "for robots", 5)],
    "scope_map_rules": [("pull", "team/*", "pull")],
    "identities": [("robot", "token", 1, 20, 99, "pull")],
    "passwords": [("robot", 1, "first", 21), ("robot", 2, "second", 22)],
    "signing_keys": [("first", "its PEM", 1)],
    "repositories": [
        ("a", 7, 2, 8, 1, 1, None, 2),
        ("a-b", 8, 0, 9, 0, 0, 10, 0),
        ("a/b", 9, 0, 9, 0, 0, None, 3),
    ],
    "blobs": [(BLOB, 4, 10)],
    "repository_blobs": [("a", BLOB, 11, None, None, 4), ("a/b", BLOB, 12, 13, 14, 4)],
    "manifests": [
        (
            *("a", "sha256:m", "type/a", 2, None, "type/b", 13),
            *(4, 14, "robot", "type/c", "arm64", "linux", 300, None, "", 20),
            *(b"{}", b"{}"),
        ),
        (
            *("a/b", "sha256:m", "type/c", 3, "sha256:s", None, 16),
            *(0, 17, "", None, None, None, None, 18, "robot", None),
            *(b"{ }", b"[]"),
        ),
    ],
    "manifest_references": [
        ("a", "sha256:m", "blob", BLOB, 1, 0),
        ("a", "sha256:m", "manifest", "sha256:0", 0, 1),
        ("a/b", "sha256:m", "blob", BLOB, 0, 0),
    ],
    "events": [
        (
            *(70, 14, "manifest.pushed", "a", "v1", "sha256:m", "type/a", 2),
            *("robot", "request", "192.0.2.1", "client/1", "localhost:5000", "PUT", ""),
        ),
        (71, 15, "user.added", "", "robot", "", "", None, *[""] * 6, '{"expires":1}'),
    ],
    "tag_history": [("a", "v1", 14, "set", "sha256:m", "robot")],
    "manifest_pulls": [("a", "sha256:m", 19)],
    "tags": [("a", "v1", "sha256:m", 14, 15, 8), ("a/b", "v1", "sha256:m", 17, 18, 0)],
}


async def test_pages_use_indexes(tmp_path: Path, clock: Clock) -> None:
    """No page reads more of a table than its rows, and none sorts, in SQLite."""
    await SqliteDatabase(tmp_path, clock=clock).migrate()
    with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
        for part in (part for statements in STATEMENTS.values() for part in statements.parts):
            count = len(set(re.findall(r"\$\d+", part.sql)))
            rows = connection.execute(f"EXPLAIN QUERY PLAN {rewritten(part.sql)}", [""] * count)
            plan = " ".join(row[3] for row in rows)
            assert "SCAN" not in plan
            assert "TEMP B-TREE" not in plan


async def all_rows(metadata: CopyableMetadata, table: Table, limit: int = 1000) -> list[Row]:
    """Read a table page by page."""
    rows: list[Row] = []
    after: Key | None = None
    while page := await metadata.list_rows(table, after, limit):
        assert len(page) <= limit
        rows += page
        after = table.key_of(page[-1])
    return rows


async def put(metadata: CopyableMetadata, table: Table, rows: list[Row]) -> None:
    """Write rows of any table into a copy."""
    if table is not BLOBS:
        assert await metadata.put_rows(SOURCE, table, rows) == []
        return
    for row in rows:
        await metadata.put_blob(SOURCE, row, place=lambda: None)


async def write_all(metadata: CopyableMetadata) -> None:
    """Make a copy that holds a row of everything."""
    await metadata.begin_copy(SOURCE)
    await metadata.put_rows(SOURCE, BY_NAME["access_state"], [(1, 1)])
    for table in TABLES:
        await put(metadata, table, ROWS.get(table.name, []))


def light(table: Table, rows: list[Row]) -> list[Row]:
    """Leave out what is heavy."""
    return [row[: len(table.key) + len(table.values)] for row in rows]


async def test_pages(shelf: Shelf) -> None:
    """Rows come in the order of keys and each once, however long a page is."""
    metadata = shelf.metadata()
    await fill(metadata, shelf.access())
    contents = [image(number) for number in range(5)]
    for repository in (B, RepositoryName("a-b"), RepositoryName("a/b")):
        for content in contents:
            await add(metadata, repository, content)
        listing = parsed(index(*contents))
        tags = [Tag(f"t{number}") for number in range(5)]
        await metadata.put_manifest(
            repository, listing, tags=tags, condition=None, check_children=False
        )
    for table in TABLES:
        whole = await all_rows(metadata, table)
        assert whole, table.name
        keys = [table.key_of(row) for row in whole]
        assert keys == sorted(set(keys))
        for limit in (1, 3):
            assert await all_rows(metadata, table, limit) == whole


async def test_what_is_written_is_read(shelf: Shelf) -> None:
    """A copy holds what was written, written twice too; changed rows change."""
    metadata = shelf.metadata()
    for _ in range(2):
        await write_all(metadata)
        for table in TABLES[1:]:
            assert await all_rows(metadata, table) == light(table, ROWS[table.name])
    assert await all_rows(metadata, TABLES[0]) == [(1, 1)]
    manifests = BY_NAME["manifests"]
    keys = [("a", "sha256:m"), ("a", "sha256:none"), ("a/b", "sha256:m")]
    assert await metadata.read_whole(manifests, keys) == ROWS["manifests"]
    changed = ("a", "v1", "sha256:m", 14, 99, 8)
    await put(metadata, BY_NAME["tags"], [changed])
    assert await all_rows(metadata, BY_NAME["tags"]) == [changed, ROWS["tags"][1]]
    for table in map(BY_NAME.__getitem__, ("tags", "manifest_references", "manifests")):
        await metadata.drop_rows(SOURCE, table, [table.key_of(ROWS[table.name][-1])])
        assert [row[0] for row in await all_rows(metadata, table)] == ["a"] * (
            len(ROWS[table.name]) - 1
        )


async def test_events_go_on(shelf: Shelf) -> None:
    """The next event of a copy that became a registry comes after those that were copied."""
    metadata = shelf.metadata()
    await write_all(metadata)
    await metadata.end_copy(SOURCE)
    await add_blob(metadata, B, Digest.of(b""))
    assert [event.id for event in await metadata.read_events(70, limit=9)] == [71, 72]


async def test_rows_are_dropped(shelf: Shelf) -> None:
    """Every row can be dropped, the last ones first; bytes go only behind the last link."""
    metadata = shelf.metadata()
    removed: list[str] = []
    await write_all(metadata)
    blob = Digest(BLOB)
    await metadata.drop_blob(SOURCE, blob, remove=lambda: removed.append("too early"))
    for table in reversed(TABLES[1:]):
        if table is BLOBS:
            await metadata.drop_blob(SOURCE, blob, remove=lambda: removed.append("bytes"))
        else:
            keys = [table.key_of(row) for row in ROWS[table.name]]
            await metadata.drop_rows(SOURCE, table, keys)
        assert await all_rows(metadata, table) == []
    assert removed == ["bytes"]


async def test_rows_that_need_others(shelf: Shelf) -> None:
    """A row is left out while what it needs is not there, and is no error."""
    metadata = shelf.metadata()
    dependent = ("scope_map_rules", "passwords", "repository_blobs", "manifests", "tags")
    await metadata.begin_copy(SOURCE)
    for name in (*dependent, "manifest_references"):
        await put(metadata, BY_NAME[name], ROWS[name])
        assert await all_rows(metadata, BY_NAME[name]) == []
    await put(metadata, BY_NAME["identities"], ROWS["identities"])
    assert (await all_rows(metadata, BY_NAME["identities"]))[0][-1] is None


async def test_bytes_come_before_their_row(shelf: Shelf) -> None:
    """A blob whose bytes cannot be placed has no row."""
    metadata = shelf.metadata()

    def fail() -> None:
        raise RuntimeError

    await metadata.begin_copy(SOURCE)
    with pytest.raises(RuntimeError):
        await metadata.put_blob(SOURCE, ROWS["blobs"][0], place=fail)
    assert await all_rows(metadata, BLOBS) == []
    # The switch is set as before.
    with pytest.raises(ReadOnly):
        await add_blob(metadata, A, Digest.of(b""))


def writes(metadata: CheckableStore, source: str) -> list[Callable[[], Any]]:
    """Return everything that writes into a copy."""
    tags = BY_NAME["tags"]
    digest = Digest(BLOB)
    return [
        lambda: metadata.put_rows(source, tags, ROWS["tags"]),
        lambda: metadata.drop_rows(source, tags, [("a", "v1")]),
        lambda: metadata.put_blob(source, ROWS["blobs"][0], place=pytest.fail),
        lambda: metadata.drop_blob(source, digest, remove=pytest.fail),
        lambda: metadata.end_copy(source),
    ]


async def test_only_a_copy_is_written_to(shelf: Shelf) -> None:
    """Nothing is written into what is no copy, the copy of another, or a copy no longer."""
    metadata = shelf.metadata()

    async def refused(source: str) -> None:
        for write in writes(metadata, source):
            with pytest.raises(NotItsCopy):
                await write()

    await refused(SOURCE)
    await write_all(metadata)
    await refused("another")
    with pytest.raises(NotItsCopy):
        await metadata.begin_copy("another")
    await metadata.end_copy(SOURCE)
    await refused(SOURCE)
    with pytest.raises(NotItsCopy):
        await metadata.begin_copy(SOURCE)
    assert not (await metadata.registry_state()).read_only


HELD: dict[str, Callable[[CheckableStore, AccessStore], Awaitable[object]]] = {
    "a blob": lambda metadata, _: add_blob(metadata, A, Digest.of(b"")),
    "a user": lambda _, access: access.add_identity(ALICE),
    "a scope map": lambda _, access: access.add_scope_map(PULL),
}


@pytest.mark.parametrize("held", HELD)
async def test_a_registry_is_no_target(shelf: Shelf, held: str) -> None:
    """Whatever a target holds keeps it from becoming a copy, but for the key of its first start."""
    metadata, access = shelf.metadata(), shelf.access()
    await access.add_key(KEY)
    await HELD[held](metadata, access)
    before = [await all_rows(metadata, table) for table in TABLES]
    with pytest.raises(NotItsCopy):
        await metadata.begin_copy(SOURCE)
    assert not (await metadata.registry_state()).read_only
    assert [await all_rows(metadata, table) for table in TABLES] == before


async def test_a_key_is_no_registry(shelf: Shelf) -> None:
    """A registry that was started and never used can become a copy, and then stays one."""
    metadata = shelf.metadata()
    await shelf.access().add_key(KEY)
    for _ in range(2):
        await metadata.begin_copy(SOURCE)
        state = await metadata.registry_state()
        assert (state.copy_of, state.read_only) == (SOURCE, True)


async def test_a_copy_stays_as_it_is(shelf: Shelf) -> None:
    """Nobody else changes a copy, until somebody takes it for a registry of its own."""
    metadata = shelf.metadata()
    await write_all(metadata)
    state = await shelf.metadata().registry_state()
    assert (state.copy_of, state.read_only) == (SOURCE, True)
    for writer in (metadata, shelf.metadata()):
        with pytest.raises(ReadOnly):
            await add_blob(writer, B, Digest.of(b""))
    await metadata.set_read_only(read_only=False)
    await add_blob(shelf.metadata(), B, Digest.of(b""))
    assert (await metadata.registry_state()).copy_of is None


async def test_access_is_heard_of(shelf: Shelf) -> None:
    """A process that serves a copy learns of users that come to it, and that it is closed."""
    metadata, access = shelf.metadata(), shelf.access()
    before = await access.access_state()
    await write_all(metadata)
    after = await access.access_state()
    assert not before.closed
    assert after.closed
    assert after.version > before.version
    found = await access.get_identity("robot")
    assert found is not None
    assert found.scope_map == "pull"


async def test_following(shelf: Shelf) -> None:
    """A registry that is read-only can become a copy of what took its place; others cannot."""
    metadata = shelf.metadata()
    await metadata.follow(SOURCE, ELSEWHERE)
    before = await metadata.registry_state()
    assert (before.copy_of, before.successor) == (None, None)
    await metadata.set_read_only(read_only=True)
    await metadata.follow(SOURCE, ELSEWHERE)
    assert (await metadata.registry_state()).successor == ELSEWHERE
    await write_all(metadata)
