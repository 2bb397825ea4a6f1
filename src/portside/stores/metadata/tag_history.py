"""The history of tags: what each pointed at, from when on, and who changed it.

A change is recorded in the transaction that makes it, which has locked the row of the repository.
"""

from __future__ import annotations

from collections.abc import Iterable

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import Page
from portside.stores.metadata.engine import Noun, Transaction
from portside.stores.tag_history import TagAction, TagChange, TrimPosition

# The clocks of nodes differ, but the last change of a tag has the last time. Of two changes within
# one microsecond, the second one counts.
_TIME = """
    COALESCE(
        (SELECT MAX(h.at) + 1 FROM tag_history h
         WHERE h.repository = {repository} AND h.name = {name} AND h.at > {now}),
        {now}
    )
"""
_WRITTEN = """
    ON CONFLICT (repository, name, at) DO UPDATE
    SET action = excluded.action, digest = excluded.digest, identity = excluded.identity
"""
# ruff: noqa: S608  # statements are put together of constants
_ADD = f"""
    INSERT INTO tag_history (repository, name, at, action, digest, identity)
    VALUES ($1, $2, {_TIME.format(repository="$1", name="$2", now="$3")}, $4, $5, $6)
    {_WRITTEN}
"""


def _add_deleted(which: str) -> str:
    """Return the statement that records the end of the tags whose column `which` is $1."""
    time = _TIME.format(repository="t.repository", name="t.name", now="$2")
    return f"""
        INSERT INTO tag_history (repository, name, at, action, digest, identity)
        SELECT t.repository, t.name, {time}, 'deleted', m.digest, $3
        FROM tags t JOIN manifests m ON m.id = t.manifest
        WHERE t.{which} = $1
        {_WRITTEN}
    """


_ADD_DELETED_OF_MANIFEST = _add_deleted("manifest")
_ADD_DELETED_OF_REPOSITORY = _add_deleted("repository")

CHANGES = """
    SELECT h.at, h.action, h.digest, h.identity, m.id IS NOT NULL, m.deleted
    FROM repositories r
    JOIN tag_history h ON h.repository = r.id
    LEFT JOIN manifests m ON m.repository = h.repository AND m.digest = h.digest
    WHERE r.name = $1 AND h.name = $2 AND h.at < $3
    ORDER BY h.at DESC
    LIMIT $4
"""
_UNTAGGED = "UPDATE manifests SET untagged = $3 WHERE repository = $1 AND digest = $2"
_LAST_TIME = 2**63 - 1

# Each change makes those before it superfluous once it is old enough itself. The end of a tag makes
# itself superfluous, unless the tag exists again: before its new beginning it did not.
OLD_CHANGES = """
    SELECT h.at, h.repository, h.name, EXISTS (
        SELECT 1 FROM tag_history o
        WHERE o.repository = h.repository AND o.name = h.name AND o.at < h.at
    ) OR h.action = 'deleted' AND NOT EXISTS (
        SELECT 1 FROM tag_history n
        WHERE n.repository = h.repository AND n.name = h.name AND n.at > h.at
    )
    FROM tag_history h
    WHERE h.at <= $1 AND h.at >= $2 AND (h.at, h.repository, h.name) > ($2, $3, $4)
    ORDER BY h.at, h.repository, h.name
    LIMIT $5
"""
_FORGET_BEFORE = "DELETE FROM tag_history WHERE repository = $1 AND name = $2 AND at < $3"
_FORGET_END = """
    DELETE FROM tag_history
    WHERE repository = $1 AND name = $2 AND at = $3 AND action = 'deleted' AND NOT EXISTS (
        SELECT 1 FROM tag_history n WHERE n.repository = $1 AND n.name = $2 AND n.at > $3
    )
"""


class TagHistory(Noun):
    """The TagHistoryStore, but for `restore_tag`, which changes a tag as a push does."""

    async def list_tag_changes(
        self, repository: RepositoryName, tag: Tag, *, before: int | None = None, limit: int
    ) -> Page[TagChange]:
        """Read one page."""
        time = _LAST_TIME if before is None else min(before, _LAST_TIME)
        rows = await self._database.find_all(CHANGES, str(repository), str(tag), time, limit + 1)
        changes = [
            TagChange(at, TagAction(action), Digest(digest), identity, bool(is_stored), deleted)
            for at, action, digest, identity, is_stored, deleted in rows
        ]
        return Page(changes[:limit], more=0 < limit < len(changes))

    async def trim_tag_history(
        self, until: int, after: TrimPosition | None = None, *, limit: int
    ) -> TrimPosition | None:
        """Read the index of times, and write only if something can be forgotten."""
        start = after or TrimPosition(-1, 0, "")
        rows = await self._database.find_all(OLD_CHANGES, until, *start, limit)
        forgotten = [(owner, name, at) for at, owner, name, is_due in rows if is_due]

        async def job(transaction: Transaction) -> None:
            await transaction.execute_each(_FORGET_BEFORE, forgotten)
            await transaction.execute_each(_FORGET_END, forgotten)

        if forgotten:
            await self._database.write(job)
        return TrimPosition(*rows[-1][:3]) if rows else None


async def record_change(
    transaction: Transaction,
    owner: int,
    action: str,
    changed: Iterable[tuple[str, str]],
    identity: str,
) -> None:
    """Record what was done to some tags of a repository: pairs of a name and a digest."""
    rows = [(owner, name, transaction.now, action, digest, identity) for name, digest in changed]
    if rows:
        await transaction.execute_each(_ADD, rows)


async def note_untagged(transaction: Transaction, owner: int, digests: Iterable[str]) -> None:
    """Note that manifests of a repository have lost a tag, for all that is known their last one."""
    rows = [(owner, digest, transaction.now) for digest in sorted({*digests})]
    if rows:
        await transaction.execute_each(_UNTAGGED, rows)


async def record_tags_of_manifest(transaction: Transaction, manifest: int, identity: str) -> None:
    """Record that the tags of a manifest are about to be deleted."""
    await transaction.execute(_ADD_DELETED_OF_MANIFEST, manifest, transaction.now, identity)


async def record_tags_of_repository(transaction: Transaction, owner: int, identity: str) -> None:
    """Record that the tags of a repository are about to be deleted."""
    await transaction.execute(_ADD_DELETED_OF_REPOSITORY, owner, transaction.now, identity)
