"""How the two registries are set up while they are compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from bench.docker_registry import DockerRegistry, DockerRegistryInS3
from bench.peer import Certificate, Pair, make_certificate
from bench.portside import Place, Portside, PortsideNode
from bench.programs import BenchError
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


@contextmanager
def running_pair(folder: Path, setup: Setup, backends: Backends | None = None) -> Iterator[Pair]:
    """Serve empty stores with both registries for the length of a block; then remove them.

    What they keep in `backends` stays.
    """
    folder.mkdir()
    if backends is None:
        pair = _local_pair(folder, make_certificate(folder) if setup is Setup.SECURE else None)
    else:
        pair = _pair_on(backends, folder, setup)
    try:
        for peer in pair:
            peer.start()
        yield pair
    finally:
        for peer in pair:
            peer.stop()
        shutil.rmtree(folder)


def _local_pair(folder: Path, certificate: Certificate | None) -> Pair:
    return Pair(
        DockerRegistry(folder / "docker", certificate), Portside(folder / "portside", certificate)
    )


def _pair_on(backends: Backends, folder: Path, setup: Setup) -> Pair:
    place = Place(backends.postgresql.make_database(), backends.s3, setup.name.lower())
    redirects = setup is Setup.REDIRECTED
    return Pair(
        DockerRegistryInS3(folder / "docker", backends.s3, redirects=redirects),
        PortsideNode(folder / "portside", place, redirects=redirects),
    )
