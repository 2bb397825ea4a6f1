"""How the two registries are set up while they are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError
from servers import ServerMissing
from servers.postgresql import PostgreSQL, running_postgresql
from servers.seaweedfs import S3, running_s3


class Setup(Enum):
    """Where they keep their content, and how they are reached.

    LOCAL and SECURE, which is over TLS, keep it on the disk. The others keep it in S3, and Portside
    its metadata in PostgreSQL: STREAMED sends blobs itself, and REDIRECTED sends clients on to S3.
    """

    LOCAL = auto()
    SECURE = auto()
    STREAMED = auto()
    REDIRECTED = auto()


class Backends(NamedTuple):
    """The servers in which the content is kept; Debian's PostgreSQL flushes what it commits."""

    postgresql: PostgreSQL
    s3: S3


@contextmanager
def running_backends(folder: Path) -> Iterator[Backends]:
    """Start them for the length of a block; raises BenchError."""
    folder.mkdir()
    try:
        with running_postgresql({}) as postgresql, running_s3(folder) as s3:
            yield Backends(postgresql, s3)
    except ServerMissing as error:
        raise BenchError(str(error)) from error
