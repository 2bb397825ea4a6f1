"""Docker's command line logs in, and reads and pushes manifests: what it does without a daemon."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clients.conftest import Run
from support.access import ALICE, guarded_registry
from support.content import image
from support.server import RunningRegistry
from support.wire import connect, push


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve with access control."""
    with guarded_registry(tmp_path_factory.mktemp("docker") / "data") as running:
        yield running


@pytest.fixture
def docker_config(run: Run, guarded: RunningRegistry, tmp_path: Path) -> Path:
    """Log in; returns the file with the credentials."""
    run("docker", "login", "--username", ALICE.name, "--password", ALICE.password, guarded.address)
    return tmp_path / "home" / ".docker" / "config.json"


def test_login(docker_config: Path, guarded: RunningRegistry) -> None:
    """What is stored can be used by everything that reads a name and a password from there."""
    stored = json.loads(docker_config.read_text())["auths"][guarded.address]
    assert set(stored) == {"auth"}
    assert base64.b64decode(stored["auth"]).decode() == ALICE.text


def test_wrong_password(run: Run, guarded: RunningRegistry) -> None:
    """A wrong password is refused."""
    wrong = ("--username", ALICE.name, "--password", "not alice's password")
    assert "unauthorized" in run("docker", "login", *wrong, guarded.address, fails=True)


@pytest.mark.usefixtures("docker_config")
def test_manifests(run: Run, guarded: RunningRegistry, repository: str) -> None:
    """Two images, in the one format that Debian 12's version reads, are joined in a list."""
    names = [f"{guarded.address}/{repository}:{tag}" for tag in ("amd64", "arm64")]
    with connect(guarded.url, auth=ALICE.pair) as client:
        for name in names:
            push(client, repository, image(name, docker=True), name.rpartition(":")[2])
    index = f"{guarded.address}/{repository}:all"
    run("docker", "manifest", "create", "--insecure", index, *names)
    run("docker", "manifest", "push", "--insecure", index)
    inspected = json.loads(run("docker", "manifest", "inspect", "--insecure", index))
    with connect(guarded.url, auth=ALICE.pair) as client:
        digests = [digest_at(client, repository, tag) for tag in ("amd64", "arm64")]
    assert [entry["digest"] for entry in inspected["manifests"]] == digests


def digest_at(client: httpx.Client, repository: str, tag: str) -> str:
    """Return what a tag points to."""
    digest: str = client.head(f"/v2/{repository}/manifests/{tag}").headers["Docker-Content-Digest"]
    return digest
