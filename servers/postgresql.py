"""A real PostgreSQL, which begins empty and is thrown away."""

from __future__ import annotations

import csv
import io
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from servers import ServerMissing

HOMES = Path("/usr/lib/postgresql")
"""Where Debian keeps its versions; none of them is on the PATH."""

SHORT = Path("/tmp")  # noqa: S108
"""Where a server is kept unless it says otherwise: the path of a socket has to be short."""

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "client_min_messages": "warning",
    # It counts statements, for tests and benchmarks that ask for it.
    "shared_preload_libraries": "pg_stat_statements",
}

COPIES_PAGES = 15
"""The first version that copies a database page by page, unless it is told otherwise: to copy the
files takes half the time where nothing is written to a disk."""

HASTY = {
    "fsync": "off",
    "full_page_writes": "off",
    # The store must not rely on what it finds here.
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "deadlock_timeout": "200ms",
    # Each of hundreds of databases would be looked at by a process of its own, again and again.
    "autovacuum": "off",
}
"""For tests: nothing is kept if the machine stops."""


def find_programs() -> Path:
    """Return the directory of the newest PostgreSQL; raises ServerMissing."""
    found = sorted(HOMES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    raise ServerMissing("there is no PostgreSQL; `make test` and `make bench` install it")


class PostgreSQL:
    """A server in a directory, reached by a socket in the same directory.

    `settings` are those that differ from its own.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._settings = {**SETTINGS, **settings}
        self._programs = find_programs()
        self._as: list[str] = []
        if os.geteuid() == 0:
            # PostgreSQL does not run as root.
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            self._as += ["--clear-groups"]

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}")
        return done.stdout

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def create(self) -> None:
        """Make an empty cluster."""
        options = ("--auth=trust", "--username=portside", "--encoding=UTF8", "--no-sync")
        # A locale in which "a" is before "B" shows what depends on it.
        self._run("initdb", "--locale-provider=icu", "--icu-locale=en", *options, "-D", self._data)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        options += f" -k {self.folder}"
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "-w", "-s", "-D", self._data, "-l", log, "-o", options)

    def stop(self) -> None:
        """Stop at once, as a crash does; connections are cut off."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", self._data)

    def restart(self, mode: str) -> None:
        """Stop in one of the modes of pg_ctl, and start again."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", self._data)
        self.start()

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://portside@/{database}?host={self.folder}"

    def processor_time(self) -> float:
        """Return the seconds that its processes have taken so far, those that ended included."""
        main = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        ticks = 0
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):
                # The name of the program before it may contain anything.
                fields = file.read_text().rpartition(")")[2].split()
                if main in (int(file.parent.name), int(fields[1])):
                    ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def make_database(self, like: str = "template0") -> str:
        """Make an empty database, or a copy of another one; returns its address."""
        name = f"test_{uuid.uuid4().hex}"
        self.ask(self.url(), self.creation(name, like))
        return self.url(name)

    def creation(self, name: str, like: str) -> str:
        """Return the statement that makes a copy of a database."""
        # Versions before 15 copy files, and know no other way.
        strategy = " STRATEGY FILE_COPY" if int(self._programs.parts[-2]) >= COPIES_PAGES else ""
        return f"CREATE DATABASE {name} TEMPLATE {like}{strategy}"

    def ask(self, url: str, sql: str) -> list[list[str]]:
        """Run a statement in the database of an address; returns its rows, all of them as text."""
        printed = self._run("psql", "-X", "-q", "-t", "--csv", "-d", url, "-c", sql)
        return list(csv.reader(io.StringIO(printed)))


@contextmanager
def running_postgresql(settings: Mapping[str, str], below: Path = SHORT) -> Iterator[PostgreSQL]:
    """Run a server for the length of a block; raises ServerMissing.

    Its folder is made below a directory that other users can reach.
    """
    folder = Path(tempfile.mkdtemp(prefix="portside-pg-", dir=below))
    try:
        server = PostgreSQL(folder, settings)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
