"""Backups: where they are, how the metadata of a registry is saved, and read again.

Whatever the database is, what is saved is a SQLite file, so that a backup can be restored into
another one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from portside.bootstrap.clock import now
from portside.bootstrap.engines import Engine
from portside.bootstrap.marks import mark
from portside.bootstrap.stores import Stores, open_storage
from portside.config import Settings, SettingsInvalid
from portside.operations.backup.making import SavedMetadata
from portside.operations.copy.rounds import copy_rows
from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.spec.ranges import ByteRange
from portside.stores.backups import BackupBlobs, Snapshot
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import StorageUrlInvalid
from portside.stores.copying import NotItsCopy
from portside.stores.metadata.schema.versions import NEWEST, SchemaTooOld, require_version
from portside.stores.metadata.sqlite.database import FILE, SqliteDatabase
from portside.stores.metadata.store import Metadata

SAVING = ".saving-"
"""How the temporary directory in a backup begins, in which metadata is saved."""


@contextmanager
def opened_backup(place: str, settings: Settings) -> Iterator[DiskBlobs | ObjectBlobs]:
    """Open the backup in a directory or at a URL, for the length of a block; nothing is read yet.

    Raises SettingsInvalid.
    """
    is_url = "://" in place
    try:
        blobs = open_storage(settings, place if is_url else "", Path(place))
    except StorageUrlInvalid as error:
        raise SettingsInvalid(f"backup: {error}") from error
    try:
        folder = backup_directory(blobs)
        if folder is not None and (folder / FILE).exists():
            raise SettingsInvalid(f"backup: {place} is the data directory of a registry")
        yield blobs
    finally:
        blobs.close()


def backup_directory(blobs: BackupBlobs) -> Path | None:
    """Return the directory of a backup; None if it is in an object store."""
    return blobs.place if isinstance(blobs.place, Path) else None


def refuse_same_storage(source: object, target: object) -> None:
    """Refuse to copy blobs onto themselves; raises SettingsInvalid.

    `source` and `target` are the locations of blob stores.
    """
    if os.path.realpath(str(source)) == os.path.realpath(str(target)):
        raise SettingsInvalid(f"source and target keep their blobs in {source}")


async def require_saveable(engine: Engine) -> bool:
    """Return whether the schema is the newest one; raises SchemaTooNew.

    An older one can be saved only from SQLite, as a whole: SchemaTooOld is raised otherwise.
    """
    try:
        await engine.database.require_newest()
    except SchemaTooOld:
        if isinstance(engine.database, SqliteDatabase):
            return False
        raise
    return True


@asynccontextmanager
async def saved_metadata(engine: Engine, folder: Path | None) -> AsyncIterator[SavedMetadata]:
    """Save the metadata of a registry in a file, which is there for the length of a block.

    It is in `folder`, the directory of a backup of that registry, or where the system keeps
    temporary files. What a backup that was killed has left in `folder` is removed.
    """
    if folder is not None:
        _drop_saving(folder)
    with TemporaryDirectory(prefix=SAVING, dir=folder) as name:
        path = Path(name)
        if isinstance(engine.database, SqliteDatabase):
            await engine.database.save_copy(path)
        else:
            await _save_rows(engine.metadata, path)
        file = SqliteDatabase(path, clock=now)
        try:
            metadata = Metadata(file)
            identity = await metadata.registry_identity()
            schema = await file.schema_version()
            close = partial(_close, file)
            yield SavedMetadata(file.file, identity, schema, metadata, close)
        finally:
            file.close()


def _drop_saving(folder: Path) -> None:
    for path in folder.glob(f"{SAVING}*"):
        shutil.rmtree(path, ignore_errors=True)


def _close(file: SqliteDatabase) -> None:
    """Close a file, which becomes whole with that; raises Unavailable if it does not."""
    file.close()
    if file.has_log():
        raise Unavailable(f"{file.file} cannot be completed: the disk may be full")


async def _save_rows(source: Metadata, path: Path) -> None:
    identity = await source.registry_identity()
    async with _opened_file(path) as target, source.rows_apart() as rows:
        await target.begin_copy(identity, is_same=True)
        await copy_rows(rows, target, identity)
        await target.end_copy(identity)


@asynccontextmanager
async def _opened_file(path: Path) -> AsyncIterator[Metadata]:
    file = SqliteDatabase(path, clock=now)
    try:
        await file.migrate()
        yield Metadata(file)
    finally:
        file.close()


@asynccontextmanager
async def opened_snapshot(
    blobs: BackupBlobs, name: str, snapshot: Snapshot
) -> AsyncIterator[Metadata]:
    """Open the metadata of a snapshot in a copy with the newest schema, for the length of a block.

    Raises Unavailable if it is damaged, and SchemaTooNew.
    """
    if snapshot.schema > NEWEST:
        require_version(f"the snapshot {name}", snapshot.schema, remedy="portside restore")
    with TemporaryDirectory(prefix=SAVING) as folder:
        path = Path(folder)
        await _fetch(blobs, Digest.parse(snapshot.database), path / FILE)
        async with _opened_file(path) as metadata:
            yield metadata


async def _fetch(blobs: BackupBlobs, digest: Digest, file: Path) -> None:
    """Read a blob into a new file, if it is sound; raises Unavailable."""
    size = await blobs.stat(digest)
    if size is None:
        raise Unavailable(f"its metadata, {digest}, is missing")
    hasher = digest.algorithm.hasher()
    with file.open("xb") as opened:
        async with aclosing(blobs.read(digest, ByteRange(0, size))) as pieces:
            async for piece in pieces:
                hasher.update(piece)
                opened.write(piece)
    if Digest.finish(digest.algorithm, hasher) != digest:
        raise Unavailable(f"its metadata, {digest}, is damaged")


async def prepare_restore(stores: Stores, identity: str, *, keep_blobs: bool) -> None:
    """Create an empty registry that becomes the one with that identity, or go on with it.

    With `keep_blobs`, its blobs may be there already. Raises Unavailable, StorageFull, SchemaTooNew
    and SchemaTooOld.
    """
    metadata, blobs, database = stores.metadata, stores.blobs, stores.engine.database
    is_begun = False
    if await database.is_made():
        await database.require_newest()
        is_begun = (await metadata.registry_state()).copy_of == identity
    is_empty = is_begun or not await _is_used(stores)
    if not is_empty and not keep_blobs:
        # Before the database is created: one that is empty would let its blobs be collected.
        raise Unavailable(
            f"{blobs.location} holds blobs; restore into an empty registry, or add --keep-blobs if"
            " they are those of the registry, and only its database is lost"
        )
    blobs.create()
    await stores.engine.prepare()
    try:
        await metadata.begin_copy(identity, is_same=True)
    except NotItsCopy as error:
        raise Unavailable(
            f"{stores.engine.place} contains a registry; restore into an empty one"
        ) from error
    if stores.are_apart:
        await mark(metadata, blobs)


async def _is_used(stores: Stores) -> bool:
    """Whether the blob store is that of a registry; only one that is apart has a mark."""
    marked = await stores.blobs.read_mark() is not None
    return marked or await stores.blobs.holds_blobs()
