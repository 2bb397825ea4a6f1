"""Fixtures for every test: one registry of each dialect for a whole run, a repository per test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.s3 import S3, find_rclone, running_s3
from support.server import RunningRegistry, running_registry


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
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Serve S3; on a machine that has no server for it, only the continuous integration minds."""
    rclone = find_rclone()
    if rclone is None:
        missing = "no rclone with `serve s3`: go install github.com/rclone/rclone@latest"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with running_s3(rclone, tmp_path_factory.mktemp("s3")) as server:
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
