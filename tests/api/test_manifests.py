"""Manifests: pull (end-3), push (end-7), delete (end-9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.content import (
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Content,
    artifact,
    descriptor,
    digest_of,
    image,
    index,
    make_blob,
)
from support.server import running_registry
from support.wire import assert_error, connect, errors_of, push, push_blob, put_manifest

KINDS: dict[str, Callable[[str], Content]] = {
    "oci image": image,
    "docker schema 2": lambda seed: image(seed, docker=True),
    "no layers": lambda seed: image(seed, layers=0),
    "unknown fields": lambda seed: image(seed, vendor={"x": [1, None, {"y": "ü"}]}),
    "artifact": artifact,
    "oci index": lambda seed: index(image(seed), image((seed, 2))),
    "docker list": lambda seed: index(image(seed, docker=True), docker=True),
    "empty index": lambda seed: index(annotations={"seed": repr(seed)}),
    "nested index": lambda seed: index(index(image(seed)), image((seed, 2))),
    "sha512": lambda seed: image(seed, algorithm="sha512"),
    "any json": lambda seed: Content(b'{"seed": "%b"}' % seed.encode(), "application/vnd.x+json"),
}


# Manifests are rows: what is found, what is missing and what is refused is each database's SQL.
pytestmark = pytest.mark.every_database


class TestPull:
    """end-3: GET and HEAD."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_exact_bytes_come_back(
        self, client: httpx.Client, repository: str, kind: str
    ) -> None:
        """Whatever was pushed is pulled byte for byte, by tag and by digest, with its type."""
        content = KINDS[kind](repository)
        by_digest = content.algorithm != "sha256"
        push(client, repository, content, None if by_digest else "v1")
        for reference in [content.digest] if by_digest else ["v1", content.digest]:
            for method in ("GET", "HEAD"):
                answer = client.request(method, f"/v2/{repository}/manifests/{reference}")
                assert answer.status_code == 200
                assert answer.content == (content.manifest if method == "GET" else b"")
                assert answer.headers["Content-Type"] == content.media_type
                assert answer.headers["Content-Length"] == str(len(content.manifest))
                assert answer.headers["Docker-Content-Digest"] == content.digest
                assert answer.headers["ETag"] == f'"{content.digest}"'

    @pytest.mark.one_home
    @pytest.mark.parametrize("accept", ["text/plain", DOCKER_MANIFEST, "*/*;q=0.1", ""])
    def test_accept_never_hides_a_manifest(
        self, client: httpx.Client, repository: str, accept: str
    ) -> None:
        """A manifest that is there is sent, whatever the client says it accepts."""
        push(client, repository, image(repository), "v1")
        answer = client.get(f"/v2/{repository}/manifests/v1", headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == OCI_MANIFEST

    @pytest.mark.parametrize("reference", ["absent", digest_of(b"absent"), ".not-a-tag", "x" * 200])
    def test_unknown(self, client: httpx.Client, repository: str, reference: str) -> None:
        """What cannot be found is MANIFEST_UNKNOWN, in a known and in an unknown repository."""
        path = f"/v2/{repository}/manifests/{reference}"
        assert_error(client.get(path), 404, "MANIFEST_UNKNOWN")
        push(client, repository, image(repository), "v1")
        assert_error(client.get(path), 404, "MANIFEST_UNKNOWN")
        head = client.head(path)
        assert (head.status_code, head.content) == (404, b"")

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        "digest", ["sha256:bad", "sha256:" + "A" * 64, "sha999:" + "a" * 64, "sha512:" + "a" * 64]
    )
    def test_malformed_digest(self, client: httpx.Client, repository: str, digest: str) -> None:
        """A digest of the wrong length, case or algorithm is DIGEST_INVALID."""
        answer = client.get(f"/v2/{repository}/manifests/{digest}")
        assert_error(answer, 400, "DIGEST_INVALID")


class TestConditions:
    """RFC 9110: If-None-Match on a pull; If-Match and If-None-Match on a push."""

    @pytest.mark.one_home
    @pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"', '"other", "{}"', "*"])
    def test_not_modified(self, client: httpx.Client, repository: str, form: str) -> None:
        """A client that has the content is told so, quoted or not."""
        content = image(repository)
        push(client, repository, content, "v1")
        headers = {"If-None-Match": form.format(content.digest)}
        answer = client.get(f"/v2/{repository}/manifests/v1", headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["Docker-Content-Digest"] == content.digest

    def test_modified(self, client: httpx.Client, repository: str) -> None:
        """A client that has other content gets this."""
        push(client, repository, image(repository), "v1")
        headers = {"If-None-Match": f'"{digest_of(b"other")}"'}
        assert client.get(f"/v2/{repository}/manifests/v1", headers=headers).status_code == 200

    def test_a_tag_is_made_only_once(self, client: httpx.Client, repository: str) -> None:
        """If-None-Match: * makes a tag and never moves one."""
        first, second = image((repository, 1)), image((repository, 2))
        push(client, repository, first)
        push(client, repository, second)
        path = f"/v2/{repository}/manifests/v1"
        headers = {"Content-Type": OCI_MANIFEST, "If-None-Match": "*"}
        assert client.put(path, content=first.manifest, headers=headers).status_code == 201
        answer = client.put(path, content=second.manifest, headers=headers)
        assert_error(answer, 412, "PRECONDITION_FAILED")
        assert client.get(path).content == first.manifest

    def test_a_tag_moves_only_from_where_it_is_known_to_be(
        self, client: httpx.Client, repository: str
    ) -> None:
        """If-Match moves a tag from one digest to another, and from no other."""
        first, second = image((repository, 1)), image((repository, 2))
        push(client, repository, first, "v1")
        push(client, repository, second)
        path = f"/v2/{repository}/manifests/v1"
        for expected, status in ((second.digest, 412), (first.digest, 201), (first.digest, 412)):
            headers = {"Content-Type": OCI_MANIFEST, "If-Match": f'"{expected}"'}
            answer = client.put(path, content=second.manifest, headers=headers)
            assert answer.status_code == status
        headers = {"Content-Type": OCI_MANIFEST, "If-Match": "*"}
        fresh = f"/v2/{repository}/manifests/fresh"
        assert client.put(fresh, content=first.manifest, headers=headers).status_code == 412


class TestPush:
    """end-7: PUT by tag, by digest, and with tags as parameters."""

    def test_answer(self, client: httpx.Client, repository: str) -> None:
        """The answer says where the manifest is and what its digest is."""
        content = image(repository)
        answer = push(client, repository, content, "v1")
        assert answer.status_code == 201
        assert answer.headers["Docker-Content-Digest"] == content.digest
        assert answer.headers["Location"] == f"/v2/{repository}/manifests/{content.digest}"
        assert client.get(answer.headers["Location"]).content == content.manifest
        assert "OCI-Subject" not in answer.headers

    def test_again_and_elsewhere(self, client: httpx.Client, repository: str) -> None:
        """The same manifest can be pushed again, and a tag moves to what was pushed last."""
        first, second = image((repository, 1)), image((repository, 2))
        for content in (first, first, second, first):
            push(client, repository, content, "v1")
            assert client.get(f"/v2/{repository}/manifests/v1").content == content.manifest
        assert client.get(f"/v2/{repository}/manifests/{second.digest}").status_code == 200

    def test_missing_content_is_named(self, client: httpx.Client, repository: str) -> None:
        """Each missing blob is an error of its own, and nothing is stored."""
        content = image(repository, layers=2)
        push_blob(client, repository, content.blobs[0])
        answer = put_manifest(client, repository, content, "v1")
        assert answer.status_code == 400
        errors = errors_of(answer)
        assert [error["code"] for error in errors] == ["MANIFEST_BLOB_UNKNOWN"] * 2
        details = " ".join(error["detail"] for error in errors)
        assert all(digest_of(blob) in details for blob in content.blobs[1:])
        assert client.get(f"/v2/{repository}/manifests/{content.digest}").status_code == 404
        assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == []

    def test_missing_children_are_named(self, client: httpx.Client, repository: str) -> None:
        """An index is refused while a manifest that it lists is missing."""
        parent = index(image(repository))
        answer = put_manifest(client, repository, parent, "v1")
        detail = assert_error(answer, 400, "MANIFEST_BLOB_UNKNOWN")
        assert parent.children[0].digest in detail

    def test_blobs_of_another_repository_do_not_count(
        self, client: httpx.Client, repository: str
    ) -> None:
        """A blob has to be linked in the repository of the manifest."""
        content = image(repository)
        push(client, f"{repository}/one", content)
        answer = put_manifest(client, f"{repository}/two", content)
        assert_error(answer, 400, "MANIFEST_BLOB_UNKNOWN")

    def test_layers_kept_elsewhere_may_be_missing(
        self, client: httpx.Client, repository: str
    ) -> None:
        """Layers with URLs, and those that may not be distributed, need not be here."""
        foreign = descriptor(b"1", "application/vnd.oci.image.layer.nondistributable.v1.tar")
        linked = {**descriptor(b"2", "application/x"), "urls": ["https://example.com/layer"]}
        content = image(repository, layers=0)
        document = {**json.loads(content.manifest), "layers": [foreign, linked]}
        changed = Content(json.dumps(document).encode(), OCI_MANIFEST, content.blobs)
        assert push(client, repository, changed, "v1").status_code == 201

    def test_descriptors_may_carry_their_data(self, client: httpx.Client, repository: str) -> None:
        """A descriptor with embedded data is accepted as any other."""
        config = {**descriptor(b"{}", "application/vnd.oci.empty.v1+json"), "data": "e30="}
        content = artifact(repository, config=config)
        assert push(client, repository, content, "v1").status_code == 201

    def test_missing_subject(self, client: httpx.Client, repository: str) -> None:
        """A subject need not exist; it is acknowledged with OCI-Subject, for images and indexes."""
        subject = image((repository, "never pushed")).descriptor
        for content in (artifact(repository, subject=subject), index(subject=subject)):
            answer = push(client, repository, content)
            assert answer.headers["OCI-Subject"] == subject["digest"]

    @pytest.mark.one_home
    def test_wrong_digest(self, client: httpx.Client, repository: str) -> None:
        """Content that is not what the path names is refused."""
        content = image(repository)
        push(client, repository, content)
        answer = put_manifest(client, repository, content, digest_of(b"other"))
        assert_error(answer, 400, "DIGEST_INVALID")
        answer = put_manifest(client, repository, content, "sha256:baddigeststring")
        assert_error(answer, 400, "DIGEST_INVALID")

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"not json",
            b"[]",
            b'"text"',
            b'{"mediaType": 7}',
            b'{"a": 1} trailing',
            b'{"layers": [{"digest": "sha256:short"}]}',
            b'{"layers": {"digest": 1}}',
            b'{"layers": [{"digest": "' + digest_of(b"x").encode() + b'", "size": -1}]}',
            b'{"annotations": {"n": 1}}',
            b"\xff\xfe{}",
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        ],
    )
    def test_malformed(self, client: httpx.Client, repository: str, payload: bytes) -> None:
        """A malformed manifest of any kind is MANIFEST_INVALID."""
        client.headers["Authorization"] = "Bearer any"  # a client that withholds its body has none
        answer = put_manifest(client, repository, Content(payload, OCI_MANIFEST), "v1")
        assert_error(answer, 400, "MANIFEST_INVALID")
        assert client.get(f"/v2/{repository}/manifests/v1").status_code == 404

    @pytest.mark.one_home
    @pytest.mark.parametrize("element", [b"{}", b"[]", b"[{}]"])
    def test_many_elements(self, client: httpx.Client, repository: str, element: bytes) -> None:
        """Objects and lists without number would keep a worker from answering others."""
        payload = b'{"a": [' + b",".join([element] * 100_000) + b"]}"
        answer = put_manifest(client, repository, Content(payload, "application/json"), "v1")
        detail = assert_error(answer, 400, "MANIFEST_INVALID")
        assert "objects and lists; at most 100000 are accepted" in detail

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"manifests": []}, "read as an image (layers) and an index (manifests)"),
            ({"manifests": [{}]}, "can be read as"),
            ({"Manifests": []}, "'Manifests' must be spelled 'manifests'"),
            ({"\u017fubject": {}}, "must be spelled 'subject'"),
            ({"fsLayers": []}, "can be read as"),
            ({"blobs": []}, "can be read as"),
            ({"schemaVersion": 1}, "schemaVersion must be 2, not 1"),
            ({"schemaVersion": "2"}, "at `$.schemaVersion`"),
            ({"config": None}, "requires the field config"),
            ({"layers": [{"digest": digest_of(b"x"), "size": 1}]}, "at `$.layers[0]`"),
            ({"layers": [{"mediaType": "a/b", "digest": digest_of(b"x")}]}, "field `size`"),
            ({"layers": [descriptor(b"x", "html")]}, "invalid media type 'html'"),
            ({"layers": [{**descriptor(b"x", "a/b"), "Digest": 1}]}, "must be spelled 'digest'"),
            ({"layers": [{**descriptor(b"x", "a/b"), "size": 2**63}]}, "at `$.layers[0].size`"),
            ({"layers": {}}, "wrong shape: Expected `array"),
        ],
    )
    def test_ambiguous(
        self, client: httpx.Client, repository: str, changes: dict[str, Any], said: str
    ) -> None:
        """What can be read as two things is refused; the error says what and where."""
        document = {**json.loads(image(repository).manifest), **changes}
        content = Content(json.dumps(document).encode(), OCI_MANIFEST)
        answer = put_manifest(client, repository, content, "v1")
        assert said in assert_error(answer, 400, "MANIFEST_INVALID")

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        "payload",
        [
            b"{}",
            b'{"schemaVersion": 2}',
            b'{"schemaVersion": 2, "manifests": []}',
            b'{"schemaVersion": 2, "schemaVersion": 2, "config": {}, "layers": []}',
            b'{"schemaVersion": 2, "layers": [], "x": {"a": 1, "a": 2}}',
        ],
    )
    def test_not_an_image(self, client: httpx.Client, repository: str, payload: bytes) -> None:
        """An image has its required fields, each once."""
        answer = put_manifest(client, repository, Content(payload, OCI_MANIFEST), "v1")
        detail = assert_error(answer, 400, "MANIFEST_INVALID")
        assert "not a valid JSON object" not in detail

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        "media_type",
        [
            "text/html",
            "image/svg+xml",
            "text/x+json",
            "application/xhtml+xml",
            "application",
            "*/*",
        ],
    )
    def test_types_of_web_pages(
        self, client: httpx.Client, repository: str, media_type: str
    ) -> None:
        """A manifest is of a type of JSON documents, by its header or by its field."""
        path = f"/v2/{repository}/manifests/v1"
        typed = {"Content-Type": media_type}
        for body, headers in ((b"{}", typed), (json.dumps({"mediaType": media_type}), {})):
            answer = client.put(path, content=body, headers=headers)
            assert_error(answer, 400, "MANIFEST_INVALID")
        assert client.get(path).status_code == 404

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        ("media_type", "payload"),
        [
            ("application/vnd.custom+json", b'{"config": 1, "blobs": 2, "Layers": 3}'),
            ("application/json", b"{}"),
            ("APPLICATION/JSON; charset=utf-8", b"{}"),
            ("application/vnd.oci.artifact.manifest.v1+json", b"{}"),
            (OCI_INDEX, b'{"schemaVersion": 2, "manifests": null}'),
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                b'{"schemaVersion": 1, "fsLayers": []}',
            ),
        ],
    )
    def test_liberal(
        self, client: httpx.Client, repository: str, media_type: str, payload: bytes
    ) -> None:
        """Types that the registry does not read may have any fields."""
        answer = put_manifest(client, repository, Content(payload, media_type), "v1")
        assert answer.status_code == 201, answer.text

    @pytest.mark.one_home
    def test_two_types(self, client: httpx.Client, repository: str) -> None:
        """The header and the field that name the type have to agree; parameters do not count."""
        content = image(repository)
        push(client, repository, content)
        path = f"/v2/{repository}/manifests/v1"
        answer = client.put(
            path, content=content.manifest, headers={"Content-Type": DOCKER_MANIFEST}
        )
        assert_error(answer, 400, "MANIFEST_INVALID")
        typed = {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8"}
        assert client.put(path, content=content.manifest, headers=typed).status_code == 201
        assert client.get(path).headers["Content-Type"] == OCI_MANIFEST

    @pytest.mark.one_home
    def test_no_type(self, client: httpx.Client, repository: str) -> None:
        """Without a header the field says the type, and without both the shape does."""
        typed = index(annotations={"a": repository})
        path = f"/v2/{repository}/manifests/v1"
        assert client.put(path, content=typed.manifest).status_code == 201
        assert client.get(path).headers["Content-Type"] == OCI_INDEX
        assert client.put(path, content=b'{"schemaVersion": 2, "manifests": []}').status_code == 201
        assert client.get(path).headers["Content-Type"] == OCI_INDEX

    @pytest.mark.one_home
    def test_size(self, client: httpx.Client, repository: str) -> None:
        """Four MiB are accepted, one byte more is not, announced or not."""
        limit = 4 * 1024 * 1024
        frame = b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"%b"}}'
        largest = frame % (b"x" * (limit - len(frame) + 2))
        assert len(largest) == limit
        path = f"/v2/{repository}/manifests/v1"
        headers = {"Content-Type": OCI_INDEX}
        assert client.put(path, content=largest, headers=headers).status_code == 201
        assert client.get(path).content == largest
        answer = client.put(path, content=largest + b" ", headers=headers)
        assert_error(answer, 413, "MANIFEST_INVALID")
        streamed = iter([largest, b" "])
        answer = client.put(path, content=streamed, headers=headers)
        assert_error(answer, 413, "MANIFEST_INVALID")

    def test_tag_parameters(self, client: httpx.Client, repository: str) -> None:
        """A push by digest sets any number of tags at once, each once (end-7b)."""
        content = image(repository)
        push(client, repository, content)
        tags = [f"1.{number}" for number in range(12)]
        answer = client.put(
            f"/v2/{repository}/manifests/{content.digest}",
            params={"tag": [*tags, tags[0]]},
            content=content.manifest,
            headers={"Content-Type": content.media_type},
        )
        assert answer.status_code == 201
        assert answer.headers["OCI-Tag"].split(", ") == tags
        for tag in tags:
            assert client.get(f"/v2/{repository}/manifests/{tag}").content == content.manifest

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        ("reference", "tags", "status"),
        [(None, ["ok", "-bad"], 400), ("v1", ["v2"], 400), (None, ["x"] * 101, 414)],
    )
    def test_refused_tag_parameters(
        self,
        client: httpx.Client,
        repository: str,
        reference: str | None,
        tags: list[str],
        status: int,
    ) -> None:
        """One bad tag, a tag beside a tag, or too many of them: then none is set."""
        content = image(repository)
        push(client, repository, content)
        answer = client.put(
            f"/v2/{repository}/manifests/{reference or content.digest}",
            params={"tag": tags},
            content=content.manifest,
            headers={"Content-Type": content.media_type},
        )
        assert_error(answer, status, "TAG_INVALID")
        assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == []

    @pytest.mark.one_home
    @pytest.mark.parametrize("tag", [".dot", "-dash", "x" * 129, "a b", "ü"])
    def test_malformed_tag(self, client: httpx.Client, repository: str, tag: str) -> None:
        """A tag outside the grammar is TAG_INVALID."""
        answer = put_manifest(client, repository, image(repository), tag)
        assert_error(answer, 400, "TAG_INVALID")

    def test_sparse_indexes(self, data: Path, repository: str) -> None:
        """A setting lets an index list manifests that are not there."""
        with (
            running_registry(data, "--sparse-indexes", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            parent = index(image(repository))
            assert put_manifest(client, repository, parent, "v1").status_code == 201
            assert client.get(f"/v2/{repository}/manifests/v1").content == parent.manifest


class TestDelete:
    """end-9: DELETE by tag and by digest."""

    def test_a_tag(self, client: httpx.Client, repository: str) -> None:
        """Deleting a tag removes the tag and nothing else."""
        content = image(repository)
        push(client, repository, content, "v1")
        push(client, repository, content, "v2")
        answer = client.delete(f"/v2/{repository}/manifests/v1")
        assert answer.status_code == 202
        assert client.get(f"/v2/{repository}/manifests/v1").status_code == 404
        for reference in ("v2", content.digest):
            assert client.get(f"/v2/{repository}/manifests/{reference}").status_code == 200
        again = client.delete(f"/v2/{repository}/manifests/v1")
        assert_error(again, 404, "MANIFEST_UNKNOWN")

    def test_a_digest(self, client: httpx.Client, repository: str) -> None:
        """Deleting a manifest removes the tags that point to it, and no others."""
        content, other = image((repository, 1)), image((repository, 2))
        push(client, repository, content, "v1")
        push(client, repository, content, "v2")
        push(client, repository, other, "v3")
        path = f"/v2/{repository}/manifests/{content.digest}"
        assert client.delete(path).status_code == 202
        for reference in ("v1", "v2", content.digest):
            gone = client.head(f"/v2/{repository}/manifests/{reference}")
            assert gone.status_code == 404
        assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["v3"]
        assert_error(client.delete(path), 404, "MANIFEST_UNKNOWN")

    def test_a_listed_manifest_stays(self, client: httpx.Client, repository: str) -> None:
        """A manifest that an index lists can go only after the index."""
        parent = index(image(repository))
        child = f"/v2/{repository}/manifests/{parent.children[0].digest}"
        push(client, repository, parent, "v1")
        detail = assert_error(client.delete(child), 405, "UNSUPPORTED")
        assert parent.digest in detail
        assert client.delete(f"/v2/{repository}/manifests/{parent.digest}").status_code == 202
        assert client.delete(child).status_code == 202

    def test_disabled(self, data: Path, repository: str) -> None:
        """A setting keeps everything."""
        with (
            running_registry(data, "--no-delete", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            content = image(repository)
            push(client, repository, content, "v1")
            digest = push_blob(client, repository, make_blob(10, repository))
            for path in ("manifests/v1", f"manifests/{content.digest}", f"blobs/{digest}"):
                answer = client.delete(f"/v2/{repository}/{path}")
                assert_error(answer, 405, "UNSUPPORTED")
                assert client.get(f"/v2/{repository}/{path}").status_code == 200


CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"


def listing(*children: dict[str, Any], docker: bool = False) -> Content:
    """Make an index of what the descriptors describe."""
    return index(docker=docker, manifests=list(children))


class TestIndexesOfBlobs:
    """BuildKit's `--cache-to type=registry`: an index whose children are layers and a config."""

    @pytest.mark.parametrize("docker", [False, True])
    def test_cache(self, client: httpx.Client, repository: str, docker: bool) -> None:
        """It is stored, pulled by tag, and keeps its blobs until it is deleted."""
        blobs = [make_blob(100, (repository, number)) for number in range(3)]
        types = [DOCKER_LAYER if docker else OCI_LAYER] * 2 + [CACHE_CONFIG]
        children = list(map(descriptor, blobs, types))
        cache = listing(*children, docker=docker)
        for blob in blobs:
            answer = put_manifest(client, repository, cache, "cache")
            assert_error(answer, 400, "MANIFEST_BLOB_UNKNOWN")
            assert digest_of(blob) in answer.text
            push_blob(client, repository, blob)
        assert put_manifest(client, repository, cache, "cache").status_code == 201
        assert put_manifest(client, repository, cache, "cache").status_code == 201
        pulled = client.get(f"/v2/{repository}/manifests/cache")
        assert (pulled.content, pulled.headers["Content-Type"]) == (
            cache.manifest,
            cache.media_type,
        )
        for blob in blobs:
            path = f"/v2/{repository}/blobs/{digest_of(blob)}"
            assert cache.digest in assert_error(client.delete(path), 405, "UNSUPPORTED")
            assert client.get(path).content == blob
        assert client.delete(f"/v2/{repository}/manifests/{cache.digest}").status_code == 202
        assert client.delete(f"/v2/{repository}/blobs/{digest_of(blobs[0])}").status_code == 202

    def test_mixed(self, client: httpx.Client, repository: str) -> None:
        """An index may list manifests, indexes and blobs, whatever their descriptors say."""
        child, nested, blob = image(repository), index(image((repository, 2))), b"a blob"
        for content in (child, nested):
            push(client, repository, content)
        push_blob(client, repository, blob)
        mixed = listing(
            descriptor(child.manifest, OCI_LAYER),
            nested.descriptor,
            descriptor(blob, OCI_MANIFEST),
        )
        parent = index(mixed)
        for content in (mixed, parent):
            assert put_manifest(client, repository, content).status_code == 201
        for path in (
            f"manifests/{child.digest}",
            f"manifests/{nested.digest}",
            f"blobs/{digest_of(blob)}",
        ):
            detail = assert_error(client.delete(f"/v2/{repository}/{path}"), 405, "UNSUPPORTED")
            assert mixed.digest in detail

    def test_both(self, client: httpx.Client, repository: str) -> None:
        """Bytes that are there as a manifest and as a blob stay as both."""
        child = image(repository)
        push(client, repository, child)
        push_blob(client, repository, child.manifest)
        assert put_manifest(client, repository, index(child)).status_code == 201
        for kind in ("manifests", "blobs"):
            path = f"/v2/{repository}/{kind}/{child.digest}"
            assert_error(client.delete(path), 405, "UNSUPPORTED")

    def test_blobs_of_another_repository(self, client: httpx.Client, repository: str) -> None:
        """A blob that another repository links is unknown here."""
        push_blob(client, f"{repository}/other", b"elsewhere")
        cache = listing(descriptor(b"elsewhere", OCI_LAYER))
        answer = put_manifest(client, repository, cache)
        assert_error(answer, 400, "MANIFEST_BLOB_UNKNOWN")

    def test_other_type(self, client: httpx.Client, repository: str) -> None:
        """An index that names no type can be pushed again under the other type of indexes."""
        push_blob(client, repository, b"a layer")
        document = {"schemaVersion": 2, "manifests": [descriptor(b"a layer", OCI_LAYER)]}
        payload = json.dumps(document).encode()
        for media_type in (OCI_INDEX, DOCKER_LIST):
            content = Content(payload, media_type)
            assert put_manifest(client, repository, content, "cache").status_code == 201
        path = f"/v2/{repository}/blobs/{digest_of(b'a layer')}"
        assert_error(client.delete(path), 405, "UNSUPPORTED")
