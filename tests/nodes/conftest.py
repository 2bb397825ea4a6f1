"""Three nodes behind nginx, for all tests that leave them alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from clients.conftest import run, storage
from support.homes import SHARED_DISK, Home
from support.nodes import Cluster, running_cluster
from support.postgres import Server, running_server

__all__ = ["run", "storage"]


@pytest.fixture(scope="session")
def kind() -> str:
    """Say where the nodes keep the registry."""
    return SHARED_DISK


@pytest.fixture(scope="session")
def cluster(
    make_home: Callable[[str], Home], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Serve from three nodes; no test stops one of these."""
    with running_cluster(make_home(kind), tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def database() -> Iterator[Server]:
    """Run a server that tests stop, and which keeps what it has committed through a crash."""
    with running_server(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def mortal(database: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Serve from three nodes that tests stop; each test leaves them running."""
    folder = tmp_path_factory.mktemp("mortal")
    home = Home(folder / "data", ("--database", database.make_database()))
    with running_cluster(home, folder) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    """Talk to the balancer."""
    with httpx.Client(base_url=cluster.url, timeout=30, follow_redirects=True) as client:
        yield client
