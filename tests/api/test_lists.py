"""Lists: tags (end-8), referrers (end-12), the catalog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.content import OCI_INDEX, Content, artifact, digest_of, image, index
from support.server import running_registry
from support.wire import assert_error, connect, push, push_blob, put_manifest

LINK = re.compile(r'<([^>]+)>; rel="next"')


def follow(client: httpx.Client, path: str, key: str) -> list[list[Any]]:
    """Read a list page by page, as the Link headers lead; returns the pages."""
    pages = []
    while True:
        answer = client.get(path)
        assert answer.status_code == 200
        pages.append(answer.json()[key])
        link = answer.headers.get("Link")
        if link is None:
            return pages
        found = LINK.fullmatch(link)
        assert found is not None
        assert found.group(1).startswith("/v2/")
        path = found.group(1)


@pytest.fixture
def tags(client: httpx.Client, repository: str) -> list[str]:
    """Push one manifest under tags that ASCII orders in its own way."""
    names = ["1.10", "1.9", "A", "Z", "_x", "a", "b-1", "b.1", "b_1", "z"]
    content = image(repository)
    push(client, repository, content)
    client.put(
        f"/v2/{repository}/manifests/{content.digest}",
        params={"tag": names},
        content=content.manifest,
        headers={"Content-Type": content.media_type},
    )
    return sorted(names)


# Lists are queries, and the order of names is each database's.
pytestmark = pytest.mark.every_database


class TestTags:
    """end-8a and end-8b."""

    def test_all(self, client: httpx.Client, repository: str, tags: list[str]) -> None:
        """Without parameters all tags come, in ASCII order, with the name."""
        answer = client.get(f"/v2/{repository}/tags/list")
        assert answer.json() == {"name": repository, "tags": tags}
        assert answer.headers["Content-Type"] == "application/json"
        assert "Link" not in answer.headers

    @pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 10, 11, 10**17])
    def test_pages(self, client: httpx.Client, repository: str, tags: list[str], n: int) -> None:
        """Pages of any size give every tag once, and no Link leads to an empty page."""
        pages = follow(client, f"/v2/{repository}/tags/list?n={n}", "tags")
        assert [tag for page in pages for tag in page] == tags
        assert all(pages)
        assert all(len(page) == n for page in pages[:-1])

    @pytest.mark.parametrize("last", ["", "1.10", "1.95", "Z", "m", "z", "zz", "ü", "\0"])
    def test_last(self, client: httpx.Client, repository: str, tags: list[str], last: str) -> None:
        """`last` need not exist: what is greater comes."""
        answer = client.get(f"/v2/{repository}/tags/list", params={"last": last})
        assert answer.json()["tags"] == [tag for tag in tags if tag > last]

    def test_none(self, client: httpx.Client, repository: str, tags: list[str]) -> None:
        """n=0 is an empty list without a Link."""
        answer = client.get(f"/v2/{repository}/tags/list?n=0")
        assert answer.json() == {"name": repository, "tags": []}
        assert "Link" not in answer.headers
        assert tags

    @pytest.mark.one_home
    @pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "1e3", "٣", "0x1"])
    def test_absurd_numbers(self, client: httpx.Client, repository: str, n: str) -> None:
        """A page size that is not a number is refused."""
        answer = client.get(f"/v2/{repository}/tags/list", params={"n": n})
        assert_error(answer, 400, "PAGINATION_NUMBER_INVALID")
        answer = client.get("/v2/_catalog", params={"n": n})
        assert_error(answer, 400, "PAGINATION_NUMBER_INVALID")

    def test_unknown(self, client: httpx.Client, repository: str) -> None:
        """A repository without content is unknown; one without tags has an empty list."""
        path = f"/v2/{repository}/tags/list"
        assert_error(client.get(path), 404, "NAME_UNKNOWN")
        push_blob(client, repository, b"x")
        assert client.get(path).json() == {"name": repository, "tags": []}

    def test_limit(self, data: Path, repository: str) -> None:
        """The setting caps a page, asked for or not, and Links lead on."""
        with (
            running_registry(data, "--page-limit", "3", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            content = image(repository)
            for number in range(8):
                push(client, f"{repository}/{number}", content, f"v{number}")
                push(client, repository, content, f"v{number}")
            for query in ("", "?n=100"):
                pages = follow(client, f"/v2/{repository}/tags/list{query}", "tags")
                assert pages == [["v0", "v1", "v2"], ["v3", "v4", "v5"], ["v6", "v7"]]
                names = follow(client, f"/v2/_catalog{query}", "repositories")
                assert [len(page) for page in names] == [3, 3, 3]
                expected = [repository, *(f"{repository}/{number}" for number in range(8))]
                assert [name for page in names for name in page] == expected


class TestCatalog:
    """The list of repositories."""

    def test_repositories_with_manifests(self, client: httpx.Client, repository: str) -> None:
        """A repository is listed while it holds a manifest."""
        query = {"n": "1", "last": repository[:-1]}

        def listed() -> bool:
            return bool(
                client.get("/v2/_catalog", params=query).json()["repositories"] == [repository]
            )

        content = index(annotations={"a": repository})
        push_blob(client, repository, b"x")
        assert not listed()
        push(client, repository, content, "v1")
        assert listed()
        client.delete(f"/v2/{repository}/manifests/{content.digest}")
        assert not listed()


class TestReferrers:
    """end-12: manifests by their subject."""

    @pytest.fixture
    def subject(self, client: httpx.Client, repository: str) -> Content:
        """Push an image to refer to."""
        content = image(repository)
        push(client, repository, content, "v1")
        return content

    def refer(
        self, client: httpx.Client, repository: str, subject: Content
    ) -> dict[str, dict[str, Any]]:
        """Push four kinds of referrer; returns the descriptors to expect, by digest."""
        named: Any = {"subject": subject.descriptor}
        sbom = artifact((repository, 1), "application/vnd.sbom", **named, annotations={"a": "ü"})
        signature = artifact((repository, 2), "application/vnd.signature", **named)
        plain = image((repository, 3), **named)
        listing = index(**named, annotations={"b": "1"})
        for content in (sbom, signature, plain, listing):
            assert push(client, repository, content).headers["OCI-Subject"] == subject.digest
        return {
            sbom.digest: {
                **sbom.descriptor,
                "artifactType": "application/vnd.sbom",
                "annotations": {"a": "ü"},
            },
            signature.digest: {
                **signature.descriptor,
                "artifactType": "application/vnd.signature",
            },
            plain.digest: {
                **plain.descriptor,
                "artifactType": "application/vnd.oci.image.config.v1+json",
            },
            listing.digest: {**listing.descriptor, "annotations": {"b": "1"}},
        }

    def test_list(self, client: httpx.Client, repository: str, subject: Content) -> None:
        """An index lists every referrer with its type and annotations."""
        expected = self.refer(client, repository, subject)
        answer = client.get(f"/v2/{repository}/referrers/{subject.digest}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == OCI_INDEX
        document = answer.json()
        assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
        assert {item["digest"]: item for item in document["manifests"]} == expected
        assert "OCI-Filters-Applied" not in answer.headers

    def test_filter(self, client: httpx.Client, repository: str, subject: Content) -> None:
        """A type narrows the list, and the answer says that it did."""
        self.refer(client, repository, subject)
        path = f"/v2/{repository}/referrers/{subject.digest}"
        for kind, count in (("application/vnd.sbom", 1), ("application/none", 0)):
            answer = client.get(path, params={"artifactType": kind})
            assert answer.headers["OCI-Filters-Applied"] == "artifactType"
            found = answer.json()["manifests"]
            assert [item["artifactType"] for item in found] == [kind] * count

    def test_pages(self, client: httpx.Client, repository: str, subject: Content) -> None:
        """Pages lead on, and keep the filter."""
        expected = self.refer(client, repository, subject)
        path = f"/v2/{repository}/referrers/{subject.digest}"
        pages = follow(client, f"{path}?n=1", "manifests")
        assert [len(page) for page in pages] == [1, 1, 1, 1]
        assert {page[0]["digest"] for page in pages} == set(expected)
        more = artifact((repository, 5), "application/vnd.sbom", subject=subject.descriptor)
        push(client, repository, more)
        filtered = follow(client, f"{path}?n=1&artifactType=application/vnd.sbom", "manifests")
        assert [len(page) for page in filtered] == [1, 1]

    def test_large_annotations(self, data: Path, repository: str) -> None:
        """A list that would be too large for clients comes in pages that are not."""
        with (
            running_registry(data, "--max-referrers-bytes", "3000", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            subject = image(repository)
            for number in range(5):
                notes = {"note": f"{number}" * 1200}
                content = artifact(number, subject=subject.descriptor, annotations=notes)
                push(client, repository, content)
            path = f"/v2/{repository}/referrers/{subject.digest}"
            pages = follow(client, path, "manifests")
            assert [len(page) for page in pages] == [2, 2, 1]

    @pytest.mark.parametrize("known", [True, False])
    def test_nothing(self, client: httpx.Client, repository: str, known: bool) -> None:
        """A digest without referrers has an empty index, even in an unknown repository."""
        if known:
            push_blob(client, repository, b"x")
        answer = client.get(f"/v2/{repository}/referrers/{digest_of(b'nothing')}")
        assert answer.status_code == 200
        assert answer.json()["manifests"] == []

    @pytest.mark.one_home
    def test_malformed(self, client: httpx.Client, repository: str) -> None:
        """A malformed digest is refused."""
        answer = client.get(f"/v2/{repository}/referrers/sha256:bad")
        assert_error(answer, 400, "DIGEST_INVALID")

    def test_fallback_tag(self, client: httpx.Client, repository: str, subject: Content) -> None:
        """What an older client listed under the fallback tag is listed here as well."""
        referrer = artifact(repository, subject=subject.descriptor)
        push(client, repository, referrer)
        fallback = index(referrer)
        tag = subject.digest.replace(":", "-")
        assert put_manifest(client, repository, fallback, tag).status_code == 201
        answer = client.get(f"/v2/{repository}/referrers/{subject.digest}")
        assert [item["digest"] for item in answer.json()["manifests"]] == [referrer.digest]

    def test_deletes(self, client: httpx.Client, repository: str, subject: Content) -> None:
        """A deleted referrer is not listed; a deleted subject keeps its referrers."""
        first, second = (artifact((repository, i), subject=subject.descriptor) for i in range(2))
        for content in (first, second):
            push(client, repository, content)
        for gone in (subject, first):
            path = f"/v2/{repository}/manifests/{gone.digest}"
            assert client.delete(path).status_code == 202
        answer = client.get(f"/v2/{repository}/referrers/{subject.digest}")
        assert [item["digest"] for item in answer.json()["manifests"]] == [second.digest]
