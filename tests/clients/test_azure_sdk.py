"""Microsoft's azure-containerregistry pushes and pulls, over TLS."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from azure.containerregistry import ContainerRegistryClient
from azure.core.exceptions import ResourceNotFoundError

from support.certificates import write_certificate
from support.content import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, make_blob
from support.server import running_registry


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistryClient]:
    """Connect the anonymous client to a registry that serves TLS."""
    folder = tmp_path_factory.mktemp("azure")
    certificate, key = write_certificate(folder)
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with (
        running_registry(folder / "data", *options) as registry,
        ContainerRegistryClient(
            registry.url, api_version="2021-07-01", connection_verify=str(certificate)
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("size", [0, 10, 10_000_000])
def test_blobs(sdk: ContainerRegistryClient, repository: str, size: int) -> None:
    """A blob goes up in chunks without ranges, and comes down in ranges."""
    content = make_blob(size, repository)
    digest, uploaded = sdk.upload_blob(repository, io.BytesIO(content))
    assert uploaded == size
    if size:  # the SDK itself cannot download an empty blob: it asks for bytes 0 to 4 MiB
        assert b"".join(sdk.download_blob(repository, digest)) == content
    sdk.delete_blob(repository, digest)
    with pytest.raises(ResourceNotFoundError):
        list(sdk.download_blob(repository, digest))


def test_manifests(sdk: ContainerRegistryClient, repository: str) -> None:
    """A manifest is set, read by tag and digest, and deleted."""
    config, layer = b'{"architecture": "amd64"}', make_blob(1000, repository)
    config_digest, _ = sdk.upload_blob(repository, io.BytesIO(config))
    layer_digest, _ = sdk.upload_blob(repository, io.BytesIO(layer))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": OCI_LAYER, "digest": layer_digest, "size": len(layer)}],
    }
    digest = sdk.set_manifest(repository, document, tag="v1", media_type=OCI_MANIFEST)
    for reference in ("v1", digest):
        result = sdk.get_manifest(repository, reference)
        assert result.digest == digest
        assert result.media_type == OCI_MANIFEST
        assert result.manifest == document
    assert json.loads(json.dumps(document)) == document
    sdk.delete_manifest(repository, digest)
    with pytest.raises(ResourceNotFoundError):
        sdk.get_manifest(repository, "v1")
