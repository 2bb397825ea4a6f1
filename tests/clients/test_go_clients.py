"""helm, cosign and libtrust push, pull, sign and verify, where `make go-clients` has built them.

Building them takes longer than all other tests together, so `make test` does not.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from clients.conftest import Run
from support.content import digest_of, image, index
from support.go_clients import built
from support.schema1 import SIGNED
from support.schema1 import built as built_image
from support.server import RunningRegistry
from support.wire import ONCE, connect, push

CHART = """
apiVersion: v2
name: app
version: 0.1.0
"""


def test_helm(run: Run, registry: RunningRegistry, repository: str, tmp_path: Path) -> None:
    """A chart is packaged, pushed, shown and pulled."""
    helm = built("helm")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Chart.yaml").write_text(CHART)
    run(helm, "package", "app")
    charts = f"oci://{registry.address}/{repository}"
    run(helm, "push", "--plain-http", "app-0.1.0.tgz", charts)
    chart = (f"{charts}/app", "--version", "0.1.0", "--plain-http")
    assert "name: app" in run(helm, "show", "chart", *chart)
    packaged = (tmp_path / "app-0.1.0.tgz").rename(tmp_path / "packaged.tgz")
    run(helm, "pull", *chart)
    assert (tmp_path / "app-0.1.0.tgz").read_bytes() == packaged.read_bytes()


@pytest.mark.parametrize("is_referrer", [False, True])
def test_cosign(
    run: Run,
    registry: RunningRegistry,
    repository: str,
    *,
    is_referrer: bool,
) -> None:
    """An image is signed under a tag or as a referrer; a signature under a tag is verified."""
    cosign = ("env", "COSIGN_PASSWORD=secret", "COSIGN_EXPERIMENTAL=1", built("cosign"))
    content = image(repository)
    with connect(registry.url) as client:
        push(client, repository, content, "1")
    name = f"{registry.address}/{repository}@{content.digest}"
    run(*cosign, "generate-key-pair")
    options = ["--tlog-upload=false", "--allow-http-registry", "--yes"]
    if is_referrer:
        options += ["--registry-referrers-mode", "oci-1-1"]
    run(*cosign, "sign", "--key", "cosign.key", *options, name)
    if is_referrer:
        listed = httpx.get(
            f"{registry.url}/v2/{repository}/referrers/{content.digest}", **ONCE
        ).json()
        types = [entry["artifactType"] for entry in listed["manifests"]]
        assert types == ["application/vnd.dev.cosign.artifact.sig.v1+json"]
    else:
        check = ("--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry")
        assert content.digest in run(*cosign, "verify", *check, name)


@pytest.mark.parametrize("is_index", [False, True])
def test_libtrust(registry: RunningRegistry, repository: str, *, is_index: bool) -> None:
    """Docker's own library verifies a manifest of schema 1; its payload has the digest sent."""
    libtrust = built("libtrust")
    content = built_image(repository)
    with connect(registry.url) as client:
        push(client, repository, index(content) if is_index else content, "1")
        asking = {"Accept": SIGNED}
        got = client.get(f"/v2/{repository}/manifests/1", headers=asking)
    done = subprocess.run([libtrust], input=got.content, capture_output=True, check=True)
    assert digest_of(done.stdout) == got.headers["Docker-Content-Digest"]
    forged = got.content.replace(b'"tag": "1"', b'"tag": "2"')
    assert forged != got.content
    assert subprocess.run([libtrust], input=forged, capture_output=True, check=False).returncode
