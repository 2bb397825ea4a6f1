"""Every row there is, for `portside check`.

A check runs in a thread of its own and not in an event loop: it has a loop for itself here, and
connections that belong to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from portside.spec.digests import Digest
from portside.stores.inspection import BlobFact, ManifestFact, UploadFact
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.rows import manifest_fact

Result = TypeVar("Result")

PAGE = 1000
"""Rows that are read at once."""

# Each query of pages starts with the columns of its key.
_REPOSITORIES = "SELECT id, name FROM repositories WHERE id > $1 ORDER BY id LIMIT $2"
_TAGS = """
    SELECT t.repository, t.name, r.name
    FROM tags t JOIN repositories r ON r.id = t.repository
    WHERE (t.repository, t.name) > ($1, $2)
    ORDER BY t.repository, t.name
    LIMIT $3
"""
_BLOBS = "SELECT digest, size FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2"
_BLOB = "SELECT digest, size FROM blobs WHERE digest = $1"
_UNLINKED = """
    SELECT digest FROM blobs b
    WHERE digest > $1 AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
    ORDER BY digest
    LIMIT $2
"""
_MANIFESTS = "SELECT id FROM manifests WHERE id > $1 ORDER BY id LIMIT $2"
_MANIFEST = """
    SELECT r.name, m.digest, m.media_type, m.payload, m.size, m.subject, m.artifact_type,
           m.annotations
    FROM manifests m JOIN repositories r ON r.id = m.repository
    WHERE m.id = $1
"""
_REFERENCES = """
    SELECT f.kind, f.digest, f.required, CASE f.kind
        WHEN 'blob' THEN EXISTS (
            SELECT 1 FROM repository_blobs l
            WHERE l.repository = f.repository AND l.digest = f.digest
        )
        ELSE EXISTS (
            SELECT 1 FROM manifests c WHERE c.repository = f.repository AND c.digest = f.digest
        )
        END
    FROM manifest_references f
    WHERE f.manifest = $1
    ORDER BY f.kind, f.digest
"""
_UPLOADS = "SELECT id, repository, received FROM uploads WHERE id > $1 ORDER BY id LIMIT $2"
_UPLOAD = "SELECT id, repository, received FROM uploads WHERE id = $1"


class PostgresFacts:
    """The CheckableMetadata over PostgreSQL; `close_facts` lets go of what it took."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._desk: _Desk | None = None

    @property
    def _facts(self) -> _Desk:
        if self._desk is None:
            self._desk = _Desk(Database(self._database.terms, clock=self._database.clock))
        return self._desk

    def close_facts(self) -> None:
        """Stop the loop, and hang up."""
        desk, self._desk = self._desk, None
        if desk is not None:
            desk.close()

    def _list(self, sql: str, *parameters: Any) -> list[Any]:
        desk = self._facts
        return desk.wait_for(desk.database.list(sql, *parameters))

    def _pages(self, sql: str, *start: int | str) -> Iterator[Any]:
        """Read the rows behind a key, page after page."""
        while rows := self._list(sql, *start, PAGE):
            yield from rows
            start = tuple(rows[-1])[: len(start)]

    def integrity_problems(self) -> Iterator[str]:
        """Look for blobs that nobody can read; PostgreSQL itself sees to its keys."""
        for (digest,) in self._pages(_UNLINKED, ""):
            yield f"blob {digest} is known, but no repository links it"

    def repository_names(self) -> Iterator[str]:
        """Read every repository."""
        for _, name in self._pages(_REPOSITORIES, -1):
            yield name

    def tag_names(self) -> Iterator[tuple[str, str]]:
        """Read every tag."""
        for _, tag, repository in self._pages(_TAGS, -1, ""):
            yield repository, tag

    def blob_facts(self) -> Iterator[BlobFact]:
        """Read every blob, in the order of digests."""
        for row in self._pages(_BLOBS, ""):
            yield BlobFact(*row)

    def blob_fact(self, digest: str) -> BlobFact | None:
        """Read the row of a blob."""
        return next((BlobFact(*row) for row in self._list(_BLOB, digest)), None)

    def manifest_facts(self) -> Iterator[ManifestFact]:
        """Read every manifest, each with its references in one view of the database."""
        for (key,) in self._pages(_MANIFESTS, -1):
            desk = self._facts
            fact = desk.wait_for(_read_manifest(desk.database, key))
            if fact is not None:
                yield fact

    def upload_facts(self) -> Iterator[UploadFact]:
        """Read every session."""
        for row in self._pages(_UPLOADS, ""):
            yield UploadFact(*row)

    def upload_fact(self, upload: str) -> UploadFact | None:
        """Read the row of a session."""
        return next((UploadFact(*row) for row in self._list(_UPLOAD, upload)), None)

    @contextmanager
    def quiet(self, digest: Digest) -> Iterator[None]:
        """Take the lock of the blob."""
        desk = self._facts
        quiet = desk.database.quiet(digest)
        desk.wait_for(quiet.__aenter__())
        try:
            yield
        finally:
            desk.wait_for(quiet.__aexit__(None, None, None))


async def _read_manifest(database: Database, key: int) -> ManifestFact | None:
    async with database.connected() as connection:
        view = connection.transaction(isolation="repeatable_read", readonly=True)
        async with view:
            row = await connection.fetchrow(_MANIFEST, key)
            references = await connection.fetch(_REFERENCES, key)
    return manifest_fact(row, references) if row is not None else None


class _Desk:
    """An event loop in a thread, for those who wait for answers outside of any."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="portside-facts", daemon=True
        )
        self._thread.start()

    def wait_for(self, asked: Coroutine[Any, Any, Result]) -> Result:
        """Give what a coroutine gives, or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    def close(self) -> None:
        """Hang up, and end the thread."""
        self.wait_for(self.database.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
