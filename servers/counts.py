"""What was asked of PostgreSQL and of S3 while something was done.

PostgreSQL counts statements itself (pg_stat_statements), and SeaweedFS counts requests and the
bytes of their bodies. Both have counted before the one who asked has its answer, but for requests
whose handler still writes down that it is done: hence the wait for all of them.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import httpx

from servers.postgresql import PostgreSQL
from servers.seaweedfs import BUCKET, S3

SETTLING = 10.0
"""Seconds until requests that S3 has not ended count as stuck."""

FRAMES = {"BEGIN", "COMMIT", "ROLLBACK"}
"""What a transaction adds to its statements."""

ACCESS = "access_state"
"""Part of the statement by which a process learns that access control has changed. It is run at
most once in 0.2 seconds, however many requests there are, so it is no part of any of them."""

CONNECTION = "set_config"
"""Part of the statement that begins a connection."""

PULLS = "INTO manifest_pulls"
"""Part of the statement that stores pulls, which a process does once in ten seconds, in one
transaction."""

TASKS = ("leases", "SELECT identity, copy_of", PULLS)
"""Parts of the statements of tasks that run at times of their own, whatever requests there are.
Those of the collector are not here: a server whose requests are counted runs without it."""

_STATEMENTS = """
    SELECT calls, query FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND query NOT LIKE '%pg_stat_statements%'
"""
_METRIC = re.compile(r"^SeaweedFS_s3_(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_TYPE = re.compile(r'\btype="(\w+)"')


class Counts(NamedTuple):
    """What was counted; bytes are those of bodies, `received` and `sent` as S3 sees them.

    `requests` are counted by SeaweedFS' names for them: GET is a HEAD as well, POST what begins and
    ends a multipart upload, COPY one that the store makes itself.
    """

    statements: Counter[str]
    requests: Counter[str]
    received: int
    sent: int

    @property
    def queries(self) -> int:
        """Statements but for those that stand for no operation, and the frames of transactions."""
        return sum(
            calls for sql, calls in self.statements.items() if not _is_apart(sql) | _is_frame(sql)
        )

    @property
    def frames(self) -> int:
        """How often a transaction was begun or ended, but for the one that stored pulls."""
        frames = sum(calls for sql, calls in self.statements.items() if _is_frame(sql))
        return frames - 2 * any(PULLS in sql for sql in self.statements)

    @property
    def apart(self) -> int:
        """Statements that stand for no operation: of access control, connections, and tasks."""
        return sum(calls for sql, calls in self.statements.items() if _is_apart(sql))

    def since(self, before: Counts) -> Counts:
        """Return what was added."""
        return Counts(
            self.statements - before.statements,
            self.requests - before.requests,
            self.received - before.received,
            self.sent - before.sent,
        )


class Counting:
    """Counts what is asked of a database, which needs to be one's own, and of a server."""

    def __init__(self, postgresql: PostgreSQL, database: str, s3: S3) -> None:
        self._postgresql = postgresql
        self._database = database
        self._s3 = s3
        postgresql.ask(database, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def count(self, operation: Callable[[], object]) -> Counts:
        """Return what an operation asks for."""
        before = self.read()
        operation()
        return self.read().since(before)

    def read(self) -> Counts:
        """Return everything so far."""
        statements: Counter[str] = Counter()
        for calls, sql in self._postgresql.ask(self._database, _STATEMENTS):
            statements[" ".join(sql.split())] += int(calls)
        self._settle()
        requests: Counter[str] = Counter()
        received = sent = 0
        for name, labels, number in self._metrics():
            amount = int(float(number))
            kind = _TYPE.search(labels)
            if name == "request_total" and kind is not None:
                requests[kind.group(1)] += amount
            elif f'bucket="{BUCKET}"' in labels and name == "bucket_traffic_received_bytes_total":
                received = amount
            elif f'bucket="{BUCKET}"' in labels and name == "bucket_traffic_sent_bytes_total":
                sent = amount
        return Counts(statements, requests, received, sent)

    def _settle(self) -> None:
        """Wait until no request is under way; each is counted before it ceases to be."""
        deadline = time.monotonic() + SETTLING
        while any(
            float(number) for name, _, number in self._metrics() if name == "in_flight_requests"
        ):
            if time.monotonic() > deadline:
                raise RuntimeError("S3 does not come to the end of a request")

    def _metrics(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = _METRIC.findall(
            httpx.get(f"{self._s3.metrics}/metrics").text
        )
        return found


def _is_frame(sql: str) -> bool:
    return sql in FRAMES


def _is_apart(sql: str) -> bool:
    return any(part in sql for part in (ACCESS, CONNECTION, *TASKS))
