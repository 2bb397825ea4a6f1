"""Fixtures for every test: one registry of each dialect for a whole run, a repository per test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from support.homes import DISK, EVERY_KIND, SHARED_DISK, Home
from support.postgres import Server, running_server
from support.server import RunningRegistry, running_registry


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Run a server for all tests of this process."""
    with running_server() as server:
        yield server


MakeHome = Callable[[str], Home]


@pytest.fixture(scope="session")
def make_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeHome:
    """Give a function that makes an empty home of a kind; its servers run for all tests."""

    def make(kind: str) -> Home:
        data = tmp_path_factory.mktemp(kind.replace("+", "-")) / "data"
        if kind == DISK:
            return Home(data)
        postgresql: Server = request.getfixturevalue("postgresql")
        options = ("--database", postgresql.make_database())
        assert kind == SHARED_DISK
        return Home(data, options)

    return make


@pytest.fixture(scope="session")
def registries(make_home: MakeHome) -> Iterator[Callable[[str], RunningRegistry]]:
    """Give a function that serves from a home of a kind, of which there is one for all tests."""
    running: dict[str, RunningRegistry] = {}
    with ExitStack() as stack:

        def serve(kind: str) -> RunningRegistry:
            if kind not in running:
                home = make_home(kind)
                starting = running_registry(home.data, *home.options, env=home.env)
                running[kind] = stack.enter_context(starting)
            return running[kind]

        yield serve


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked with `every_home` over every kind of home."""
    is_marked = metafunc.definition.get_closest_marker("every_home") is not None
    if is_marked and "registry" in metafunc.fixturenames:
        metafunc.parametrize("registry", EVERY_KIND, indirect=True)


@pytest.fixture(scope="session")
def registry(
    request: pytest.FixtureRequest, registries: Callable[[str], RunningRegistry]
) -> RunningRegistry:
    """Serve with the defaults: two workers, the `oci` dialect.

    It is kept on the disk of this machine alone if the test is not marked with `every_home`.
    """
    return registries(getattr(request, "param", DISK))


@pytest.fixture(scope="session")
def acr_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve the dialect of the 2017 description."""
    data = tmp_path_factory.mktemp("acr") / "data"
    with running_registry(data, "--dialect", "acr-2017") as running:
        yield running


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
