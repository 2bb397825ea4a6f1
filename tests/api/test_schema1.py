"""Schema 1: converted for clients that ask for it, and kept as it was pushed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from portside.bootstrap.stores import connected_stores
from portside.config import Settings
from portside.spec.digests import Digest
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName
from support.content import (
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    Content,
    artifact,
    digest_of,
    index,
)
from support.schema1 import EMPTY_LAYER, HISTORY, PLAIN, SIGNED, TIME, built, signed_payload
from support.server import running_registry
from support.wire import assert_error, connect, push, push_blob, put_manifest

ASKING = {"Accept": SIGNED}
TOO_LARGE = 4 * 1024 * 1024 + 1


def manifest_of(repository: str, reference: str = "v1") -> str:
    """Return the path of a manifest."""
    return f"/v2/{repository}/manifests/{reference}"


class TestConverted:
    """A client that asks for schema 1."""

    @pytest.mark.parametrize("accept", [SIGNED, PLAIN, f"{PLAIN};q=0.5, application/json, */*"])
    @pytest.mark.parametrize("docker", [False, True])
    def test_headers(
        self, client: httpx.Client, repository: str, accept: str, *, docker: bool
    ) -> None:
        """The digest is that of what is signed; GET and HEAD agree on every header."""
        push(client, repository, built(repository, docker=docker), "v1")
        got = client.get(manifest_of(repository), headers={"Accept": accept})
        assert got.status_code == 200, got.text
        digest = digest_of(signed_payload(got.content))
        assert got.headers["Content-Type"] == SIGNED
        assert got.headers["Docker-Content-Digest"] == digest
        assert got.headers["ETag"] == f'W/"{digest}"'
        assert got.headers["Vary"].lower() == "accept"
        assert int(got.headers["Content-Length"]) == len(got.content)
        head = client.head(manifest_of(repository), headers={"Accept": accept})
        assert (head.status_code, head.content) == (200, b"")
        assert _lasting(head) == _lasting(got)

    def test_document(self, client: httpx.Client, repository: str) -> None:
        """It is the Layers of the description, and all that it names can be pulled."""
        content = built(repository)
        push(client, repository, content, "v1")
        got = client.get(manifest_of(repository), headers=ASKING)
        document = got.json()
        assert (document["name"], document["tag"]) == (repository, "v1")
        assert document["schemaVersion"] == 1
        assert len(document["history"]) == len(document["fsLayers"]) == len(HISTORY)
        layers = [layer["blobSum"] for layer in document["fsLayers"]]
        assert set(layers) == {EMPTY_LAYER, *map(digest_of, content.blobs[1:])}
        for layer in layers:
            path = f"/v2/{repository}/blobs/{layer}"
            pulled = client.get(path)
            assert digest_of(pulled.content) == layer
            assert client.head(path).headers["Content-Length"] == str(len(pulled.content))
            part = client.get(path, headers={"Range": "bytes=3-9"})
            assert (part.status_code, part.content) == (206, pulled.content[3:10])

    def test_the_same_document_each_time(self, client: httpx.Client, repository: str) -> None:
        """The workers have keys of their own; what they sign is the same."""
        push(client, repository, built(repository), "v1")
        payloads = {
            signed_payload(client.get(manifest_of(repository), headers=ASKING).content)
            for _ in range(5)
        }
        assert len(payloads) == 1

    def test_conditions(self, client: httpx.Client, repository: str) -> None:
        """A client that has the document is told so; what it has of another type does not count."""
        content = built(repository)
        push(client, repository, content, "v1")
        path = manifest_of(repository)
        tag = client.head(path, headers=ASKING).headers["ETag"]
        for method in ("GET", "HEAD"):
            asked = client.request(method, path, headers={**ASKING, "If-None-Match": tag})
            assert (asked.status_code, asked.content) == (304, b"")
            assert asked.headers["Vary"].lower() == "accept"
            other = {**ASKING, "If-None-Match": f'"{content.digest}"'}
            assert client.request(method, path, headers=other).status_code == 200
        assert client.get(path, headers={"If-None-Match": tag}).content == content.manifest
        failed = client.get(path, headers={**ASKING, "If-Match": f'"{content.digest}"'})
        assert_error(failed, 412, "PRECONDITION_FAILED")

    @pytest.mark.parametrize("docker", [False, True])
    def test_an_index(self, client: httpx.Client, repository: str, *, docker: bool) -> None:
        """The image of linux/amd64 is converted, under the tag of the index."""
        arm, amd = (built((repository, name), docker=docker) for name in "ab")
        entries = [
            {**arm.descriptor, "platform": {"architecture": "arm64", "os": "linux"}},
            {**amd.descriptor, "platform": {"architecture": "amd64", "os": "linux"}},
        ]
        listing = index(docker=docker, manifests=entries)
        for child in (arm, amd):
            push(client, repository, child)
        push(client, repository, listing, "v1")
        document = client.get(manifest_of(repository), headers=ASKING).json()
        layers = {layer["blobSum"] for layer in document["fsLayers"]}
        assert layers == {EMPTY_LAYER, *map(digest_of, amd.blobs[1:])}


def _lasting(answer: httpx.Response) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name not in {"date", "x-request-id"}
    }


class TestAsStored:
    """Whoever can read what is stored gets it."""

    @pytest.mark.parametrize(
        "accept", ["*/*", "text/plain", "", DOCKER_MANIFEST, f"{SIGNED}, {PLAIN}, {OCI_MANIFEST}"]
    )
    def test_in_oci(self, client: httpx.Client, repository: str, accept: str) -> None:
        """The stored type wins where it is named, and where schema 1 is not."""
        content = built(repository)
        push(client, repository, content, "v1")
        got = client.get(manifest_of(repository), headers={"Accept": accept})
        assert got.content == content.manifest
        assert got.headers["Vary"].lower() == "accept"

    @pytest.mark.parametrize("dialect", ["client", "acr_client"])
    def test_by_digest(self, request: pytest.FixtureRequest, repository: str, dialect: str) -> None:
        """No other bytes have this digest."""
        client: httpx.Client = request.getfixturevalue(dialect)
        content = built(repository)
        push(client, repository, content)
        got = client.get(manifest_of(repository, content.digest), headers=ASKING)
        assert got.content == content.manifest
        assert "Vary" not in got.headers

    @pytest.mark.parametrize("dialect", ["client", "acr_client"])
    def test_what_is_no_image(
        self, request: pytest.FixtureRequest, repository: str, dialect: str
    ) -> None:
        """Only images and indexes have a schema 1."""
        client: httpx.Client = request.getfixturevalue(dialect)
        content = Content(b'{"seed": "%b"}' % repository.encode(), "application/vnd.x+json")
        push(client, repository, content, "v1")
        assert client.get(manifest_of(repository), headers=ASKING).content == content.manifest


class TestIn2017:
    """The dialect acr-2017: `Layers` unless the client names what is stored."""

    @pytest.mark.parametrize("accept", [None, "*/*", "application/json", SIGNED, DOCKER_MANIFEST])
    def test_converted(self, acr_client: httpx.Client, repository: str, accept: str | None) -> None:
        """A client of the description names no type of a manifest, or none at all."""
        push(acr_client, repository, built(repository), "v1")
        request = acr_client.build_request("GET", manifest_of(repository))
        del request.headers["Accept"]
        if accept is not None:
            request.headers["Accept"] = accept
        got = acr_client.send(request)
        assert got.headers["Content-Type"] == SIGNED
        signed_payload(got.content)

    def test_as_stored(self, acr_client: httpx.Client, repository: str) -> None:
        """A client of today names the types that it reads."""
        content = built(repository)
        push(acr_client, repository, content, "v1")
        got = acr_client.get(manifest_of(repository), headers={"Accept": f"*/*, {OCI_MANIFEST}"})
        assert got.content == content.manifest

    def test_refused(self, acr_client: httpx.Client, repository: str) -> None:
        """What cannot be converted is a status of the description."""
        push(acr_client, repository, artifact(repository), "v1")
        assert_error(acr_client.get(manifest_of(repository)), 400, "MANIFEST_INVALID")


HOSTILE: dict[str, Callable[[str], Content]] = {
    "artifact": artifact,
    "no layers": lambda seed: built(seed, layers=0, history=[]),
    "zstd": lambda seed: built(seed, layer_type="application/vnd.oci.image.layer.v1.tar+zstd"),
    "no JSON": lambda seed: built(seed, config=b"\x00" + seed.encode()),
    "deep": lambda seed: built(seed, config=b'{"a": %b}' % (b"[" * 40_000 + b"]" * 40_000)),
    "large": lambda seed: built(seed, rootfs={"ignored": "x" * TOO_LARGE}),
    "large document": lambda seed: built(seed, config=b'{"a": "%b"}' % (b'\\"' * 1_500_000)),
    "empty": lambda seed: built(seed, config=b""),
    "wrong types": lambda seed: built(seed, history="none"),
    "other history": lambda seed: built(seed, history=HISTORY[:1]),
    "empty index": lambda seed: index(annotations={"seed": seed}),
    "artifacts listed": lambda seed: index(artifact(seed)),
}


class TestRefused:
    """What cannot be converted is refused with a reason, and is a fault of nobody."""

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_refused(self, client: httpx.Client, repository: str, kind: str) -> None:
        """GET and HEAD refuse; the manifest itself can still be had."""
        content: Content = HOSTILE[kind](repository)
        push(client, repository, content, "v1")
        path = manifest_of(repository)
        assert assert_error(client.get(path, headers=ASKING), 400, "MANIFEST_INVALID")
        head = client.head(path, headers=ASKING)
        assert (head.status_code, head.content) == (400, b"")
        assert client.get(path).content == content.manifest

    def test_unknown(self, client: httpx.Client, repository: str) -> None:
        """A tag that does not exist is unknown, whatever is asked for."""
        answer = client.get(manifest_of(repository), headers=ASKING)
        assert_error(answer, 404, "MANIFEST_UNKNOWN")


async def test_locks_and_sparse_indexes(data: Path, repository: str) -> None:
    """On an open registry: locks that forbid reading apply to what an index lists as well."""
    child = built(repository)
    absent = index(built((repository, "absent")))
    with (
        running_registry(data, "--open", "--sparse-indexes", "--workers", "1") as running,
        connect(running.url) as client,
    ):
        push(client, repository, index(child), "v1")
        put_manifest(client, repository, absent, "sparse")
        assert client.get(manifest_of(repository), headers=ASKING).status_code == 200
        missing = client.get(manifest_of(repository, "sparse"), headers=ASKING)
        assert absent.children[0].digest in assert_error(missing, 404, "MANIFEST_UNKNOWN")

        name = RepositoryName(repository)
        async with connected_stores(Settings(data=str(data))) as stores:
            write = LockChange(lock=Lock.WRITE | Lock.DELETE)
            await stores.metadata.change_repository(name, write)
            # A locked image is pulled with its empty layers, although nothing may be written.
            assert client.get(manifest_of(repository), headers=ASKING).status_code == 200
            assert client.get(f"/v2/{repository}/blobs/{EMPTY_LAYER}").status_code == 200
            read = LockChange(lock=Lock.READ)
            await stores.metadata.change_manifest(name, Digest(child.digest), read)
        locked = client.get(manifest_of(repository), headers=ASKING)
        assert_error(locked, 405, "REGISTRY_DISALLOWED_OPERATION")


def pushed(repository: str, *layers: str, signatures: object = None) -> Content:
    """Make a manifest of schema 1 as an old client pushed it, spaces and all."""
    document = {
        "schemaVersion": 1,
        "name": repository,
        "tag": "v1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": layer} for layer in layers],
        "history": [{"v1Compatibility": json.dumps({"id": "a" * 64, "created": TIME})}],
        **({"signatures": signatures} if signatures is not None else {}),
    }
    media_type = PLAIN if signatures is None else SIGNED
    return Content(json.dumps(document, indent=5).encode(), media_type)


class TestPushed:
    """Old images are kept as they are."""

    @pytest.mark.parametrize("signatures", [None, [{"protected": "x"}]])
    @pytest.mark.parametrize("dialect", ["client", "acr_client"])
    def test_kept(
        self, request: pytest.FixtureRequest, repository: str, signatures: object, dialect: str
    ) -> None:
        """The exact bytes come back, under the digest of all of them."""
        client: httpx.Client = request.getfixturevalue(dialect)
        layer = push_blob(client, repository, repository.encode())
        content = pushed(repository, layer, signatures=signatures)
        assert push(client, repository, content, "v1").headers["Docker-Content-Digest"] == (
            content.digest
        )
        for accept in ("*/*", SIGNED, PLAIN, OCI_MANIFEST):
            for reference in ("v1", content.digest):
                path = manifest_of(repository, reference)
                got = client.get(path, headers={"Accept": accept})
                assert got.content == content.manifest
                assert got.headers["Content-Type"] == content.media_type

    def test_layers_are_required(self, client: httpx.Client, repository: str) -> None:
        """A manifest needs its fsLayers, and keeps them."""
        layer = digest_of(repository.encode())
        missing = put_manifest(client, repository, pushed(repository, layer), "v1")
        assert layer in assert_error(missing, 400, "MANIFEST_BLOB_UNKNOWN")
        push_blob(client, repository, repository.encode())
        push(client, repository, pushed(repository, layer), "v1")
        kept = client.delete(f"/v2/{repository}/blobs/{layer}")
        assert_error(kept, 405, "UNSUPPORTED")

    def test_the_empty_layer(self, client: httpx.Client, repository: str) -> None:
        """A client that finds it does not push it; a manifest that needs it can be pushed."""
        path = f"/v2/{repository}/blobs/{EMPTY_LAYER}"
        assert client.head(path).status_code == 200
        layer = push_blob(client, repository, repository.encode())
        for _ in range(2):
            push(client, repository, pushed(repository, EMPTY_LAYER, layer), "v1")
        assert_error(client.delete(path), 405, "UNSUPPORTED")
