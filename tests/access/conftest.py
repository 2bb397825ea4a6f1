"""A registry with access control, and clients that are somebody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.access import ALICE, guarded_registry
from support.commands import Commands
from support.content import image
from support.server import RunningRegistry
from support.wire import connect, push


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve the identities of `support.access`, with an image in three repositories."""
    data: Path = tmp_path_factory.mktemp("guarded") / "data"
    with guarded_registry(data, "--access-log", "--login-failures", "0") as registry:
        with connect(registry.url, auth=ALICE.pair) as client:
            for repository in ("team/app", "secret/app", "public/app"):
                push(client, repository, image(repository), "v1")
        yield registry


@pytest.fixture
def nobody(guarded: RunningRegistry) -> Iterator[httpx.Client]:
    """Send no credentials."""
    with connect(guarded.url) as client:
        yield client


@pytest.fixture
def alice(guarded: RunningRegistry) -> Iterator[httpx.Client]:
    """Be alice, who may do everything."""
    with connect(guarded.url, auth=ALICE.pair) as client:
        yield client


@pytest.fixture
def commands(guarded: RunningRegistry) -> Commands:
    """Run commands on the data of the registry."""
    return Commands(guarded.data)
