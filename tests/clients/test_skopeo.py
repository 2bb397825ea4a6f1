"""skopeo copies, inspects, lists and deletes."""

from __future__ import annotations

import json
from pathlib import Path

from clients.conftest import Run
from support.damage import Bytes
from support.homes import Home
from support.layouts import Layout, files_of
from support.server import RunningRegistry, run_portside, running_registry

PLAIN = "--dest-tls-verify=false"
PLAIN_SOURCE = "--src-tls-verify=false"


def test_image_there_and_back(
    run: Run, registry: RunningRegistry, repository: str, tmp_path: Path
) -> None:
    """An image comes back with every byte."""
    layout = Layout(tmp_path / "layout")
    digest = layout.add_image("app", (1000, 200_000, 5_000_000))
    remote = f"docker://{registry.address}/{repository}:1"
    run("skopeo", "copy", f"oci:{layout.root}:app", remote, PLAIN)
    inspected = json.loads(run("skopeo", "inspect", "--tls-verify=false", remote))
    assert inspected["Digest"] == digest
    assert inspected["RepoTags"] == ["1"]
    assert len(inspected["Layers"]) == 3
    run("skopeo", "copy", remote, f"oci:{tmp_path / 'back'}:app", PLAIN_SOURCE)
    assert files_of(tmp_path / "back") == layout.files()


def test_quota(run: Run, data: Path, tmp_path: Path) -> None:
    """A push beyond the quota fails, and skopeo says why; what fits goes on."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[repositories]]\nmatch = "*"\nquota = "100KiB"\n')
    layout = Layout(tmp_path / "layout")
    layout.add_image("small", (1000,))
    layout.add_image("large", (1000, 200_000))
    with running_registry(data, "--rules", str(rules)) as registry:
        for name in ("small", "large"):
            remote = f"docker://{registry.address}/app:{name}"
            copy = ("skopeo", "copy", f"oci:{layout.root}:{name}", remote, PLAIN)
            said = run(*copy, fails=name == "large")
        assert "writing blob: " in said
        assert "denied: the push would exceed the quota of the repository" in said
        listed = run("skopeo", "list-tags", "--tls-verify=false", remote.rpartition(":")[0])
        assert json.loads(listed)["Tags"] == ["small"]


def test_again_and_mounted(
    run: Run, registry: RunningRegistry, repository: str, tmp_path: Path
) -> None:
    """An image is pushed again, and copied to another repository as it is."""
    layout = Layout(tmp_path / "layout")
    digest = layout.add_image("app")
    first = f"docker://{registry.address}/{repository}:1"
    second = f"docker://{registry.address}/{repository}/other:1"
    for _ in range(2):
        run("skopeo", "copy", f"oci:{layout.root}:app", first, PLAIN)
    run("skopeo", "copy", first, second, PLAIN_SOURCE, PLAIN)
    copied = json.loads(run("skopeo", "inspect", "--tls-verify=false", second))
    assert copied["Digest"] == digest


def test_docker_schema_2(
    run: Run, registry: RunningRegistry, repository: str, tmp_path: Path
) -> None:
    """An image in Docker's format is pushed and pulled."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app")
    remote = f"docker://{registry.address}/{repository}:v2s2"
    run("skopeo", "copy", "--format", "v2s2", f"oci:{layout.root}:app", remote, PLAIN)
    raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", remote))
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    run("skopeo", "copy", remote, f"dir:{tmp_path / 'back'}", PLAIN_SOURCE)


def test_every_architecture(
    run: Run, registry: RunningRegistry, repository: str, tmp_path: Path
) -> None:
    """An index is copied with all its images, and back."""
    layout = Layout(tmp_path / "layout")
    digest = layout.add_index("multi", ("amd64", "arm64", "s390x"))
    remote = f"docker://{registry.address}/{repository}:multi"
    run("skopeo", "copy", "--all", f"oci:{layout.root}:multi", remote, PLAIN)
    run("skopeo", "copy", "--all", remote, f"oci:{tmp_path / 'back'}:multi", PLAIN_SOURCE)
    assert files_of(tmp_path / "back") == layout.files()
    by_digest = f"docker://{registry.address}/{repository}@{digest}"
    assert run("skopeo", "inspect", "--raw", "--tls-verify=false", by_digest)


def test_tags_and_delete(
    run: Run, registry: RunningRegistry, repository: str, tmp_path: Path
) -> None:
    """Tags are listed; a deleted image is gone with all its tags."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app")
    name = f"docker://{registry.address}/{repository}"
    for tag in ("a", "b"):
        run("skopeo", "copy", f"oci:{layout.root}:app", f"{name}:{tag}", PLAIN)
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", name))
    assert listed["Tags"] == ["a", "b"]
    run("skopeo", "delete", "--tls-verify=false", f"{name}:a")
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", name))
    assert listed["Tags"] == []
    message = run("skopeo", "inspect", "--tls-verify=false", f"{name}:a", fails=True)
    assert "manifest unknown" in message


def test_sync(run: Run, registry: RunningRegistry, repository: str, tmp_path: Path) -> None:
    """A whole repository is mirrored to a folder."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app")
    name = f"{registry.address}/{repository}"
    for tag in ("a", "b"):
        run("skopeo", "copy", f"oci:{layout.root}:app", f"docker://{name}:{tag}", PLAIN)
    folder = tmp_path / "mirror"
    folder.mkdir()
    run("skopeo", "sync", PLAIN_SOURCE, "--src", "docker", "--dest", "dir", name, str(folder))
    assert len(list(folder.rglob("manifest.json"))) == 2


def test_a_repair_and_a_push(run: Run, data: Path, tmp_path: Path) -> None:
    """A push of the same image replaces a damaged layer once it was dropped, and not before."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app")
    layer = max(layout.files().values(), key=len)
    stored = Bytes(Home(data), layer)
    with running_registry(data) as registry:
        remote = f"docker://{registry.address}/team/app:1"
        push = ("skopeo", "copy", f"oci:{layout.root}:app", remote, PLAIN)
        pull = ("skopeo", "copy", remote, f"oci:{tmp_path / 'back'}:app", PLAIN_SOURCE)
        run(*push)
        stored.flip()
        run(*push)
        run(*pull, fails=True)
        code, printed, _ = run_portside("check", "--repair", "--data", str(data))
        assert code == 1
        assert "needed by team/app:1; its bytes were dropped; push it again" in printed
        run(*push)
        assert stored.read() == layer
        run(*pull)
    assert files_of(tmp_path / "back") == layout.files()
    assert run_portside("check", "--data", str(data))[0] == 0
