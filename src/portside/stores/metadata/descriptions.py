"""The properties of manifests that an older version received, which are recorded afterwards."""

from __future__ import annotations

from portside.spec.manifests import Manifest
from portside.spec.platforms import UNKNOWN_PLATFORM, Platform
from portside.stores.metadata.engine import Noun, Transaction
from portside.stores.metadata.manifests import Described, describe
from portside.stores.properties import UndescribedManifest

# PostgreSQL and SQLite read the index of these rows, which is empty in a new registry.
_UNDESCRIBED = """
    SELECT id, digest, media_type, payload FROM manifests
    WHERE image_size IS NULL
    ORDER BY id
    LIMIT $1
"""
_LOCK = """
    SELECT r.id
    FROM repositories r JOIN manifests m ON m.repository = r.id
    WHERE m.id = $1 AND m.image_size IS NULL
    FOR NO KEY UPDATE
"""
_DESCRIBE = """
    UPDATE manifests
    SET config_media_type = $2, architecture = $3, os = $4, image_size = $5
    WHERE id = $1
"""
_ADD_WEAK = """
    INSERT INTO manifest_references (manifest, repository, kind, digest, required, weak)
    VALUES ($1, $2, 'blob', $3, FALSE, TRUE)
    ON CONFLICT DO NOTHING
"""
_UNREADABLE = Described(None, *UNKNOWN_PLATFORM, 0)


class Descriptions(Noun):
    """The part of the PropertyStore that `portside migrate` uses."""

    async def list_undescribed(self, limit: int) -> list[UndescribedManifest]:
        """Read the first rows."""
        rows = await self._database.find_all(_UNDESCRIBED, limit)
        return [UndescribedManifest(*row) for row in rows]

    async def describe_manifest(
        self, found: UndescribedManifest, manifest: Manifest | None, platform: Platform
    ) -> None:
        """Write the columns, and add the references that are missing."""

        async def job(transaction: Transaction) -> None:
            locked = await transaction.find(_LOCK, found.key)
            if locked is None:
                return
            described = _UNREADABLE
            if manifest is not None:
                described = await describe(transaction, locked[0], manifest, platform)
                weak = [item.digest for item in manifest.references if item.is_weak]
                rows = [(found.key, locked[0], str(digest)) for digest in weak]
                if rows:
                    await transaction.execute_each(_ADD_WEAK, rows)
            await transaction.execute(_DESCRIBE, found.key, *described)

        await self._database.write(job)
