"""podman and buildah build, push, pull, and push manifest lists."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from clients.conftest import Run
from support.content import DOCKER_MANIFEST, make_blob
from support.server import RunningRegistry

PLAIN = "--tls-verify=false"


@pytest.fixture
def image(run: Run, storage: list[str], tmp_path: Path, repository: str) -> str:
    """Build an image of three layers from nothing; returns its name."""
    name = f"localhost/{repository}:built"
    lines = ["FROM scratch"]
    for number, size in enumerate((1000, 300_000, 5_000_000)):
        (tmp_path / f"file{number}").write_bytes(make_blob(size, (repository, number)))
        lines.append(f"COPY file{number} /")
    (tmp_path / "Containerfile").write_text("\n".join(lines))
    run("buildah", *storage, "build", "--layers", "--tag", name, str(tmp_path))
    return name


def test_podman_push_and_pull(
    run: Run, storage: list[str], registry: RunningRegistry, repository: str, image: str
) -> None:
    """What podman pushed, podman pulls, and it is the same image."""
    remote = f"{registry.address}/{repository}:1"
    run("podman", *storage, "push", PLAIN, image, remote)
    built = run("podman", *storage, "image", "inspect", "--format", "{{.Id}}", image)
    run("podman", *storage, "rmi", "--all", "--force")
    run("podman", *storage, "pull", PLAIN, remote)
    pulled = run("podman", *storage, "image", "inspect", "--format", "{{.Id}}", remote)
    assert pulled == built


def test_podman_docker_format(
    run: Run,
    storage: list[str],
    registry: RunningRegistry,
    client: httpx.Client,
    repository: str,
    image: str,
) -> None:
    """An image that podman pushes in Docker's format is kept as that, and pulled."""
    remote = f"{registry.address}/{repository}:docker"
    run("podman", *storage, "push", PLAIN, "--format", "v2s2", image, remote)
    stored = client.get(f"/v2/{repository}/manifests/docker", headers={"Accept": "*/*"})
    assert stored.headers["Content-Type"] == DOCKER_MANIFEST
    run("podman", *storage, "pull", PLAIN, remote)


def test_podman_unknown(
    run: Run, storage: list[str], registry: RunningRegistry, repository: str
) -> None:
    """A mistake in the name ends in a message that says what is wrong."""
    remote = f"{registry.address}/{repository}:absent"
    message = run("podman", *storage, "pull", PLAIN, remote, fails=True)
    assert "manifest unknown" in message


def test_podman_search(
    run: Run, storage: list[str], registry: RunningRegistry, repository: str, image: str
) -> None:
    """Tags can be listed by podman."""
    remote = f"{registry.address}/{repository}"
    run("podman", *storage, "push", PLAIN, image, f"{remote}:one")
    found = run("podman", *storage, "search", PLAIN, "--list-tags", remote)
    assert "one" in found


def test_buildah_push_and_pull(
    run: Run, storage: list[str], registry: RunningRegistry, repository: str, image: str
) -> None:
    """What buildah pushed, buildah builds upon."""
    remote = f"{registry.address}/{repository}:1"
    run("buildah", *storage, "push", PLAIN, image, f"docker://{remote}")
    run("buildah", *storage, "rmi", "--all", "--force")
    container = run("buildah", *storage, "from", PLAIN, remote).strip()
    assert container


def test_buildah_manifest_list(
    run: Run, storage: list[str], registry: RunningRegistry, repository: str, image: str
) -> None:
    """A manifest list is pushed with its images."""
    name = f"{repository.replace('/', '-')}-list"
    remote = f"{registry.address}/{repository}:multi"
    run("buildah", *storage, "manifest", "create", name)
    run("buildah", *storage, "manifest", "add", "--arch", "arm64", name, image)
    run("buildah", *storage, "manifest", "push", PLAIN, "--all", name, f"docker://{remote}")
    raw = json.loads(run("skopeo", "inspect", PLAIN, "--raw", f"docker://{remote}"))
    assert [item["platform"]["architecture"] for item in raw["manifests"]] == ["arm64"]
