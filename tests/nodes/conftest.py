"""Three nodes behind nginx, for all tests that leave them alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from clients.conftest import run, storage
from support.faulty_http import Faulty, faulty
from support.homes import ON_S3, Home
from support.nodes import Cluster, running_cluster
from support.postgres import Server, running_server
from support.s3 import BUCKET, S3
from support.wire import connect

__all__ = ["run", "storage"]


@pytest.fixture(scope="session")
def kind() -> str:
    """Return the kind of home that the nodes share."""
    return ON_S3


@pytest.fixture(scope="session")
def cluster(
    make_home: Callable[[str], Home], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Serve from three nodes; no test stops one of these."""
    with running_cluster(make_home(kind), tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def database() -> Iterator[Server]:
    """Run a server that tests stop; what it has committed survives a crash."""
    with running_server(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def way(s3: S3) -> Iterator[Faulty]:
    """Run a proxy of the object store that tests make fail."""
    with faulty(s3.endpoint) as way:
        yield way


@pytest.fixture(scope="session")
def mortal(
    database: Server, way: Faulty, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Serve from three nodes that tests stop; each test leaves all of it running."""
    folder = tmp_path_factory.mktemp("mortal")
    storage = (f"s3://{BUCKET}/mortal", S3.environment_at(way.url))
    home = Home(folder / "data", database.make_database(), *storage)
    # Uploads that a killed node held are released soon.
    options = ("--redirect", "never", "--upload-hold-timeout", "0.5", "--probe-interval", "0")
    with running_cluster(home, folder, *options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    """Talk to the balancer."""
    with connect(cluster.url, follow_redirects=True) as client:
        yield client
