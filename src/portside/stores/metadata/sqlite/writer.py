"""The one thread of a process that writes to SQLite.

SQLite lets one connection write at a time. A lock on a file decides which process that is: the
system wakes a waiting process at once, where SQLite's own busy handler would sleep and ask again.
All jobs that are waiting share one transaction, and so one wait for the disk; each has a savepoint
of its own, so that a refused one does not disturb the others. A transaction ends early after a job
that has something to do once it is committed.

A job is a coroutine that never suspends: one `send` runs it to its end.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic

from portside.spec.errors import StorageFull
from portside.stores.interfaces import Undo
from portside.stores.metadata.engine import Job, Result
from portside.stores.metadata.sqlite.faults import translate
from portside.stores.metadata.sqlite.transactions import SqliteTransaction

MAX_BATCH = 64
"""Jobs in one transaction, so that the first of them does not wait too long."""

log = logging.getLogger(__name__)


class _Pending(Generic[Result]):
    """A job that waits for its turn, or for its commit."""

    def __init__(self, job: Job[Result]) -> None:
        self.job = job
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()
        self.result: Result | None = None
        self.error: BaseException | None = None

    def deliver(self) -> None:
        """Hand the outcome to the event loop that waits for it, if it still runs."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]


class Writer:
    """Runs jobs, in transactions, in the order in which they came.

    `connect` opens the connection in the thread that will use it; `clock` returns microseconds
    since 1970; `lock` is the file that the writers of all processes lock. `make_room` tells whether
    a transaction that failed may be tried again, because the disk was full and no longer is.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        lock: Path,
        clock: Callable[[], int],
        make_room: Callable[[Exception], bool],
    ) -> None:
        self._connect = connect
        self._make_room = make_room
        self._clock = clock
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._connection: sqlite3.Connection | None = None
        self.retries = 0
        self._pending: queue.SimpleQueue[_Pending[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="portside-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Job[Result]) -> Result:
        """Run a job in a transaction; return when it is committed.

        Raises what the job raises, and Unavailable or StorageFull.
        """
        pending = _Pending(job)
        self._pending.put(pending)
        return await pending.future

    @property
    def queued(self) -> int:
        """How many jobs wait for the next transaction."""
        return self._pending.qsize()

    def close(self) -> None:
        """Finish the jobs that are waiting, and stop."""
        self._pending.put(None)
        self._thread.join()
        os.close(self._lock)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                while batch:
                    self._run_transaction(batch)
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._abandon()

    def _next_batch(self) -> deque[_Pending[Any]] | None:
        """Wait for a job, and take those that wait with it; None when it is time to stop."""
        first = self._pending.get()
        if first is None:
            return None
        batch = deque([first])
        while len(batch) < MAX_BATCH:
            try:
                job = self._pending.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._pending.put(None)
                break
            batch.append(job)
        return batch

    def _run_transaction(self, batch: deque[_Pending[Any]]) -> None:
        """Take jobs off the batch, and commit them together.

        A job with something to do after the commit is the last of its transaction: no other job may
        come between the two.
        """
        taken: list[_Pending[Any]] = []
        undos: list[Undo] = []
        try:
            connection = self._connection = self._connection or self._connect()
            connection.execute("BEGIN IMMEDIATE")
            finishing: list[Callable[[], None]] = []
            while batch and not finishing:
                taken.append(batch.popleft())
                transaction = _run_job(connection, taken[-1], self._clock())
                finishing, undos = transaction.finishing, undos + transaction.undos
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # the thread must outlive any job
            self._abandon()
            if self._make_room(error):
                self.retries += 1
                _return_jobs(taken, batch, undos)
                return
            if not taken:
                taken.extend(batch)
                batch.clear()
            self._fail(taken, undos, error)
            return
        for finish in finishing:
            _finish(finish)
        for job in taken:
            job.deliver()

    def _fail(self, taken: list[_Pending[Any]], undos: list[Undo], error: Exception) -> None:
        """Fail every job of a transaction."""
        told = translate(error) if isinstance(error, sqlite3.Error) else error
        if isinstance(told, StorageFull):
            # A commit that found no room will not turn out to be durable after a crash, and the
            # bytes that were placed for it take the room of others.
            for undo in undos:
                undo()
        for job in taken:
            job.error = job.error or told
            job.deliver()

    def _abandon(self) -> None:
        """Close the connection: the next transaction opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _return_jobs(
    taken: list[_Pending[Any]], batch: deque[_Pending[Any]], undos: list[Undo]
) -> None:
    """Put the jobs of a transaction that was rolled back at the head of the batch again."""
    for undo in undos:
        undo()
    for job in taken:
        job.error = None
    batch.extendleft(reversed(taken))


def _run_job(connection: sqlite3.Connection, pending: _Pending[Any], now: int) -> SqliteTransaction:
    """Run a job after a savepoint; an error is the job's own, unless SQLite itself fails."""
    transaction = SqliteTransaction(connection, now)
    connection.execute("SAVEPOINT job")
    try:
        pending.result = _driven(pending.job(transaction))
    except sqlite3.IntegrityError as error:
        pending.error = translate(error)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  # other jobs of the transaction go on
        pending.error = error
    if pending.error is not None:
        connection.execute("ROLLBACK TO job")
        transaction.finishing.clear()
    connection.execute("RELEASE job")
    return transaction


def _driven(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; raises what it raises."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    work.close()
    raise RuntimeError("a transaction of SQLite has nothing to wait for")


def _finish(function: Callable[[], None]) -> None:
    """Run what was left for after the commit; for clients, the job is done already."""
    try:
        function()
    except Exception as error:  # noqa: BLE001  # the thread must outlive it
        log.warning("%s; run `portside check` to find what was left", error)
