"""A real PostgreSQL for tests, which begins empty and is thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HOMES = Path("/usr/lib/postgresql")
"""Where Debian keeps its versions; none of them is on the PATH."""

UNSAFE = {"fsync": "off", "full_page_writes": "off"}
"""Quicker, for a server that is never started again after a crash."""

SETTINGS = {
    # The store must not rely on what it finds here.
    "synchronous_commit": "off",
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "deadlock_timeout": "200ms",
    "client_min_messages": "warning",
}


def find_programs() -> Path:
    """Give the directory of the newest PostgreSQL; skips the test if there is none, but in CI."""
    found = sorted(HOMES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    missing = "there is no PostgreSQL; `make test` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


class Server:
    """A server in a directory, reached by a socket that stands there too.

    A durable one has, after a crash, all that it had committed.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self._settings = SETTINGS if durable else {**SETTINGS, **UNSAFE}
        self._programs = find_programs()
        self._as: list[str] = []
        if os.geteuid() == 0:
            # PostgreSQL does not run as root.
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            self._as += ["--clear-groups"]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

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
        """Give the address of a database."""
        return f"postgresql://portside@/{database}?host={self.folder}"

    def make_database(self) -> str:
        """Make an empty database; gives its address."""
        name = f"test_{uuid.uuid4().hex}"
        self._run(
            "psql", "-X", "-q", "-h", str(self.folder), "-U", "portside", "-d", "postgres",
            "-c", f"CREATE DATABASE {name} TEMPLATE template0",
        )  # fmt: skip
        return self.url(name)


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[Server]:
    """Run a server for the length of a block."""
    # The path of a socket is short, and the directory must be reachable for another user.
    folder = Path(tempfile.mkdtemp(prefix="portside-pg-", dir="/tmp"))
    try:
        server = Server(folder, durable=durable)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
