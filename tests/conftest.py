"""Fixtures for every test: one registry of each dialect for a whole run, a repository per test."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.azure import Azure, running_azure
from support.postgres import Server, running_server
from support.s3 import S3, running_s3
from support.server import RunningRegistry, running_registry


def pytest_configure() -> None:
    """Keep bytecode on disk, whatever the environment says.

    Hundreds of processes are started here, and each would compile all of Portside anew.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take long, so that no worker waits for another one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve with the defaults: two workers, the `oci` dialect."""
    with running_registry(tmp_path_factory.mktemp("oci") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def acr_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve the dialect of the 2017 description."""
    data = tmp_path_factory.mktemp("acr") / "data"
    with running_registry(data, "--dialect", "acr-2017") as running:
        yield running


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Run a PostgreSQL for all tests of this process."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Serve S3, for all tests of this process."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """Serve Azure Blob Storage, for all tests of this process."""
    with running_azure(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def client(registry: RunningRegistry) -> Iterator[httpx.Client]:
    """Talk to the registry that all tests share."""
    with httpx.Client(base_url=registry.url, timeout=30) as client:
        yield client


@pytest.fixture
def acr_client(acr_registry: RunningRegistry) -> Iterator[httpx.Client]:
    """Talk to the registry that speaks the 2017 dialect."""
    with httpx.Client(base_url=acr_registry.url, timeout=30) as client:
        yield client


@pytest.fixture
def repository() -> str:
    """Name a repository that no other test uses."""
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Name a data directory that does not exist yet."""
    return tmp_path / "data"
