"""oras for Python pushes, pulls, attaches, lists and deletes artifacts."""

from __future__ import annotations

from pathlib import Path

import oras.client
import pytest
from oras.oci import Subject

from support.server import RunningRegistry
from support.wire import connect


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file to push, in the current folder, as a chart is pushed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "chart.tgz"
    path.write_bytes(b"a chart" * 1000)
    return path


def test_push_and_pull(
    registry: RunningRegistry, repository: str, chart: Path, tmp_path: Path
) -> None:
    """A file is pushed as an artifact and pulled again."""
    client = oras.client.OrasClient(hostname=registry.address, insecure=True)
    target = f"{registry.address}/{repository}:1.0.0"
    layer = "chart.tgz:application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    answer = client.push(files=[layer], target=target)
    assert answer.status_code == 201
    assert client.get_tags(target) == ["1.0.0"]
    out = tmp_path / "out"
    pulled = client.pull(target=target, outdir=str(out))
    assert [Path(path).read_bytes() for path in pulled] == [chart.read_bytes()]
    assert client.delete_tags(target, "1.0.0") == ["1.0.0"]
    assert client.get_tags(target) == []


def test_chunked(registry: RunningRegistry, repository: str, chart: Path) -> None:
    """A file is pushed in chunks, over one session."""
    client = oras.client.OrasClient(hostname=registry.address, insecure=True)
    target = f"{registry.address}/{repository}:chunked"
    answer = client.push(files=[chart.name], target=target, do_chunked=True, chunk_size=1000)
    assert answer.status_code == 201


def test_attach(registry: RunningRegistry, repository: str, chart: Path) -> None:
    """A signature refers to the artifact, and is found by the referrers API."""
    client = oras.client.OrasClient(hostname=registry.address, insecure=True)
    target = f"{registry.address}/{repository}:1.0.0"
    client.push(files=[chart.name], target=target)
    with connect(registry.url) as plain:
        head = plain.head(f"/v2/{repository}/manifests/1.0.0").headers
        digest = head["Docker-Content-Digest"]
        subject = Subject(head["Content-Type"], digest, int(head["Content-Length"]))
        Path("signature").write_bytes(b"signed")
        client.push(files=["signature"], target=f"{target}-sig", subject=subject)
        listed = plain.get(f"/v2/{repository}/referrers/{digest}").json()["manifests"]
    assert len(listed) == 1
