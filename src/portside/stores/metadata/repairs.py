"""Repairs: bring the rows of blobs and repositories in line with what is there.

A blob is changed under its own lock, and a link is removed with its repository locked, as in a push
and a delete. Locks that people set do not count: what they protect is damaged.
"""

from __future__ import annotations

import enum

from portside.spec.digests import Digest
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.engine import Noun, Transaction
from portside.stores.metadata.events import record_events
from portside.stores.metadata.repositories import lock_repository

_KNOWN = "SELECT 1 FROM blobs WHERE digest = $1"
_LOCK_UNNEEDED = """
    SELECT r.id
    FROM repositories r
    WHERE r.id IN (SELECT l.repository FROM repository_blobs l WHERE l.digest = $1)
        AND NOT EXISTS (
            SELECT 1 FROM manifest_references f
            WHERE f.repository = r.id AND f.digest = $1 AND NOT f.weak
        )
    ORDER BY r.id
    FOR NO KEY UPDATE
"""
_UNLINK_UNNEEDED = """
    DELETE FROM repository_blobs
    WHERE digest = $1 AND repository = ANY ($2) AND NOT EXISTS (
        SELECT 1 FROM manifest_references f
        WHERE f.repository = repository_blobs.repository AND f.digest = $1 AND NOT f.weak
    )
"""
_REFERRED_TO_ANYWHERE = """
    SELECT 1 FROM repository_blobs l JOIN manifest_references f
        ON f.repository = l.repository AND f.digest = l.digest
    WHERE l.digest = $1
    LIMIT 1
"""
_UNLINK_EVERYWHERE = "DELETE FROM repository_blobs WHERE digest = $1"
_DELETE_UNLINKED = """
    DELETE FROM blobs
    WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE digest = $1)
"""
_REFERRED_TO = """
    SELECT 1 FROM manifest_references WHERE repository = $1 AND digest = $2 LIMIT 1
"""
_ADD_BLOB = """
    INSERT INTO blobs (digest, size, created) VALUES ($1, $2, $3)
    ON CONFLICT (digest) DO UPDATE SET size = excluded.size
"""
_LINK = """
    INSERT INTO repository_blobs (repository, digest, size, linked) VALUES ($1, $2, $3, $4)
    ON CONFLICT (repository, digest) DO UPDATE SET deleted = NULL, unreferenced = NULL
"""
_BEGIN_GRACE = """
    UPDATE repository_blobs SET unreferenced = $3
    WHERE repository = $1 AND digest = $2 AND unreferenced IS NULL AND NOT EXISTS (
        SELECT 1 FROM manifest_references f WHERE f.repository = $1 AND f.digest = $2
    )
"""
_RESTORE_PAYLOAD = """
    UPDATE manifests SET payload = $3, size = $4 WHERE repository = $1 AND digest = $2
"""
_RECOUNT = """
    UPDATE repositories
    SET manifest_count = (
            SELECT COUNT(*) FROM manifests m
            WHERE m.repository = repositories.id AND m.deleted IS NULL
        ),
        tag_count = (SELECT COUNT(*) FROM tags t WHERE t.repository = repositories.id),
        manifest_bytes = (
            SELECT COALESCE(SUM(m.size), 0) FROM manifests m WHERE m.repository = repositories.id
        )
    WHERE id = $1
"""
_MEASURE_LINKS = """
    UPDATE repository_blobs
    SET size = (SELECT b.size FROM blobs b WHERE b.digest = repository_blobs.digest)
    WHERE repository = $1
"""
_MEASURE_LINKS_OF = "UPDATE repository_blobs SET size = $2 WHERE digest = $1 AND size <> $2"


class Change(enum.StrEnum):
    """What a repair did, as its event says."""

    DROPPED = "dropped"
    RESTORED = "restored"
    GRACE_BEGUN = "grace begun"
    COUNTED = "counted"


class Repairs(Noun):
    """What RepairableMetadata adds to an inspection."""

    async def drop_damaged_blob(
        self,
        digest: Digest,
        *,
        confirm: Place,
        remove: Remove,
        has_bytes: bool = True,
        by: Actor = NOBODY,
    ) -> None:
        """Look at the bytes within the transaction; they go after it, as with a delete."""

        async def job(transaction: Transaction) -> bool:
            await transaction.place(confirm, is_new=False)
            owners = await transaction.find_all(_LOCK_UNNEEDED, str(digest))
            if owners:
                keys = [owner for (owner,) in owners]
                await transaction.execute(_UNLINK_UNNEEDED, str(digest), keys)
                await transaction.execute(_DELETE_UNLINKED, str(digest))
            if owners or has_bytes:
                await _record(transaction, by, Change.DROPPED, digest=str(digest))
            return True

        await self._database.write_removing(job, blob=digest, remove=remove)

    async def restore_blob(
        self,
        digest: Digest,
        size: int,
        *,
        repository: str | None,
        place: Place,
        by: Actor = NOBODY,
    ) -> bool:
        """Write the rows, place the bytes, and commit."""

        async def job(transaction: Transaction) -> bool:
            is_known = await transaction.find(_KNOWN, str(digest)) is not None
            owner = await lock_repository(transaction, repository) if repository else None
            is_needed = owner is not None and (
                await transaction.find(_REFERRED_TO, owner.id, str(digest)) is not None
            )
            if not is_needed and (repository or not is_known):
                return False
            await transaction.execute(_ADD_BLOB, str(digest), size, transaction.now)
            await transaction.execute(_MEASURE_LINKS_OF, str(digest), size)
            if owner is not None:
                await transaction.execute(_LINK, owner.id, str(digest), size, transaction.now)
            await _record(transaction, by, Change.RESTORED, repository or "", str(digest))
            await transaction.require_not_being_removed(digest)
            await transaction.place(place, is_new=not is_known)
            return True

        return await self._database.write_placing(job, blob=digest)

    async def drop_unlinked_blob(self, digest: str, *, by: Actor = NOBODY) -> None:
        """Look for a link once more while nobody can add one, and delete the row."""

        async def job(transaction: Transaction) -> None:
            if await transaction.execute(_DELETE_UNLINKED, digest):
                await _record(transaction, by, Change.DROPPED, digest=digest)

        await self._database.write(job, blob=Digest.parse(digest))

    async def forget_blob(self, digest: str) -> bool:
        """Look for references, and delete the links and the row."""

        async def job(transaction: Transaction) -> bool:
            if await transaction.find(_REFERRED_TO_ANYWHERE, digest) is not None:
                return False
            await transaction.execute(_UNLINK_EVERYWHERE, digest)
            await transaction.execute(_DELETE_UNLINKED, digest)
            return True

        return await self._database.write(job)

    async def replace_payload(
        self, repository: str, digest: Digest, payload: bytes, *, by: Actor = NOBODY
    ) -> None:
        """Write the payload and its size with the repository locked."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, repository)
            if owner is not None:
                row = (owner.id, str(digest), payload, len(payload))
                if await transaction.execute(_RESTORE_PAYLOAD, *row):
                    await _record(transaction, by, Change.RESTORED, repository, str(digest))
                await transaction.execute(_RECOUNT, owner.id)

        await self._database.write(job)

    async def begin_grace(self, repository: str, digest: str, *, by: Actor = NOBODY) -> None:
        """Look for a reference once more with the repository locked, and set the time."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, repository)
            if owner is not None and (
                await transaction.execute(_BEGIN_GRACE, owner.id, digest, transaction.now)
            ):
                await _record(transaction, by, Change.GRACE_BEGUN, repository, digest)

        await self._database.write(job)

    async def recount(self, repository: str, *, by: Actor = NOBODY) -> None:
        """Count the rows, and add up what they say, with the repository locked."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, repository)
            if owner is not None:
                await transaction.execute(_RECOUNT, owner.id)
                await transaction.execute(_MEASURE_LINKS, owner.id)
                await _record(transaction, by, Change.COUNTED, repository)

        await self._database.write(job)


async def _record(
    transaction: Transaction, by: Actor, change: Change, repository: str = "", digest: str = ""
) -> None:
    details = {"change": change.value}
    event = NewEvent(EventAction.CONTENT_REPAIRED, repository, digest=digest, details=details)
    await record_events(transaction, by, [event])
