"""Fixtures for every test: one registry of each dialect for a whole run, a repository per test."""

from __future__ import annotations

import gc
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings

from support.azure import CONTAINER, Azure, running_azure
from support.homes import DISK, KINDS, ON_S3, Home
from support.memory import scratch
from support.postgres import Server, running_server
from support.s3 import BUCKET, S3, running_s3
from support.server import RunningRegistry, running_registry
from support.wire import connect


def pytest_configure() -> None:
    """Prepare what makes hundreds of servers quick, and give examples the time they take.

    How long an example takes says more about the machine than about the code.
    """
    # Each process would compile all of Portside anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # No schema here has the format of IRIs, which jsonschema takes two seconds to prepare for; and
    # httpx looks for sniffio, which is not there, before each request to an application.
    for name in ("rfc3987_syntax", "sniffio"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    # Most tests are about what a registry does, not about the disk that it waits for.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(scratch()))
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("patient", patient)
    settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Keep what was collected, which stays to the end, out of each collection of garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no worker waits for another one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


MakeHome = Callable[[str], Home]


@pytest.fixture(scope="session")
def make_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeHome:
    """Return a function that makes an empty home of a kind; its servers run for all tests."""

    def make(kind: str) -> Home:
        data = tmp_path_factory.mktemp(kind.replace("+", "-")) / "data"
        if kind == DISK:
            return Home(data)
        postgresql: Server = request.getfixturevalue("postgresql")
        server: S3 | Azure = request.getfixturevalue("s3" if kind == ON_S3 else "azure")
        scheme, bucket = ("s3", BUCKET) if kind == ON_S3 else ("az", CONTAINER)
        storage = f"{scheme}://{bucket}/{uuid.uuid4().hex}"
        return Home(data, postgresql.make_database(), storage, server.environment)

    return make


@pytest.fixture(scope="session")
def registries(make_home: MakeHome) -> Iterator[Callable[[str], RunningRegistry]]:
    """Return a function that serves from a home of a kind; all tests share one of each kind."""
    running: dict[str, RunningRegistry] = {}
    with ExitStack() as stack:

        def serve(kind: str) -> RunningRegistry:
            if kind not in running:
                home = make_home(kind)
                # Redirects have tests of their own.
                redirect = ("--redirect", "never")
                starting = running_registry(home.data, *home.options, *redirect, env=home.env)
                running[kind] = stack.enter_context(starting)
            return running[kind]

        yield serve


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run marked tests over all kinds of homes of their marker."""
    is_single = metafunc.definition.get_closest_marker("one_home") is not None
    if is_single or "registry" not in metafunc.fixturenames:
        return
    for marker, kinds in KINDS.items():
        if metafunc.definition.get_closest_marker(marker) is not None:
            metafunc.parametrize("registry", kinds, indirect=True)


@pytest.fixture(scope="session")
def registry(
    request: pytest.FixtureRequest, registries: Callable[[str], RunningRegistry]
) -> RunningRegistry:
    """Serve with the defaults: two workers, the `oci` dialect.

    It is kept on the disk of this machine alone if the test has no marker that says otherwise.
    """
    return registries(getattr(request, "param", DISK))


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
    with connect(registry.url) as client:
        yield client


@pytest.fixture
def acr_client(acr_registry: RunningRegistry) -> Iterator[httpx.Client]:
    """Talk to the registry that speaks the 2017 dialect."""
    with connect(acr_registry.url) as client:
        yield client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests and fixtures on asyncio's own event loop.

    Every test has a loop of its own, shared with its async fixtures: no async fixture may have a
    wider scope than one test.
    """
    return "asyncio"


@pytest.fixture
def repository() -> str:
    """Name a repository that no other test uses."""
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Name a data directory that does not exist yet."""
    return tmp_path / "data"
