"""ACR's own API: properties of repositories, tags and manifests, and their locks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from support.content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, artifact, digest_of, image, index
from support.server import RunningRegistry, running_registry
from support.wire import assert_error, connect, push, put_manifest

JSON = "application/json; charset=utf-8"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}0Z")
UNLOCKED = dict.fromkeys(("deleteEnabled", "writeEnabled", "readEnabled", "listEnabled"), True)
UNKNOWN = f"sha256:{'0' * 64}"


def get(client: httpx.Client, path: str, **query: str) -> dict[str, Any]:
    """Read a document of ACR's API."""
    answer = client.get(f"/acr/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == JSON
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Ms-Correlation-Request-Id"])
    found: dict[str, Any] = answer.json()
    return found


def spellings(repository: str, rest: str = "") -> list[str]:
    """Write a path as the clients do: plain, with encoded slashes, all encoded."""
    return [
        f"/acr/v1/{repository}{rest}",
        f"/acr/v1/{quote(repository, safe='')}{rest}",
        f"/acr/v1/{quote(repository, safe='')}{quote(rest, safe='/')}",
    ]


class TestRepository:
    """GET and DELETE of a repository."""

    def test_properties(
        self, client: httpx.Client, registry: RunningRegistry, repository: str
    ) -> None:
        """Counts, times and attributes, whatever the spelling of the name."""
        push(client, repository, image(1), "v1")
        push(client, repository, image(2), "v1")
        for path in spellings(repository):
            answer = client.get(path, params={"api-version": "2099-01-01"})
            found = answer.json()
            times = found.pop("createdTime"), found.pop("lastUpdateTime")
            assert all(map(TIME.fullmatch, times))
            assert times[0] < times[1]
            assert found == {
                "registry": registry.address,
                "imageName": repository,
                "manifestCount": 2,
                "tagCount": 1,
                "changeableAttributes": UNLOCKED,
            }

    def test_host(self, client: httpx.Client, repository: str) -> None:
        """The registry is called what the client calls it."""
        push(client, repository, image(1), "v1")
        for rest in ("", "/_tags", "/_tags/v1", "/_manifests", f"/_manifests/{image(1).digest}"):
            path = f"/acr/v1/{repository}{rest}"
            answer = client.get(path, headers={"Host": "registry.localhost:99"})
            assert answer.json()["registry"] == "registry.localhost:99"

    def test_delete(self, client: httpx.Client, repository: str) -> None:
        """All goes, and is named; the blobs are unlinked, and the repository is unknown."""
        first, second = image(1), index(image(1))
        push(client, repository, first, "v1")
        push(client, repository, second, "v2")
        answer = client.delete(f"/acr/v1/{quote(repository, safe='')}")
        assert answer.status_code == 202
        assert answer.json() == {
            "manifestsDeleted": sorted([first.digest, second.digest]),
            "tagsDeleted": ["v1", "v2"],
        }
        for path in (f"/acr/v1/{repository}", f"/acr/v1/{repository}/_tags"):
            detail = assert_error(client.get(path), 404, "NAME_UNKNOWN")
            assert repository in detail
        assert_error(client.delete(f"/acr/v1/{repository}"), 404, "NAME_UNKNOWN")
        assert_error(client.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")
        for blob in first.blobs:
            assert client.head(f"/v2/{repository}/blobs/{digest_of(blob)}").status_code == 404
        push(client, repository, first, "v3")
        assert get(client, repository)["tagCount"] == 1

    def test_emptied(self, client: httpx.Client, repository: str) -> None:
        """A repository with nothing left is known, with lists that are null, until deleted."""
        push(client, repository, image(1), "v1")
        assert client.delete(f"/v2/{repository}/manifests/{image(1).digest}").status_code == 202
        assert get(client, repository)["manifestCount"] == 0
        assert get(client, f"{repository}/_tags")["tags"] is None
        assert get(client, f"{repository}/_manifests")["manifests"] is None
        answer = client.delete(f"/acr/v1/{repository}")
        assert (answer.status_code, answer.json()["manifestsDeleted"]) == (202, [])

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_unknown(self, client: httpx.Client, repository: str, method: str) -> None:
        """What does not exist has the codes of its kind."""
        body = b"{}" if method == "PATCH" else None
        path = f"/acr/v1/{repository}"
        assert_error(client.request(method, path, content=body), 404, "NAME_UNKNOWN")
        for pushed in (False, True):
            if pushed:
                push(client, repository, image(1), "v2")
            answer = client.request(method, f"{path}/_tags/v1", content=body)
            assert_error(answer, 404, "TAG_UNKNOWN")
            for reference in (UNKNOWN, "v1", "sha256:abc") if method != "DELETE" else ():
                answer = client.request(method, f"{path}/_manifests/{reference}", content=body)
                assert_error(answer, 404, "MANIFEST_UNKNOWN")

    def test_wrong_paths(self, client: httpx.Client, repository: str) -> None:
        """Neither a name, nor a method, nor a tag that cannot be is taken."""
        push(client, repository, image(1), "v1")
        assert_error(client.get("/acr/v1/UPPER"), 400, "NAME_INVALID")
        assert_error(client.get(f"/acr/v1/{repository}/_tags/a/b"), 400, "NAME_INVALID")
        assert_error(client.get(f"/acr/v1/{repository}/_tags/-a"), 404, "TAG_UNKNOWN")
        assert_error(client.get(f"/acr/v1/{repository}/_manifests/v1"), 404, "MANIFEST_UNKNOWN")
        answer = client.delete(f"/acr/v1/{repository}/_manifests/{image(1).digest}")
        assert_error(answer, 405, "UNSUPPORTED")
        assert answer.headers["Allow"] == "GET, HEAD, PATCH"
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Ms-Correlation-Request-Id"])


class TestTag:
    """GET and DELETE of a tag."""

    def test_properties(
        self, client: httpx.Client, registry: RunningRegistry, repository: str
    ) -> None:
        """A tag that moves keeps when it was created; its manifest does not notice a new tag."""
        push(client, repository, image(1), "v1")
        first = get(client, f"{repository}/_tags/v1")["tag"]
        push(client, repository, image(2), "v1")
        for path in spellings(repository, "/_tags/v1"):
            found = client.get(path).json()
            tag = found.pop("tag")
            assert found == {"registry": registry.address, "imageName": repository}
            assert tag.pop("createdTime") == first["createdTime"]
            assert tag.pop("lastUpdateTime") > first["lastUpdateTime"]
            assert tag == {
                "name": "v1",
                "digest": image(2).digest,
                "signed": False,
                "changeableAttributes": UNLOCKED,
            }

    def test_delete(self, client: httpx.Client, repository: str) -> None:
        """The tag goes, with an empty 202, and its manifest stays."""
        push(client, repository, image(1), "v1")
        answer = client.delete(f"/acr/v1/{repository}/_tags/v1")
        assert (answer.status_code, answer.content) == (202, b"")
        assert_error(client.delete(f"/acr/v1/{repository}/_tags/v1"), 404, "TAG_UNKNOWN")
        assert_error(client.get(f"/acr/v1/{repository}/_tags/v1"), 404, "TAG_UNKNOWN")
        assert get(client, f"{repository}/_manifests/{image(1).digest}")


class TestManifest:
    """GET of a manifest."""

    def test_image(self, client: httpx.Client, registry: RunningRegistry, repository: str) -> None:
        """An image has what its config says, the size of its blobs, and its tags."""
        content = image(repository)
        push(client, repository, content, "b")
        push(client, repository, content, "a")
        for path in spellings(repository, f"/_manifests/{content.digest}"):
            found = client.get(path).json()
            manifest = found.pop("manifest")
            assert found == {"registry": registry.address, "imageName": repository}
            assert TIME.fullmatch(manifest.pop("createdTime"))
            assert TIME.fullmatch(manifest.pop("lastUpdateTime"))
            assert manifest == {
                "digest": content.digest,
                "imageSize": sum(map(len, content.blobs)),
                "architecture": "amd64",
                "os": "linux",
                "mediaType": OCI_MANIFEST,
                "configMediaType": OCI_CONFIG,
                "tags": ["a", "b"],
                "changeableAttributes": UNLOCKED,
            }

    def test_index(self, client: httpx.Client, repository: str) -> None:
        """An index says what it lists, in its order; it has no architecture, and here no tag."""
        children = [image(number) for number in range(3)]
        content = index(*children)
        push(client, repository, content)
        manifest = get(client, f"{repository}/_manifests/{content.digest}")["manifest"]
        del manifest["createdTime"], manifest["lastUpdateTime"]
        assert manifest == {
            "digest": content.digest,
            "imageSize": sum(len(blob) for child in children for blob in child.blobs),
            "mediaType": OCI_INDEX,
            "changeableAttributes": UNLOCKED,
            "references": [
                {"digest": child.digest, "architecture": f"arch{number}", "os": "linux"}
                for number, child in enumerate(children)
            ],
        }
        listed = get(client, f"{repository}/_manifests")["manifests"]
        (same,) = [found for found in listed if found["digest"] == content.digest]
        assert same.items() >= manifest.items()

    def test_absurd_platforms(self, client: httpx.Client, repository: str) -> None:
        """What an index says of platforms is shown only where it is a text."""
        child = image(1)
        content = index(child)
        platforms: list[Any] = [None, 5, [], {}, {"os": 5, "architecture": ""}, {"os": "wasi"}]
        manifests = [{**child.descriptor, "platform": platform} for platform in platforms]
        odd = index(child, manifests=manifests)
        push(client, repository, content)
        push(client, repository, odd)
        found = get(client, f"{repository}/_manifests/{odd.digest}")["manifest"]
        assert found["references"] == [
            *[{"digest": child.digest}] * 5,
            {"digest": child.digest, "os": "wasi"},
        ]

    @pytest.mark.every_home
    @pytest.mark.parametrize("wrong", [1, 10_000, 2**40])
    def test_wrong_size_of_config(self, client: httpx.Client, repository: str, wrong: int) -> None:
        """The config is read as it is, whatever size the manifest says."""
        content = image((repository, wrong))
        document = json.loads(content.manifest)
        document["config"]["size"] = wrong
        changed = replace(content, manifest=json.dumps(document).encode())
        push(client, repository, changed, "v1")
        found = get(client, f"{repository}/_manifests/{changed.digest}")["manifest"]
        assert (found["architecture"], found["os"]) == ("amd64", "linux")

    @pytest.mark.parametrize("size", [1, 10_000])
    def test_config_of_another_repository(
        self, client: httpx.Client, repository: str, size: int
    ) -> None:
        """No size makes a difference between a blob of others and one that nobody has."""
        content = image(repository)
        push(client, f"{repository}/secret", content)
        for seed in (repository, f"{repository} that nobody has"):
            document = json.loads(image(seed, layers=0).manifest)
            document["config"]["size"] = size
            payload = json.dumps(document).encode()
            alone = replace(content, manifest=payload)
            assert_error(
                put_manifest(client, repository, alone, "v1"), 400, "MANIFEST_BLOB_UNKNOWN"
            )

    def test_artifact(self, client: httpx.Client, repository: str) -> None:
        """A manifest that is not an image has no architecture."""
        content = artifact(repository)
        push(client, repository, content)
        found = get(client, f"{repository}/_manifests/{content.digest}")["manifest"]
        assert "architecture" not in found
        assert found["imageSize"] == sum(map(len, content.blobs))


PLACES = ["", "/_tags/v1", f"/_manifests/{image(1).digest}"]


def attributes(client: httpx.Client, path: str) -> dict[str, bool]:
    """Read the attributes of a repository, a tag or a manifest."""
    return attributes_in(get(client, path))


def attributes_in(document: dict[str, Any]) -> dict[str, bool]:
    """Return the attributes in a document."""
    inner = document.get("tag") or document.get("manifest") or document
    found: dict[str, bool] = inner["changeableAttributes"]
    return found


@pytest.fixture(scope="module")
def changing(registry: RunningRegistry) -> str:
    """Push an image to a repository that stays as it is."""
    with connect(registry.url) as client:
        push(client, "changing/app", image(1), "v1")
    return "changing/app"


class TestChanges:
    """PATCH of each kind."""

    @pytest.mark.parametrize("place", PLACES)
    def test_change(self, client: httpx.Client, repository: str, place: str) -> None:
        """What is sent changes, the rest stays, no time changes, and no other object is locked."""
        push(client, repository, image(1), "v1")
        before = get(client, repository + place)
        expected = dict(UNLOCKED)
        for change in (
            {"deleteEnabled": False},
            {"writeEnabled": False, "listEnabled": False},
            {"readEnabled": False},
            {},
            {"deleteEnabled": True, "listEnabled": True},
        ):
            expected |= change
            answer = client.patch(spellings(repository, place)[-1], json=change)
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == JSON
            assert answer.json() == get(client, repository + place)
            assert attributes_in(answer.json()) == expected
        for other in set(PLACES) - {place}:
            assert attributes(client, repository + other) == UNLOCKED
        answer = client.patch(f"/acr/v1/{repository}{place}", json=UNLOCKED)
        assert answer.json() == before

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b'"deleteEnabled"',
            b'{"deleteEnabled":false,"unknown":true}',
            b'{"deleteEnabled":false,"writeEnabled":null}',
            b'{"deleteEnabled":false,"writeEnabled":0}',
            b'{"deleteEnabled":false,"writeEnabled":"false"}',
            b'{"deleteEnabled":false,"delete_enabled":true}',
            b'{"deleteEnabled":false,"deleteEnabled":true}',
            b'{"deleteEnabled":true,"delete\\u0045nabled":false}',
            b'{"deleteEnabled":false}{}',
            b'{"deleteEnabled":false,"\xff":true}',
            b'{"deleteEnabled":' + b"[" * 100_000,
            b'{"deleteEnabled":false}' + b" " * 300_000,
        ],
        ids=range(16),
    )
    def test_absurd_bodies(
        self, client: httpx.Client, changing: str, place: str, body: bytes
    ) -> None:
        """Whatever is not understood changes nothing."""
        answer = client.patch(f"/acr/v1/{changing}{place}", content=body)
        assert_error(answer, 400, "UNSUPPORTED")
        assert attributes(client, changing + place) == UNLOCKED


class TestExtensions:
    """GET /v2/_oci/ext/discover."""

    def test_list(self, client: httpx.Client) -> None:
        """The document is the specification's; every endpoint in it exists."""
        answer = client.get("/v2/_oci/ext/discover")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        described = client.get("/openapi.json").json()["paths"]
        extensions = answer.json()["extensions"]
        assert [extension["name"] for extension in extensions] == ["_oci", "_catalog", "_portside"]
        for extension in extensions:
            assert set(extension) == {"name", "url", "description", "endpoints"}
            assert extension["url"].startswith(("https://", "/"))
            for endpoint in extension["endpoints"]:
                if "{" not in endpoint:
                    assert client.get(endpoint).status_code == 200
                else:
                    assert endpoint in described


def test_nothing_is_deleted_where_all_is_kept(data: Path) -> None:
    """With --no-delete, neither tags nor repositories go, and Allow says so."""
    with (
        running_registry(data, "--no-delete") as registry,
        connect(registry.url, auth=("any", "credentials")) as client,
    ):
        push(client, "a", image(1), "v1")
        for path in ("/acr/v1/a", "/acr/v1/a/_tags/v1"):
            answer = client.delete(path)
            assert_error(answer, 405, "UNSUPPORTED")
            assert answer.headers["Allow"] == "GET, HEAD, PATCH"
        assert get(client, "a")["tagCount"] == 1


def test_the_dialect_of_2017(acr_client: httpx.Client, repository: str) -> None:
    """ACR's own API is the same; DELETE of a manifest by tag is the 2017 description's."""
    push(acr_client, repository, image(1), "v1")
    assert get(acr_client, f"{repository}/_tags/v1")["tag"]["digest"] == image(1).digest
    assert acr_client.delete(f"/v2/{repository}/manifests/v1").status_code == 202
    assert_error(acr_client.delete(f"/acr/v1/{repository}/_tags/v1"), 404, "TAG_UNKNOWN")
    assert acr_client.delete(f"/acr/v1/{repository}").status_code == 202
