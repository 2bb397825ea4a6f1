"""A registry of a million manifests, made by inserting the rows that pushes would leave.

Each manifest is an image with blobs of its own and one that the images of its repository share.
Every tenth was copied from another repository. One in a hundred was deleted long ago, and as many
links of each repository are unreferenced since then. No blob has bytes on the disk.
"""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.content import OCI_MANIFEST
from servers.postgresql import PostgreSQL

# ruff: noqa: S608  # statements are put together of numbers

OWN = 5
"""Blobs of each image that no other image of its repository has."""

BASES = 100
"""Blobs that the images of a repository share, each of them one of these."""

PAYLOAD = 800
"""Bytes of a manifest of six blobs."""

_NUMBERS = f"""
    WITH RECURSIVE
    numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {{}}),
    own (k) AS (VALUES {", ".join(f"({k})" for k in range(OWN))})
"""


class Size(NamedTuple):
    """How many repositories a registry has, and how many manifests each of them."""

    repositories: int = 1_000
    manifests: int = 1_000

    @property
    def every_manifest(self) -> int:
        """The number of all manifests, deleted ones included."""
        return self.repositories * self.manifests

    @property
    def unreferenced(self) -> int:
        """The number of links of each repository that no manifest needs."""
        return self.manifests * OWN // 100

    @property
    def every_link(self) -> int:
        """The number of all links."""
        return self.every_manifest * OWN + self.repositories * (BASES + self.unreferenced)


def name_of(repository: int) -> str:
    """Return the name of a repository by its number, of which the first is 0."""
    return f"team{repository // 10}/app{repository % 10}"


class Filler(ABC):
    """Fills one database, in which the functions `digest` and `payload` are defined."""

    def fill(self, size: Size, deleted: int) -> None:
        """Insert the rows of a registry in which things were deleted at a time (µs since 1970).

        Indexes are made after the rows: it takes less time, and leaves them as good as new.
        """
        indexes = self.indexes()
        drops = [f"DROP INDEX {name}" for name in indexes]
        self.run([*drops, *_rows(size, deleted), *indexes.values()])

    @abstractmethod
    def indexes(self) -> dict[str, str]:
        """Return the names of all indexes that are not keys, and how they are made."""

    @abstractmethod
    def run(self, statements: list[str]) -> None:
        """Run statements, and no trigger."""


class SqliteFiller(Filler):
    """Fills the file of a registry that does not run."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def indexes(self) -> dict[str, str]:
        """Read them in the schema."""
        with closing(self._connect()) as connection:
            return dict(
                connection.execute(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
                )
            )

    def run(self, statements: list[str]) -> None:
        """Run them with no journal: who is interrupted begins anew."""
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            for sql in statements:
                connection.execute(sql)
            connection.execute("PRAGMA journal_mode = WAL")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        connection.create_function("digest", 1, _digest, deterministic=True)
        connection.create_function("payload", 1, bytes, deterministic=True)
        return connection


class PostgresFiller(Filler):
    """Fills a database of a server of our own, as its superuser."""

    def __init__(self, server: PostgreSQL, url: str) -> None:
        self._server = server
        self._url = url

    def indexes(self) -> dict[str, str]:
        """Read them in the catalogue."""
        sql = """
            SELECT i.indexname, i.indexdef FROM pg_indexes i
            WHERE i.schemaname = 'public' AND NOT EXISTS (
                SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname
            )
        """
        return dict(self._server.ask(self._url, sql))

    def run(self, statements: list[str]) -> None:
        """Run them in one transaction, without checks of foreign keys."""
        begin = """
            SET session_replication_role = replica;
            SET maintenance_work_mem = '512MB';
            SET work_mem = '256MB';
            SET search_path = public, filling;
            CREATE SCHEMA filling;
            CREATE DOMAIN filling.ascii AS text COLLATE "C";
            CREATE FUNCTION filling.digest(n bigint) RETURNS filling.ascii
                IMMUTABLE RETURN 'sha256:' || encode(sha256(convert_to(n::text, 'UTF8')), 'hex');
            CREATE FUNCTION filling.payload(n integer) RETURNS bytea
                IMMUTABLE RETURN decode(repeat('00', n), 'hex')
        """
        end = "DROP SCHEMA filling CASCADE"
        self._server.ask(self._url, ";\n".join([begin, *statements, end]))
        self._server.ask(self._url, "VACUUM ANALYZE")


def _digest(number: int) -> str:
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


def _rows(size: Size, deleted: int) -> Iterator[str]:
    """Return the statements that insert the rows, in the order of their keys."""
    every, each = size.every_manifest, size.manifests
    repository = f"(n / {each} + 1)"
    # A copy has the blobs of an image of the next repository that is no copy.
    own = f"(CASE WHEN n % 10 = 0 THEN (n + {each} + 1) % {every} ELSE n END * {OWN} + k)"
    bases = size.repositories * BASES
    waiting = size.repositories * size.unreferenced
    yield f"""
        INSERT INTO repositories
            (name, created, updated, manifest_count, tag_count, manifest_bytes)
        {_NUMBERS.format(size.repositories)}
        SELECT 'team' || (n / 10) || '/app' || (n % 10), {deleted}, {deleted},
            {each - each // 100}, {each // 10}, {each * PAYLOAD}
        FROM numbers ORDER BY n
    """
    yield f"""
        INSERT INTO blobs (digest, size, created)
        {_NUMBERS.format(every * OWN)}
        SELECT digest(n), 1000 + n % 1000 * 1000, {deleted} FROM numbers
        WHERE n / {OWN} % 10 <> 0
        UNION ALL
        SELECT digest(-1 - n), 30000000, {deleted} FROM numbers
        WHERE n < {size.repositories * 10 + BASES - 10}
        UNION ALL
        SELECT digest({every * OWN} + n), 1000000, {deleted} FROM numbers WHERE n < {waiting}
        ORDER BY 1
    """
    yield f"""
        INSERT INTO manifests
            (repository, digest, media_type, size, annotations, created, payload, image_size,
             deleted)
        {_NUMBERS.format(every)}
        SELECT {repository}, digest(-1000000000 - n), '{OCI_MANIFEST}', {PAYLOAD}, payload(2),
            {deleted} - n, payload({PAYLOAD}), 40000000,
            CASE WHEN n % 100 = 99 THEN {deleted} END
        FROM numbers ORDER BY n
    """
    yield f"""
        INSERT INTO manifest_references (manifest, repository, kind, digest, required, weak)
        {_NUMBERS.format(every)}
        SELECT n + 1, {repository}, 'blob', digest{own}, TRUE, FALSE FROM numbers CROSS JOIN own
        UNION ALL
        SELECT n + 1, {repository}, 'blob', digest(-1 - (n / {each} * 10 + n % {BASES})),
            TRUE, FALSE
        FROM numbers
        ORDER BY 1, 4
    """
    yield f"""
        INSERT INTO repository_blobs (repository, digest, size, linked, unreferenced)
        {_NUMBERS.format(max(every, bases, waiting))}
        SELECT {repository}, digest{own}, 1000 + {own} % 1000 * 1000, {deleted},
            CAST(NULL AS BIGINT)
        FROM numbers CROSS JOIN own WHERE n < {every}
        UNION ALL
        SELECT n / {BASES} + 1, digest(-1 - (n / {BASES} * 10 + n % {BASES})), 30000000, {deleted},
            NULL
        FROM numbers WHERE n < {bases}
        UNION ALL
        SELECT n / {size.unreferenced} + 1, digest({every * OWN} + n), 1000000, {deleted},
            {deleted}
        FROM numbers WHERE n < {waiting}
        ORDER BY 1, 2
    """
    yield f"""
        INSERT INTO tags (repository, name, manifest, created, updated)
        {_NUMBERS.format(every)}
        SELECT {repository}, 'v' || n, n + 1, {deleted}, {deleted} FROM numbers
        WHERE n % 10 = 0 ORDER BY 1, 2
    """
    yield """
        INSERT INTO tag_history (repository, name, at, action, digest)
        SELECT t.repository, t.name, t.updated, 'set', m.digest
        FROM tags t JOIN manifests m ON m.id = t.manifest ORDER BY 1, 2
    """
