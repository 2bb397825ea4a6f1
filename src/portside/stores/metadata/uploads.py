"""Upload sessions in SQLite."""

from __future__ import annotations

from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.metadata.database import Database
from portside.stores.metadata.judging import upload_moved, upload_unknown
from portside.stores.metadata.rows import session_from_row, upload_row
from portside.stores.metadata.writer import Transaction

STALE_PAGE = 1000
"""Sessions that are listed at once."""

_ADD = """
    INSERT INTO uploads (id, repository, algorithm, received, created, updated)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_COLUMNS = "SELECT id, repository, algorithm, received, created, updated FROM uploads"
_GET = f"{_COLUMNS} WHERE id = ? AND repository = ?"
_KNOWN = "SELECT 1 FROM uploads WHERE id = ?"
_STALE = f"""
    {_COLUMNS} WHERE updated < ? AND (updated, id) > (?, ?) ORDER BY updated, id LIMIT {STALE_PAGE}
"""
_ADVANCE = "UPDATE uploads SET received = ?, updated = ? WHERE id = ? AND received = ?"
_DROP = "DELETE FROM uploads WHERE id = ? AND received = ?"


class SqliteUploads:
    """The UploadStore over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_upload(self, session: UploadSession) -> None:
        """Add a row."""
        row = upload_row(session)

        def job(transaction: Transaction) -> None:
            transaction.execute(_ADD, row)

        await self._database.write(job)

    async def get_upload(self, repository: RepositoryName, upload: UploadId) -> UploadSession:
        """Read a row."""
        row = self._database.find(_GET, (str(upload), str(repository)))
        if row is None:
            raise upload_unknown(upload)
        return session_from_row(row)

    async def has_upload(self, upload: UploadId) -> bool:
        """Look for a row."""
        return self._database.find(_KNOWN, (str(upload),)) is not None

    async def advance_upload(self, session: UploadSession, *, origin: int) -> None:
        """Write the offset down, if it is still where the request found it."""

        def job(transaction: Transaction) -> None:
            row = (session.offset, transaction.now, str(session.id), origin)
            _require(transaction, session.id, transaction.execute(_ADVANCE, row).rowcount)

        await self._database.write(job)

    async def close_upload(self, session: UploadSession) -> None:
        """Drop the row."""
        await self._database.write(lambda transaction: end_upload(transaction, session))

    async def list_stale_uploads(
        self, before: int, after: UploadSession | None = None
    ) -> list[UploadSession]:
        """Read the rows that were not touched since, by an index on their time."""
        start = (after.updated, str(after.id)) if after is not None else (-1, "")
        rows = self._database.list(_STALE, (before, *start))
        return [session_from_row(row) for row in rows]


def end_upload(transaction: Transaction, session: UploadSession) -> None:
    """Drop the row of a session within a transaction; raises BlobUploadUnknown and UploadBusy."""
    row = (str(session.id), session.offset)
    _require(transaction, session.id, transaction.execute(_DROP, row).rowcount)


def _require(transaction: Transaction, upload: UploadId, rows: int) -> None:
    """Raise BlobUploadUnknown or UploadBusy if no row was touched."""
    if rows == 0:
        is_known = transaction.execute(_KNOWN, (str(upload),)).fetchone() is not None
        raise upload_moved(upload) if is_known else upload_unknown(upload)
