"""ACR's own API: deleted content, which can be listed and restored."""

from __future__ import annotations

import re

import httpx
import pytest

from support.content import Content, image
from support.wire import assert_error, push

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")

pytestmark = pytest.mark.every_database


@pytest.fixture
def contents(client: httpx.Client, repository: str) -> list[Content]:
    """Push three images, each with a tag, and delete them in this order."""
    made = [image((repository, number)) for number in range(3)]
    for number, content in enumerate(made):
        push(client, repository, content, f"v{number}")
    for content in made:
        assert client.delete(f"/v2/{repository}/manifests/{content.digest}").status_code == 202
    return made


def restore(
    client: httpx.Client, repository: str, content: Content, document: object, query: str = ""
) -> httpx.Response:
    """Send a request to restore a manifest."""
    path = f"/acr/v1/_deleted/{repository}/_manifests/{content.digest}"
    return client.post(f"{path}?{query}", json=document)


class TestLists:
    """What can be restored."""

    @pytest.mark.parametrize("kind", ["_manifests", "_tags"])
    def test_pages(
        self, client: httpx.Client, repository: str, contents: list[Content], kind: str
    ) -> None:
        """Links lead from page to page, relative and complete, in the order of deletion."""
        encoded = repository.replace("/", "%2F")
        link: str | None = f"/acr/v1/_deleted/{encoded}/{kind}?n=2"
        found = []
        sizes = []
        while link is not None:
            answer = client.get(link)
            assert answer.status_code == 200, answer.text
            document = answer.json()
            assert document["imageName"] == repository
            page = document[kind.strip("_")]
            assert all(TIME.fullmatch(item["deletedAt"]) for item in page)
            assert all(item["createdAt"] < item["deletedAt"] for item in page)
            found += page
            sizes.append(len(page))
            header = answer.headers.get("Link")
            pattern = rf'<(/acr/v1/_deleted/{encoded}/{kind}\?last=[^&]+&n=2&orderby=)>; rel="next"'
            match = re.fullmatch(pattern, header) if header else None
            assert (match is None) == (header is None)
            link = match[1] if match else None
        assert sizes == [2, 1]
        assert [item["digest"] for item in found] == [content.digest for content in contents]
        if kind == "_tags":
            assert [item["tag"] for item in found] == ["v0", "v1", "v2"]

    def test_nothing(self, client: httpx.Client, repository: str) -> None:
        """An empty list is null, as ACR's clients expect; an unknown repository is none."""
        for kind in ("manifests", "tags"):
            unknown = client.get(f"/acr/v1/_deleted/{repository}/_{kind}")
            assert_error(unknown, 404, "NAME_UNKNOWN")
        push(client, repository, image(repository), "v1")
        for kind in ("manifests", "tags"):
            answer = client.get(f"/acr/v1/_deleted/{repository}/_{kind}")
            assert answer.json()[kind] is None
        wrong = client.get(f"/acr/v1/_deleted/{repository}/_tags?last=v1")
        assert_error(wrong, 400, "UNSUPPORTED")

    def test_repositories(
        self, client: httpx.Client, repository: str, contents: list[Content]
    ) -> None:
        """A repository is listed once it was deleted as a whole."""
        others = [f"{repository}-{letter}" for letter in "ab"]
        for name in others:
            push(client, name, image(name), "v1")
            assert client.delete(f"/acr/v1/{name}").status_code == 202
        query = f"n=1&last={repository}"
        first = client.get(f"/acr/v1/_deleted/_catalog?{query}")
        (found,) = first.json()["repositories"]
        assert found["repository"] == others[0]
        assert TIME.fullmatch(found["deletedAt"])
        link = first.headers["Link"]
        assert link.startswith(f"</acr/v1/_deleted/_catalog?last={others[0].replace('/', '%2F')}&")
        second = client.get(link[1 : link.index(">")]).json()["repositories"]
        assert [item["repository"] for item in second] == others[1:]
        everything = client.get("/acr/v1/_deleted/_catalog?n=1000").json()["repositories"]
        assert repository not in [item["repository"] for item in everything]
        assert contents


class TestRestore:
    """POST of a manifest."""

    def test_with_a_tag(
        self, client: httpx.Client, repository: str, contents: list[Content]
    ) -> None:
        """The manifest comes back under the tag that is asked for, whatever it was."""
        answer = restore(client, repository, contents[0], {"tag": "new"}, "force=False")
        assert (answer.status_code, answer.json()) == (
            200,
            {"digest": contents[0].digest, "tag": "new"},
        )
        assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["new"]
        again = restore(client, repository, contents[0], {"tag": "new"})
        assert again.status_code == 200

    @pytest.mark.parametrize("document", [{}, {"tag": None}, {"tag": ""}])
    def test_without_a_tag(
        self, client: httpx.Client, repository: str, contents: list[Content], document: object
    ) -> None:
        """It comes back with the tags that were deleted with it."""
        answer = restore(client, repository, contents[1], document)
        assert answer.json() == {"digest": contents[1].digest, "tag": None}
        assert client.get(f"/v2/{repository}/manifests/v1").content == contents[1].manifest
        twice = restore(client, repository, contents[1], document)
        assert_error(twice, 404, "MANIFEST_UNKNOWN")

    def test_a_tag_that_exists(
        self, client: httpx.Client, repository: str, contents: list[Content]
    ) -> None:
        """Nothing is restored over it without force."""
        push(client, repository, contents[2], "v0")
        refused = restore(client, repository, contents[0], {"tag": "v0"}, "force=false")
        assert_error(refused, 409, "TAG_EXISTS")
        assert contents[2].digest in refused.text
        path = f"/v2/{repository}/manifests/{contents[0].digest}"
        assert client.get(path).status_code == 404
        forced = restore(client, repository, contents[0], {"tag": "v0"}, "force=True")
        assert forced.status_code == 200
        assert client.get(f"/v2/{repository}/manifests/v0").content == contents[0].manifest

    @pytest.mark.parametrize(
        ("body", "query", "code"),
        [
            (b'{"tag": "v1"', "", "UNSUPPORTED"),
            (b'{"tag": 1}', "", "UNSUPPORTED"),
            (b"[]", "", "UNSUPPORTED"),
            (b"\xff", "", "UNSUPPORTED"),
            (b"[" * 10_000, "", "UNSUPPORTED"),
            (b'{"tag": "a b"}', "", "TAG_INVALID"),
            (b'{"tag": "v1"}', "force=maybe", "UNSUPPORTED"),
        ],
    )
    def test_malformed(
        self,
        client: httpx.Client,
        repository: str,
        contents: list[Content],
        body: bytes,
        query: str,
        code: str,
    ) -> None:
        """It is refused, and nothing is restored."""
        path = f"/acr/v1/_deleted/{repository}/_manifests/{contents[0].digest}"
        assert_error(client.post(f"{path}?{query}", content=body), 400, code)
        listed = client.get(f"/acr/v1/_deleted/{repository}/_manifests").json()["manifests"]
        assert len(listed) == 3

    def test_unknown(self, client: httpx.Client, repository: str, contents: list[Content]) -> None:
        """What is not in the trash is not found."""
        unknown = image((repository, "unknown"))
        for document in ({}, {"tag": "v1"}):
            assert_error(restore(client, repository, unknown, document), 404, "MANIFEST_UNKNOWN")
        path = f"/acr/v1/_deleted/{repository}/_manifests/v1"
        assert_error(client.post(path, json={}), 404, "MANIFEST_UNKNOWN")
        assert contents
