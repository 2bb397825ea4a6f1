"""Content to push: blobs, image manifests, indexes and artifacts, made from a seed."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Compute a digest without using the code under test."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def make_blob(size: int, seed: object) -> bytes:
    """Make bytes that no other seed makes."""
    return random.Random(repr(seed)).randbytes(size)


def descriptor(content: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    """Describe content."""
    return {
        "mediaType": media_type,
        "digest": digest_of(content, algorithm),
        "size": len(content),
    }


@dataclass(frozen=True)
class Content:
    """A manifest with its blobs, and the manifests that have to be pushed before it."""

    manifest: bytes
    media_type: str
    blobs: list[bytes] = field(default_factory=list)
    children: list[Content] = field(default_factory=list)
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return digest_of(self.manifest, self.algorithm)

    @property
    def descriptor(self) -> dict[str, Any]:
        """The manifest as an index or a subject names it."""
        return descriptor(self.manifest, self.media_type, self.algorithm)


def image(
    seed: object,
    *,
    layers: int = 2,
    layer_size: int = 100,
    algorithm: str = "sha256",
    docker: bool = False,
    **fields: Any,
) -> Content:
    """Make an image manifest; `fields` are added to its document."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "seed": repr(seed)}).encode()
    blobs = [make_blob(layer_size, (seed, number)) for number in range(layers)]
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, DOCKER_CONFIG if docker else OCI_CONFIG, algorithm),
        "layers": [
            descriptor(blob, DOCKER_LAYER if docker else OCI_LAYER, algorithm) for blob in blobs
        ],
        **fields,
    }
    manifest = json.dumps(document, indent=1).encode()
    return Content(manifest, media_type, [config, *blobs], algorithm=algorithm)


def index(*children: Content, docker: bool = False, **fields: Any) -> Content:
    """Make an index of other content."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [
            {**child.descriptor, "platform": {"architecture": f"arch{number}", "os": "linux"}}
            for number, child in enumerate(children)
        ],
        **fields,
    }
    return Content(json.dumps(document).encode(), media_type, children=list(children))


def artifact(
    seed: object, artifact_type: str = "application/vnd.example+type", **fields: Any
) -> Content:
    """Make an artifact in the shape of an image manifest with the empty config."""
    blob = make_blob(64, ("artifact", seed))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(b"{}", OCI_EMPTY),
        "layers": [descriptor(blob, "application/vnd.example.data")],
        **fields,
    }
    return Content(json.dumps(document).encode(), OCI_MANIFEST, [b"{}", blob])
