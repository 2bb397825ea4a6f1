"""Upload sessions in PostgreSQL. Each write is one statement, and so a transaction of its own."""

from __future__ import annotations

from portside.spec.errors import RegistryError
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.metadata.judging import upload_moved, upload_unknown
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.transactions import Transaction
from portside.stores.metadata.rows import session_from_row, upload_row

STALE_PAGE = 1000
"""Sessions that are listed at once."""

_ADD = """
    INSERT INTO uploads (id, repository, algorithm, received, created, updated)
    VALUES ($1, $2, $3, $4, $5, $6)
"""
_COLUMNS = "SELECT id, repository, algorithm, received, created, updated FROM uploads"
_GET = f"{_COLUMNS} WHERE id = $1 AND repository = $2"
_KNOWN = "SELECT 1 FROM uploads WHERE id = $1"
_STALE = f"""
    {_COLUMNS}
    WHERE updated < $1 AND (updated, id) > ($2, $3)
    ORDER BY updated, id
    LIMIT {STALE_PAGE}
"""
_ADVANCE = "UPDATE uploads SET received = $1, updated = $2 WHERE id = $3 AND received = $4"
_DROP = "DELETE FROM uploads WHERE id = $1 AND received = $2"


class PostgresUploads:
    """The UploadStore over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_upload(self, session: UploadSession) -> None:
        """Add a row."""
        await self._database.execute(_ADD, *upload_row(session))

    async def get_upload(self, repository: RepositoryName, upload: UploadId) -> UploadSession:
        """Read a row."""
        row = await self._database.find(_GET, str(upload), str(repository))
        if row is None:
            raise upload_unknown(upload)
        return session_from_row(row)

    async def has_upload(self, upload: UploadId) -> bool:
        """Look for a row."""
        return await self._database.find(_KNOWN, str(upload)) is not None

    async def advance_upload(self, session: UploadSession, *, origin: int) -> None:
        """Write the offset down, if it is still where the request found it."""
        row = (session.offset, self._database.clock(), str(session.id), origin)
        if await self._database.execute(_ADVANCE, *row) == 0:
            raise await refusal(self._database, session.id)

    async def close_upload(self, session: UploadSession) -> None:
        """Drop the row."""
        if await self._database.execute(_DROP, str(session.id), session.offset) == 0:
            raise await refusal(self._database, session.id)

    async def list_stale_uploads(
        self, before: int, after: UploadSession | None = None
    ) -> list[UploadSession]:
        """Read the rows that were not touched since, by an index on their time."""
        start = (after.updated, str(after.id)) if after is not None else (-1, "")
        rows = await self._database.list(_STALE, before, *start)
        return [session_from_row(row) for row in rows]


async def refusal(asked: Database | Transaction, upload: UploadId) -> RegistryError:
    """Say why a session's row was not where the request found it."""
    is_known = await asked.find(_KNOWN, str(upload)) is not None
    return upload_moved(upload) if is_known else upload_unknown(upload)
