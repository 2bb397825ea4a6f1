"""Upload sessions. Each write is one statement, and so a transaction of its own.

The row of a session that was finished is kept until it expires, and is a session no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import RegistryError
from portside.spec.locks import Lock
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.metadata.engine import Noun, Queries, Transaction
from portside.stores.metadata.quotas import STAGED_WITHIN, refuse_staged
from portside.stores.metadata.refusals import too_many_uploads, upload_moved, upload_unknown
from portside.stores.metadata.repositories import refuse_repository, require_writable

STALE_PAGE = 1000
"""Sessions that are listed at once."""

_COLUMNS = "id, repository, algorithm, received, created, updated"
_ADD = f"""
    INSERT INTO uploads ({_COLUMNS}, owner)
    SELECT
        CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT),
        CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS TEXT)
    WHERE NOT EXISTS (SELECT 1 FROM repositories WHERE name = $2 AND (locks & 2) <> 0)
        AND (
            CAST($8 AS BIGINT) = 0 OR $8 > (
                SELECT count(*) FROM (
                    SELECT 1 FROM uploads
                    WHERE repository = $2 AND owner = $7 AND finished IS NULL
                    LIMIT $8
                ) AS opened
            )
        )
"""  # noqa: S608  # put together of constants
_GET = """
    SELECT
        u.id, u.repository, u.algorithm, u.received, u.created, u.updated, COALESCE(r.locks, 0)
    FROM uploads u
    LEFT JOIN repositories r ON r.name = u.repository
    WHERE u.id = $1 AND u.repository = $2 AND u.finished IS NULL
"""
_KNOWN = "SELECT 1 FROM uploads WHERE id = $1 AND finished IS NULL"
_STALE = f"""
    SELECT {_COLUMNS} FROM uploads
    WHERE updated < $1 AND (updated, id) > ($2, $3) AND finished IS NULL
    ORDER BY updated, id
    LIMIT {STALE_PAGE}
"""  # noqa: S608  # likewise
_ADVANCE = f"""
    UPDATE uploads SET received = $1, updated = $2
    WHERE id = $3 AND received = $4 AND finished IS NULL AND {STAGED_WITHIN}
"""  # noqa: S608  # likewise
_IS_AT = "SELECT 1 FROM uploads WHERE id = $1 AND received = $2 AND finished IS NULL"
_DELETE = "DELETE FROM uploads WHERE id = $1 AND received = $2 AND finished IS NULL"
_FINISH = """
    UPDATE uploads SET finished = $1, updated = $2
    WHERE id = $3 AND received = $4 AND finished IS NULL
"""
_FINISHED_WITH = """
    SELECT 1
    FROM uploads u
    JOIN repositories r ON r.name = u.repository
    JOIN repository_blobs l ON l.repository = r.id AND l.digest = u.finished AND l.deleted IS NULL
    WHERE u.id = $1 AND u.repository = $2 AND u.finished = $3 AND u.owner = $4
"""
_FORGET = f"""
    DELETE FROM uploads WHERE id IN (
        SELECT id FROM uploads WHERE updated < $1 AND finished IS NOT NULL LIMIT {STALE_PAGE}
    )
"""  # noqa: S608  # likewise


class Uploads(Noun):
    """The UploadStore."""

    async def open_upload(self, session: UploadSession, *, most: int = 0) -> None:
        """Look, count and add with one statement, so the limit is exceeded by a few at most."""
        added = await self._database.execute(
            _ADD,
            str(session.id),
            str(session.repository),
            str(session.algorithm),
            session.offset,
            session.created,
            session.updated,
            session.owner,
            most,
        )
        if added == 0:
            await require_writable(self._database, session.repository)
            raise too_many_uploads(session.repository, most)

    async def get_upload(
        self, repository: RepositoryName, upload: UploadId, *, writable: bool = False
    ) -> UploadSession:
        """Read a row, and the locks of its repository with it."""
        row = await self._database.find(_GET, str(upload), str(repository))
        if row is None:
            raise upload_unknown(upload)
        *columns, locks = row
        if writable:
            refuse_repository(locks, Lock.WRITE, repository)
        return _session(columns)

    async def has_upload(self, upload: UploadId) -> bool:
        """Look for a row."""
        return await self._database.find(_KNOWN, str(upload)) is not None

    async def advance_upload(
        self, session: UploadSession, *, origin: int, quota: int | None = None
    ) -> None:
        """Store the offset if it is still the one that the request found."""
        upload = str(session.id)
        row = (session.offset, self._database.clock(), upload, origin, quota)
        if await self._database.execute(_ADVANCE, *row) == 0:
            if quota is not None and await self._database.find(_IS_AT, upload, origin) is not None:
                raise await refuse_staged(self._database, session.repository, quota)
            raise await upload_refusal(self._database, session.id)

    async def close_upload(self, session: UploadSession) -> None:
        """Delete the row."""
        if await self._database.execute(_DELETE, str(session.id), session.offset) == 0:
            raise await upload_refusal(self._database, session.id)

    async def was_finished(
        self, repository: RepositoryName, upload: UploadId, digest: Digest, *, owner: str
    ) -> bool:
        """Look for the row that the session left, and for the link."""
        row = (str(upload), str(repository), str(digest), owner)
        return await self._database.find(_FINISHED_WITH, *row) is not None

    async def forget_finished_uploads(self, before: int) -> None:
        """Delete rows a page at a time, so that nobody waits for long."""
        while await self._database.execute(_FORGET, before) == STALE_PAGE:
            pass

    async def list_stale_uploads(
        self, before: int, after: UploadSession | None = None
    ) -> list[UploadSession]:
        """Read the rows by an index on their time."""
        start = (after.updated, str(after.id)) if after is not None else (-1, "")
        return [_session(row) for row in await self._database.find_all(_STALE, before, *start)]


async def finish_upload(transaction: Transaction, session: UploadSession, digest: Digest) -> None:
    """Finish a session within a transaction; raises BlobUploadUnknown and UploadBusy."""
    row = (str(digest), transaction.now, str(session.id), session.offset)
    if await transaction.execute(_FINISH, *row) == 0:
        raise await upload_refusal(transaction, session.id)


async def upload_refusal(queries: Queries, upload: UploadId) -> RegistryError:
    """Return the error for a session that was not where the request found it."""
    is_known = await queries.find(_KNOWN, str(upload)) is not None
    return upload_moved(upload) if is_known else upload_unknown(upload)


def _session(row: Iterable[Any]) -> UploadSession:
    upload, repository, algorithm, received, created, updated = row
    return UploadSession(
        id=UploadId(upload),
        repository=RepositoryName(repository),
        algorithm=Algorithm(algorithm),
        created=created,
        updated=updated,
        offset=received,
    )
