"""OCI layouts on disk, as skopeo and buildah read and write them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, make_blob

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def _layer(size: int, seed: object) -> tuple[bytes, str]:
    """Make a compressed layer with one file; returns it with the digest of what it holds."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(f"file-{seed}".replace("/", "_"))
        member.size = size
        archive.addfile(member, io.BytesIO(make_blob(size, seed)))
    plain = packed.getvalue()
    diff_id = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    return gzip.compress(plain, compresslevel=1, mtime=0), diff_id


class Layout:
    """An OCI layout that is being written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs" / "sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._manifests: list[dict[str, Any]] = []

    def _add(self, content: bytes, media_type: str) -> dict[str, Any]:
        encoded = hashlib.sha256(content).hexdigest()
        (self.root / "blobs" / "sha256" / encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}

    def _name(self, descriptor: dict[str, Any], name: str) -> None:
        annotations = {"org.opencontainers.image.ref.name": name}
        self._manifests.append({**descriptor, "annotations": annotations})
        document = {"schemaVersion": 2, "manifests": self._manifests}
        (self.root / "index.json").write_text(json.dumps(document))

    def _image(self, sizes: Sequence[int], architecture: str) -> dict[str, Any]:
        layers = [_layer(size, (architecture, number)) for number, size in enumerate(sizes)]
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
            "history": [{"created_by": "test"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._add(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [self._add(layer, GZIP_LAYER) for layer, _ in layers],
        }
        return self._add(json.dumps(manifest).encode(), OCI_MANIFEST)

    def add_image(self, name: str, sizes: Sequence[int] = (1000, 200_000)) -> str:
        """Add an image whose layers hold so many bytes; returns its digest."""
        descriptor = self._image(sizes, "amd64")
        self._name(descriptor, name)
        return str(descriptor["digest"])

    def add_index(self, name: str, architectures: Sequence[str] = ("amd64", "arm64")) -> str:
        """Add an image for several architectures; returns the digest of its index."""
        manifests = [
            {
                **self._image((1000,), architecture),
                "platform": {"architecture": architecture, "os": "linux"},
            }
            for architecture in architectures
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        descriptor = self._add(json.dumps(document).encode(), OCI_INDEX)
        self._name(descriptor, name)
        return str(descriptor["digest"])

    def files(self) -> dict[str, bytes]:
        """Return every blob of the layout by its file name."""
        return files_of(self.root)


def files_of(root: Path) -> dict[str, bytes]:
    """Return every blob of a layout by its file name."""
    return {path.name: path.read_bytes() for path in (root / "blobs" / "sha256").iterdir()}
