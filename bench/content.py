"""The same content in both registries."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.peers import Peer, Peers

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

TAGS = 50_000
REPOSITORIES = 5_000
MIB = 1024 * 1024
TAGS_AT_ONCE = 100
HTTP_CREATED = 201


class Prepared(NamedTuple):
    """What the works need to know of the content."""

    layer: str
    large: str
    medium: str
    file: Path
    megabytes: int


def digest_of(content: bytes) -> str:
    """Compute the digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push_blob(
    connection: http.client.HTTPConnection, repository: str, content: bytes, digest: str
) -> None:
    """Push a blob by POST and PUT, as clients do."""
    connection.request("POST", f"/v2/{repository}/blobs/uploads/")
    opened = connection.getresponse()
    opened.read()
    location = opened.headers["Location"].partition("://")[2]
    path = f"/{location.partition('/')[2]}" if location else opened.headers["Location"]
    joint = "&" if "?" in path else "?"
    headers = {"Content-Type": "application/octet-stream"}
    connection.request("PUT", f"{path}{joint}digest={digest}", content, headers)
    expect_created(connection)


def put_manifest(
    connection: http.client.HTTPConnection, repository: str, reference: str, payload: bytes
) -> None:
    """Push a manifest."""
    kind = json.loads(payload)["mediaType"]
    path = f"/v2/{repository}/manifests/{reference}"
    connection.request("PUT", path, payload, {"Content-Type": kind})
    expect_created(connection)


def expect_created(connection: http.client.HTTPConnection) -> None:
    """Read an answer that has to be 201."""
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != HTTP_CREATED:
        raise RuntimeError(f"{answer.status}: {text!r}")


def image_manifest(config: str, layers: Iterable[str]) -> bytes:
    """Write an image manifest over blobs of 10 kB."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": 2},
            "layers": [{"mediaType": LAYER, "digest": layer, "size": 10_000} for layer in layers],
        }
    ).encode()


def prepare(peers: Peers, folder: Path, *, megabytes: int, with_lists: bool) -> Prepared:
    """Push an image with a manifest of 2 kB, a large and a medium blob, and make long lists."""
    large, medium = os.urandom(megabytes * MIB), os.urandom(64 * MIB)
    file = folder / "upload"
    file.write_bytes(large)
    layers = [os.urandom(10_000) for _ in range(12)]
    digests = [digest_of(layer) for layer in layers]
    blobs = [(b"{}", digest_of(b"{}")), (large, digest_of(large)), (medium, digest_of(medium))]
    for peer in (*peers.plain, *peers.secure):
        connection = peer.connect()
        for content, digest in [*blobs, *zip(layers, digests, strict=True)]:
            push_blob(connection, "library/app", content, digest)
        manifest = image_manifest(digest_of(b"{}"), digests)
        put_manifest(connection, "library/app", "1", manifest)
        connection.close()
    if with_lists:
        for peer in peers.plain:
            _make_lists(peer)
    return Prepared(digests[0], blobs[1][1], blobs[2][1], file, megabytes)


def _make_lists(peer: Peer) -> None:
    """Make a repository of many tags, and many repositories.

    The peer gets its lists as files in its own layout: to push them would take it half an hour.
    """
    if peer.name == "docker-registry":
        base = peer.root / "docker" / "registry" / "v2" / "repositories"
        for tag in _tags():
            link = base / "library" / "tags" / "_manifests" / "tags" / tag / "current" / "link"
            link.parent.mkdir(parents=True)
            link.write_text(digest_of(b""))
        for name in _repositories():
            (base / name / "_layers").mkdir(parents=True)
            (base / name / "_manifests" / "revisions").mkdir(parents=True)
        return
    connection = peer.connect()
    payload = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    tags = list(_tags())
    for start in range(0, TAGS, TAGS_AT_ONCE):
        query = "&".join(f"tag={tag}" for tag in tags[start : start + TAGS_AT_ONCE])
        put_manifest(connection, "library/tags", f"{digest_of(payload)}?{query}", payload)
    for name in _repositories():
        put_manifest(connection, name, "latest", payload)
    connection.close()


def _tags() -> Iterable[str]:
    return (f"v{number:06}" for number in range(TAGS))


def _repositories() -> Iterable[str]:
    return (f"many/r{number:05}" for number in range(REPOSITORIES))
