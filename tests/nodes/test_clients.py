"""Real clients, at the balancer: they do not know how many nodes there are."""

from __future__ import annotations

import json
from pathlib import Path

from clients.conftest import Run
from support.layouts import Layout, files_of
from support.nodes import Cluster

PLAIN = "--tls-verify=false"


def test_skopeo(run: Run, cluster: Cluster, repository: str, tmp_path: Path) -> None:
    """An image for three architectures comes back with every byte, and is copied between names."""
    layout = Layout(tmp_path / "layout")
    digest = layout.add_index("multi", ("amd64", "arm64", "s390x"))
    remote = f"docker://{cluster.balancer.address}/{repository}"
    there, back = "--dest-tls-verify=false", "--src-tls-verify=false"
    run("skopeo", "copy", "--all", f"oci:{layout.root}:multi", f"{remote}:v1", there)
    run("skopeo", "copy", "--all", f"{remote}:v1", f"{remote}/copy:v2", there, back)
    run("skopeo", "copy", "--all", f"{remote}/copy:v2", f"oci:{tmp_path / 'back'}:multi", back)
    assert files_of(tmp_path / "back") == layout.files()
    run("skopeo", "delete", PLAIN, f"{remote}@{digest}")
    assert json.loads(run("skopeo", "list-tags", PLAIN, remote))["Tags"] == []


def test_podman(
    run: Run, storage: list[str], cluster: Cluster, repository: str, tmp_path: Path
) -> None:
    """What podman pushed in several layers, podman pulls, and it is the same image."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app", (1000, 300_000, 5_000_000))
    remote = f"{cluster.balancer.address}/{repository}:v1"
    image = run("podman", *storage, "pull", f"oci:{layout.root}:app").strip()
    run("podman", *storage, "push", PLAIN, image, remote)
    run("podman", *storage, "rmi", "--all", "--force")
    pulled = run("podman", *storage, "pull", PLAIN, remote).strip()
    assert pulled == image
