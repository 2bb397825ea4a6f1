"""A copy of a registry: equal, verified, and made of what was there."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from portside.operations.copy.plan import MovableMetadata, RegistryStores
from portside.spec.actions import ALL
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import ReadOnly, Unavailable
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import RepositoryPattern
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.access import (
    IdentityKind,
    ScopeMap,
    ScopeRule,
    SigningKey,
    StoredIdentity,
    StoredPassword,
)
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.copying import CopiedTable, Key, NotItsCopy, Row
from portside.stores.interfaces import MetadataStore
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Access, Metadata
from support.content import OCI_INDEX, OCI_LAYER, Content, artifact, descriptor, image, index
from support.copying import copy, finish, now, opened_side, problems, push, unequal
from support.postgres import Server

APP = RepositoryName("library/app")
LAYERS = image("layers", layers=3, layer_size=3000)
LISTING = index(LAYERS, image("other"))
CACHE = Content(
    index(manifests=[descriptor(b"a cached layer", OCI_LAYER)]).manifest,
    OCI_INDEX,
    [b"a cached layer"],
)


async def fill(side: RegistryStores, root: Path) -> None:
    """Keep one of everything."""
    await push(side, "library/app", LISTING, "v1", "v2")
    await push(side, "library/app", artifact(1, subject=LISTING.descriptor))
    await push(side, "library/app-b", LAYERS, "v1")
    await push(side, "library/app-b", CACHE, "cache")
    with closing(SqliteDatabase(root, clock=now)) as database:
        access = Access(database)
        rule = ScopeRule(RepositoryPattern("library/*"), ALL)
        assert await access.add_scope_map(ScopeMap("all", 1, "everything", (rule,)))
        password = StoredPassword(1, "hash", 2)
        token = StoredIdentity(
            "robot", IdentityKind.TOKEN, 3, scope_map="all", passwords=(password,)
        )
        assert await access.add_identity(token)
        await access.add_key(SigningKey("key", "its PEM", 4))


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[RegistryStores]:
    """Open a registry on this machine that has one of everything."""
    async with opened_side(tmp_path / "source") as side:
        await fill(side, tmp_path / "source")
        yield side


@pytest.fixture
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RegistryStores]:
    """Open an empty registry; its database is SQLite's unless a test says otherwise."""
    url = ""
    if getattr(request, "param", "sqlite") == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        url = server.make_database()
    async with opened_side(tmp_path / "target", url) as side:
        yield side


EITHER_DATABASE = pytest.mark.parametrize("target", ["sqlite", "postgresql"], indirect=True)


def blob_file(root: Path, content: bytes) -> Path:
    """Return the file of a blob."""
    encoded = Digest.of(content).encoded
    return root / "blobs" / "sha256" / encoded[:2] / encoded


WRITTEN = {
    "SELECT name, created FROM repositories": 2,
    "SELECT digest, size, created FROM blobs": 10,
    "SELECT r.name, l.digest, l.linked FROM repository_blobs l JOIN repositories r"
    " ON r.id = l.repository": 14,
    "SELECT r.name, m.digest, m.media_type, m.payload, m.size, m.subject, m.artifact_type,"
    " m.annotations, m.created FROM manifests m JOIN repositories r ON r.id = m.repository": 6,
    "SELECT r.name, m.digest, f.kind, f.digest, f.required FROM manifest_references f"
    " JOIN manifests m ON m.id = f.manifest JOIN repositories r ON r.id = f.repository": 17,
    "SELECT r.name, t.name, m.digest, t.created, t.updated FROM tags t"
    " JOIN manifests m ON m.id = t.manifest JOIN repositories r ON r.id = t.repository": 4,
    "SELECT name, description, created FROM scope_maps": 1,
    "SELECT scope_map, pattern, actions FROM scope_map_rules": 1,
    "SELECT name, kind, enabled, created, expires, scope_map FROM identities": 1,
    "SELECT identity, number, hash, created FROM passwords": 1,
    "SELECT id, private, created FROM signing_keys": 1,
    "SELECT closed FROM access_state": 1,
}
"""All that a copy of `source` must hold, and how many rows of it: written down here, as what is
derived from the schema would not miss what the schema leaves out."""


def written(root: Path, sql: str) -> list[tuple[object, ...]]:
    """Read rows of the database in a directory, without the code under test."""
    with closing(sqlite3.connect(root / "portside.db")) as connection:
        return sorted(connection.execute(sql), key=repr)


class Tampered(DiskBlobs):
    """A store that changes the database beside it once a move has copied everything."""

    def stored_blobs(self) -> AsyncIterator[tuple[Digest, int]]:
        """Take a tag away; a move lists blobs just before it compares all rows."""
        with closing(sqlite3.connect(self.location.parent / "portside.db")) as connection:
            connection.execute("UPDATE registry SET read_only = FALSE")
            connection.execute("DELETE FROM tags WHERE name = 'v2'")
            connection.execute("UPDATE registry SET read_only = TRUE")
            connection.commit()
        return super().stored_blobs()


class Collected(DiskBlobs):
    """A store whose blobs somebody removes as soon as they were looked at."""

    async def stat(self, digest: Digest) -> int | None:
        """Look, and remove."""
        size = await super().stat(digest)
        self.remove(digest)()
        return size


class Counted(DiskBlobs):
    """A store that counts how often each of its blobs is read to its end."""

    reads: Counter[Digest]

    async def verify(self, digest: Digest) -> bool | None:
        """Count, and read."""
        self.reads[digest] += 1
        return await super().verify(digest)


class Unsteady(DiskBlobs):
    """A store that has lost each of its blobs when it is looked at for the first time.

    Blobs of `unlinked` are removed by then, as the last repository lets go of them.
    """

    metadata: MovableMetadata
    unlinked: set[Digest]
    seen: set[Digest]

    async def stat(self, digest: Digest) -> int | None:
        """Look from the second time on."""
        if digest in self.seen:
            return await super().stat(digest)
        self.seen.add(digest)
        if digest in self.unlinked:
            await self.metadata.unlink_blob(APP, digest, remove=self.remove(digest))
        return None


async def purge(metadata: MetadataStore) -> None:
    """Empty the trash."""
    for found in await metadata.list_expired_manifests(now(), limit=100):
        assert await metadata.purge_manifest(found, now())


class TestMove:
    """From one machine to a server, and back."""

    @EITHER_DATABASE
    async def test_there_and_back(self, source: RegistryStores, target: RegistryStores) -> None:
        """All is there, the two change their parts, and the way back moves only what is new."""
        ending, tally = await finish(source, target)
        assert (ending.is_moved, tally.problems) == (True, [])
        assert tally.blobs == len(
            {*LAYERS.blobs, *image("other").blobs, *artifact(1).blobs, *CACHE.blobs}
        )
        assert await unequal(source, target) == []
        assert await problems(target) == []
        with pytest.raises(ReadOnly):
            await push(source, "library/app", image("late"))
        assert (await source.metadata.get_manifest(APP, Tag("v1"))).payload
        await push(target, "library/app", image("new"), "v2", "v3")
        with pytest.raises(NotItsCopy):
            await finish(source, target)
        ending, tally = await finish(target, source)
        assert (ending.is_moved, tally.problems) == (True, [])
        assert tally.blobs == len(image("new").blobs)
        assert await unequal(source, target) == []
        await push(source, "library/app", image("late"))
        with pytest.raises(ReadOnly):
            await push(target, "library/app", image("late"))

    async def test_everything_is_copied(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Every row that is written down is in the copy: signing keys and passwords as well."""
        await finish(source, target)
        for sql, number in WRITTEN.items():
            there = written(tmp_path / "target", sql)
            assert there == written(tmp_path / "source", sql)
            assert len(there) == number, sql

    async def test_many_pages(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """No row is lost between two pages."""
        with closing(sqlite3.connect(tmp_path / "source" / "portside.db")) as connection:
            connection.execute(
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
                " WHERE n < 3100) INSERT INTO tags (repository, name, manifest, created, updated)"
                " SELECT t.repository, printf('n%05d', n), t.manifest, 1, 1 FROM numbers,"
                " (SELECT repository, manifest FROM tags WHERE name = 'v2') t"
            )
            connection.commit()
        await copy(source, target)
        tags = [written(tmp_path / side, "SELECT name FROM tags") for side in ("source", "target")]
        assert tags[0] == tags[1]
        assert len(tags[0]) == 3104

    async def test_a_row_that_is_not_the_same(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """A move compares all rows at its end, and does not replace the source if one differs."""
        await copy(source, target)
        tampered = Tampered(tmp_path / "target", hold_timeout=0)
        with closing(tampered):
            ending, tally = await finish(source, target._replace(blobs=tampered))
        assert ending == (False, False)
        assert sorted(tally.problems) == [
            "tags library/app v2 is in the source only",
            "the target: repository library/app records 2 tags, but has 1",
        ]

    @EITHER_DATABASE
    async def test_killed_behind_the_switch(
        self, source: RegistryStores, target: RegistryStores
    ) -> None:
        """A source that a move left read-only is moved by the next one."""
        await copy(source, target)
        await source.metadata.set_read_only(read_only=True)
        ending, _ = await finish(source, target)
        assert ending == (True, True)
        assert await unequal(source, target) == []
        await push(target, "library/app", image("new"), "v2")

    @EITHER_DATABASE
    async def test_nothing_new(self, source: RegistryStores, target: RegistryStores) -> None:
        """A copy that is made again moves nothing, and neither does one that only verifies."""
        assert (await copy(source, target)).bytes > 9000
        for verify in (False, True):
            tally = await copy(source, target, verify=verify)
            assert (tally.moved, tally.bytes, tally.problems) == (0, 0, [])
        assert await problems(target) == []

    @EITHER_DATABASE
    async def test_changes(self, source: RegistryStores, target: RegistryStores) -> None:
        """What changed since the last copy is changed by the next one, and what went goes."""
        await copy(source, target)
        metadata, repository = source.metadata, RepositoryName("library/app-b")
        await metadata.delete_manifest(APP, Digest(artifact(1, subject=LISTING.descriptor).digest))
        await metadata.delete_manifest(repository, Digest(LAYERS.digest))
        await purge(metadata)
        gone = Digest.of(artifact(1).blobs[1])
        await metadata.unlink_blob(APP, gone, remove=source.blobs.remove(gone))
        await metadata.delete_tag(APP, Tag("v2"))
        await push(source, "library/app", image("new"), "v1")
        tally = await copy(source, target)
        assert tally.problems == []
        assert tally.dropped > 3
        assert await unequal(source, target) == []
        assert await target.blobs.stat(gone) is None
        assert await problems(target) == []

    @EITHER_DATABASE
    async def test_uploads_stay_behind(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Sessions are not copied; what a copy that was killed left in the target goes."""
        await copy(source, target)
        session = UploadSession(UploadId.fresh(), APP, Algorithm.SHA256, now(), now())
        await source.metadata.open_upload(session)
        async with target.blobs.hold(session.id) as staging:
            await staging.resume(0, Algorithm.SHA256)
            await staging.write(b"half")
            await staging.flush()
        stray = blob_file(tmp_path / "target", b"stray")
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"stray")
        assert len(await problems(target)) == 2
        ending, tally = await finish(source, target)
        assert (ending.is_moved, tally.problems, tally.blobs) == (True, [], 0)
        assert await problems(target) == []

    async def test_reads_once(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """A move reads each blob that was copied before once, and none while it is read-only."""
        await copy(source, target)
        blobs = Counted(tmp_path / "target", hold_timeout=0.5)
        blobs.reads = Counter()
        with closing(blobs):
            ending, _ = await finish(source, target._replace(blobs=blobs))
        assert ending.is_moved
        assert set(blobs.reads.values()) == {1}

    async def test_large_rows(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Rows that may have several MiB are written few at a time."""
        for number in range(20):
            manifest = artifact("many", annotations={"number": str(number)})
            await push(source, "library/app", manifest)
        written_at_once: Counter[str] = Counter()

        class Watched(Metadata):
            async def put_rows(
                self, source: str, table: CopiedTable, rows: Sequence[Row]
            ) -> list[Key]:
                most = max(written_at_once[table.name], len(rows))
                written_at_once[table.name] = most
                return await super().put_rows(source, table, rows)

        with closing(SqliteDatabase(tmp_path / "target", clock=now)) as database:
            await copy(source, target._replace(metadata=Watched(database)))
        assert written_at_once["manifests"] == 16
        assert await unequal(source, target) == []

    async def test_broken_off_anywhere(
        self, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Wherever a move breaks off, it leaves nothing wrong, and goes on when it is run again."""
        for steps in range(1, 60, 4):
            left = count(steps, -1)

            def progress(left: count[int] = left) -> None:
                if next(left) == 0:
                    raise Unavailable("the power went")

            try:
                ending, _ = await finish(source, target, progress)
            except Unavailable:
                assert not (await source.metadata.registry_state()).read_only
            else:
                assert ending.is_moved
                assert steps > 1
                break
        assert await unequal(source, target) == []
        assert await problems(target) == []


class TestDamage:
    """What is not what it should be is told, and ends in no registry."""

    @pytest.mark.parametrize("damage", ["missing", "short", "other"])
    async def test_of_the_source(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores, damage: str
    ) -> None:
        """A damaged blob is named and not copied, all others are; a move waits for its repair."""
        content = LAYERS.blobs[1]
        file = blob_file(tmp_path / "source", content)
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(content[:-1] if damage == "short" else content[:-1] + b"?")
        tally = await copy(source, target)
        (problem,) = tally.problems
        assert str(Digest.of(content)) in problem
        assert await target.blobs.stat(Digest.of(content)) is None
        assert await target.blobs.stat(Digest.of(LAYERS.blobs[2])) == len(LAYERS.blobs[2])
        ending, tally = await finish(source, target)
        assert ending == (False, False)
        assert tally.problems
        await push(source, "library/app", LAYERS)
        ending, tally = await finish(source, target)
        assert (ending.is_moved, tally.problems) == (True, [])

    async def test_for_a_moment(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Bytes that are there at the second look are copied; a blob that went is no problem."""
        await push(source, "library/app", image("going"))
        await source.metadata.delete_manifest(APP, Digest(image("going").digest))
        await purge(source.metadata)
        blobs = Unsteady(tmp_path / "source", hold_timeout=0.5)
        blobs.metadata, blobs.seen = source.metadata, set()
        blobs.unlinked = set(map(Digest.of, image("going").blobs))
        with closing(blobs):
            tally = await copy(source._replace(blobs=blobs), target)
        assert tally.problems == []
        assert len(blobs.unlinked & blobs.seen) == 3
        await copy(source, target)
        assert await unequal(source, target) == []
        assert await problems(target) == []

    async def test_of_the_target(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """A move reads what was copied before, and copies again what is damaged there."""
        content = LAYERS.blobs[1]
        await copy(source, target)
        blob_file(tmp_path / "target", content).write_bytes(b"?" * len(content))
        blob_file(tmp_path / "target", LAYERS.blobs[2]).unlink()
        assert (await copy(source, target)).blobs == 0
        ending, tally = await finish(source, target)
        assert (ending.is_moved, tally.problems, tally.blobs) == (True, [], 2)
        assert await problems(target) == []

    @EITHER_DATABASE
    async def test_bytes_that_go_meanwhile(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Bytes that are in the target are taken as they are, unless somebody collects them."""
        left = image("left", layers=1)
        await copy(source, target)
        await push(source, "library/app", left)
        for blob in left.blobs:
            file = blob_file(tmp_path / "target", blob)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(blob)
        blobs = Collected(tmp_path / "target", hold_timeout=0.5)
        try:
            with pytest.raises(Unavailable, match="meanwhile"):
                await copy(source, RegistryStores(target.metadata, blobs))
        finally:
            blobs.close()
        assert not any("missing" in problem for problem in await problems(target))
        await copy(source, target)
        assert await problems(target) == []

    @pytest.mark.parametrize("was_read_only", [False, True])
    async def test_found_at_the_end(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores, was_read_only: bool
    ) -> None:
        """If the verification fails, the source goes on as it was before, and stays itself."""
        with sqlite3.connect(tmp_path / "source" / "portside.db") as connection:
            connection.execute("UPDATE manifests SET payload = CAST(payload || ' ' AS BLOB)")
        connection.close()
        await source.metadata.set_read_only(read_only=was_read_only)
        ending, tally = await finish(source, target)
        assert ending == (False, was_read_only)
        assert any("is damaged" in problem for problem in tally.problems)
        assert (await source.metadata.registry_state()).read_only == was_read_only
        assert (await target.metadata.registry_state()).read_only

    @pytest.mark.parametrize("target", ["postgresql"], indirect=True)
    async def test_a_text_that_cannot_be_kept(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """PostgreSQL holds no NUL: what has one is named, and all else is copied."""
        with sqlite3.connect(tmp_path / "source" / "portside.db") as connection:
            connection.execute("UPDATE scope_maps SET description = 'a' || char(0) || 'b'")
        connection.close()
        tally = await copy(source, target)
        assert tally.problems == ["scope_maps all has a text that cannot be stored"]
        assert (await target.metadata.get_manifest(APP, Tag("v1"))).digest == LISTING.digest
        assert not (await finish(source, target))[0].is_moved


class TestRefusals:
    """A copy overwrites nothing that is not its own."""

    async def test_itself(self, source: RegistryStores) -> None:
        """A registry is not copied onto itself."""
        with pytest.raises(NotItsCopy):
            await copy(source, source)
        assert not (await source.metadata.registry_state()).read_only

    @EITHER_DATABASE
    async def test_another_registry(self, source: RegistryStores, target: RegistryStores) -> None:
        """A target that holds a registry stays as it is."""
        await push(target, "library/app", image("its own"), "v1")
        with pytest.raises(NotItsCopy):
            await copy(source, target)
        assert (await target.metadata.get_manifest(APP, Tag("v1"))).payload
        await push(target, "library/app", image("its own"), "v2")

    async def test_storage_in_use(self, source: RegistryStores, target: RegistryStores) -> None:
        """Storage that holds blobs, of whichever registry, is not copied into."""
        with pytest.raises(NotItsCopy):
            await copy(source, RegistryStores(target.metadata, source.blobs))
        assert (await target.metadata.registry_state()).copy_of is None

    @EITHER_DATABASE
    async def test_another_copy_took_its_place(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """Of two copies, one takes the registry's place, and the other one stays a copy."""
        await copy(source, target)
        async with opened_side(tmp_path / "third") as third:
            await copy(source, third)
            assert (await finish(source, target))[0].is_moved
            for again in (copy, finish):
                with pytest.raises(NotItsCopy):
                    await again(source, third)
            assert (await third.metadata.registry_state()).read_only
        assert (await finish(target, source))[0].is_moved

    @EITHER_DATABASE
    async def test_one_at_a_time(self, source: RegistryStores, target: RegistryStores) -> None:
        """Two copies do not undo each other's work; one that has ended blocks no other."""
        async with target.metadata.claim():
            for begin in (copy, finish):
                with pytest.raises(Unavailable, match="is running on this registry"):
                    await begin(source, target)
        async with source.metadata.claim():
            with pytest.raises(Unavailable, match="is running on this registry"):
                await finish(source, target)
            await copy(source, target)
        assert (await finish(source, target))[0].is_moved

    async def test_let_change_meanwhile(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """A registry whose switch was lifted in the middle of a move is not left behind."""
        numbers = count()

        def progress() -> None:
            with (
                closing(sqlite3.connect(tmp_path / "source" / "portside.db")) as database,
                database,
            ):
                if database.execute("SELECT read_only FROM registry").fetchone()[0]:
                    database.execute("UPDATE registry SET read_only = 0")
                else:
                    # The next pass, and so the last one too, has something to move.
                    name = f"robots-{next(numbers)}"
                    database.execute("INSERT INTO scope_maps VALUES (?, '', 1)", (name,))

        ending, tally = await finish(source, target, progress)
        assert ending == (False, False)
        assert any("read-only off" in problem for problem in tally.problems)
        assert (await target.metadata.registry_state()).read_only

    async def test_a_copy_of_a_copy(
        self, tmp_path: Path, source: RegistryStores, target: RegistryStores
    ) -> None:
        """A copy in progress is neither the source nor the target of another copy."""
        await copy(source, target)
        async with opened_side(tmp_path / "third") as third:
            with pytest.raises(NotItsCopy):
                await copy(target, third)
            await push(third, "library/app", image("third"))
            with pytest.raises(NotItsCopy):
                await copy(third, target)
