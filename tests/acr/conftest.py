"""A client of ACR's own API, which challenges requests without credentials."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from support.server import RunningRegistry
from support.wire import connect


@pytest.fixture
def client(registry: RunningRegistry) -> Iterator[httpx.Client]:
    """Talk to the registry that all tests share; any token does, as it is open."""
    headers = {"Authorization": "Bearer any"}
    with connect(registry.url, headers=headers) as client:
        yield client
