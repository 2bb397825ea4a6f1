"""ACR's own API: lists by name and by time, page by page."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from support.content import Content, image
from support.wire import assert_error, push, push_blob, put_manifest

LINK = re.compile(r'<(/acr/v1/[^>]+)>; rel="next"')
ORDERS = ["", "none", "timeasc", "timedesc"]

pytestmark = pytest.mark.every_database


def pages(client: httpx.Client, path: str, key: str, field: str) -> list[list[str]]:
    """Follow the Links of a list; delete every entry of a page before the next is asked for."""
    found: list[list[str]] = []
    link: str | None = path
    while link is not None:
        answer = client.get(link)
        assert answer.status_code == 200, answer.text
        items = [item[field] for item in answer.json()[key] or ()]
        assert items or not found, "a Link led to an empty page"
        found.append(items)
        repository = answer.json()["imageName"]
        for item in items:
            gone = (
                client.delete(f"/acr/v1/{repository}/_tags/{item}")
                if key == "tags"
                else client.delete(f"/v2/{repository}/manifests/{item}")
            )
            assert gone.status_code == 202
        link = next_path(answer)
    return found


def next_path(answer: httpx.Response) -> str | None:
    """Return where the next page is."""
    header = answer.headers.get("Link")
    if header is None:
        return None
    match = LINK.fullmatch(header)
    assert match is not None, header
    return match[1]


@pytest.fixture
def contents(client: httpx.Client, repository: str) -> list[Content]:
    """Push three manifests, the oldest of them again; the tags of each push have one time."""
    made = [image((repository, number), layers=0) for number in range(3)]
    for content in made:
        for blob in content.blobs:
            push_blob(client, repository, blob)
    for content, tags in zip([*made, made[0]], ("e", "bca", "d", "f"), strict=True):
        answer = client.put(
            f"/v2/{repository}/manifests/{content.digest}",
            params={"tag": list(tags)},
            content=content.manifest,
            headers={"Content-Type": content.media_type},
        )
        assert answer.status_code == 201
    return made


BY_TIME = list("eabcdf")


class TestTags:
    """_tags."""

    @pytest.mark.parametrize("n", [1, 2, 4, 6])
    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.usefixtures("contents")
    def test_pages(self, client: httpx.Client, repository: str, order: str, n: int) -> None:
        """Each tag is listed once, in its order, though those before it are deleted by then."""
        expected = {"timeasc": BY_TIME, "timedesc": BY_TIME[::-1]}.get(order, sorted(BY_TIME))
        path = f"/acr/v1/{quote(repository, safe='')}/_tags?n={n}&orderby={order}"
        found = pages(client, path, "tags", "name")
        assert [name for page in found for name in page] == expected
        assert all(len(page) == n for page in found[:-1])

    def test_link(self, client: httpx.Client, repository: str, contents: list[Content]) -> None:
        """The Link has all that its readers look for, and the digest that it is limited to."""
        encoded = quote(repository, safe="")
        answer = client.get(f"/acr/v1/{repository}/_tags?n=2&api-version=2021-07-01")
        link = answer.headers["Link"]
        assert link == f'</acr/v1/{encoded}/_tags?last=b&n=2&orderby=>; rel="next"'
        digest = contents[1].digest
        query = {"n": "1", "orderby": "timedesc", "digest": digest}
        answer = client.get(f"/acr/v1/{repository}/_tags", params=query)
        path = next_path(answer)
        assert path is not None
        found = parse_qs(urlsplit(path).query)
        assert found["digest"] == [digest]
        assert re.fullmatch(r"\d+&c", found["last"][0])
        names = [tag["name"] for tag in client.get(path).json()["tags"]]
        assert names == ["b"]

    @pytest.mark.parametrize("order", ORDERS)
    def test_of_a_manifest(
        self, client: httpx.Client, repository: str, contents: list[Content], order: str
    ) -> None:
        """All pages of the tags of a manifest have its tags alone."""
        digest = quote(contents[0].digest, safe="")
        path = f"/acr/v1/{repository}/_tags?n=1&digest={digest}&orderby={order}"
        found = pages(client, path, "tags", "name")
        assert found == ([["f"], ["e"]] if order == "timedesc" else [["e"], ["f"]])
        answer = client.get(f"/acr/v1/{repository}/_tags?digest=sha256:{'0' * 64}")
        assert answer.json()["tags"] is None

    def test_empty_digest(
        self, client: httpx.Client, repository: str, contents: list[Content]
    ) -> None:
        """An empty digest limits nothing: a client writes it for none."""
        assert contents
        assert len(client.get(f"/acr/v1/{repository}/_tags?digest=").json()["tags"]) == 6

    @pytest.mark.parametrize("last", ["", "a", "bb", "f", "\u00fc", "\0"])
    @pytest.mark.usefixtures("contents")
    def test_last(self, client: httpx.Client, repository: str, last: str) -> None:
        """In an order of names, `last` is any text, as acr and az write it themselves."""
        query = {"last": last, "orderby": ""}
        tags = client.get(f"/acr/v1/{repository}/_tags", params=query).json()["tags"]
        names = [tag["name"] for tag in tags] if tags is not None else None
        assert names == ([name for name in "abcdef" if name > last] or None)

    @pytest.mark.parametrize("order", ["timeasc", "timedesc"])
    @pytest.mark.usefixtures("contents")
    def test_absurd_positions(self, client: httpx.Client, repository: str, order: str) -> None:
        """In an order of time, any position can be asked for, and nothing else."""
        path = f"/acr/v1/{repository}/_tags"
        for last in ("0&", "0&\0", f"{'9' * 18}&\u00fc", "1&a&b", "1&\n"):
            answer = client.get(path, params={"last": last, "orderby": order})
            assert answer.status_code == 200, (last, answer.text)
        for last in ("a", "&", "&a", "-1&a", f"{'9' * 19}&a", "\u0663&a", "1", " 1&a"):
            answer = client.get(path, params={"last": last, "orderby": order})
            assert_error(answer, 400, "UNSUPPORTED")


class TestManifests:
    """_manifests."""

    @pytest.mark.parametrize("n", [1, 2, 3])
    @pytest.mark.parametrize("order", ORDERS)
    def test_pages(
        self, client: httpx.Client, repository: str, contents: list[Content], order: str, n: int
    ) -> None:
        """Each manifest is listed once, the one that was pushed again as the newest."""
        first, second, third = (content.digest for content in contents)
        by_time = [second, third, first]
        expected = {"timeasc": by_time, "timedesc": by_time[::-1]}.get(order, sorted(by_time))
        path = f"/acr/v1/{repository}/_manifests?n={n}&orderby={order}"
        found = pages(client, path, "manifests", "digest")
        assert [digest for page in found for digest in page] == expected

    def test_tags(self, client: httpx.Client, repository: str, contents: list[Content]) -> None:
        """Each one has its tags, or no such field."""
        assert put_manifest(client, repository, contents[2], "b").status_code == 201
        untagged = image((repository, "untagged"))
        push(client, repository, untagged)
        listed = client.get(f"/acr/v1/{repository}/_manifests").json()["manifests"]
        tags = {item["digest"]: item.get("tags") for item in listed}
        expected: list[list[str] | None] = [["e", "f"], ["a", "c"], ["b", "d"], None]
        assert tags == {
            content.digest: names
            for content, names in zip([*contents, untagged], expected, strict=True)
        }


class TestCatalog:
    """_catalog."""

    def test_pages(self, client: httpx.Client, repository: str) -> None:
        """Names follow each other in ASCII order, as in /v2/_catalog."""
        names = [f"{repository}/{name}" for name in ("a", "a-b", "a/b", "b")]
        for name in names:
            push(client, name, image(name))
        link: str | None = f"/acr/v1/_catalog?n=1&last={quote(repository, safe='')}"
        found: list[str] = []
        while link is not None and len(found) < len(names):
            answer = client.get(link)
            found += answer.json()["repositories"]
            link = next_path(answer)
            if link is not None:
                assert f"last={quote(found[-1], safe='')}&n=1&orderby=" in link
        assert found == names
        answer = client.get("/acr/v1/_catalog", params={"last": "~"})
        assert answer.json() == {"repositories": []}


class TestQueries:
    """n, orderby and digest."""

    @pytest.mark.one_home
    def test_sizes(self, client: httpx.Client, repository: str) -> None:
        """A page has at most 1000 entries, and 100 if nobody asks for another number."""
        content = image(repository)
        push(client, repository, content)
        names = [f"t{number:04}" for number in range(1020)]
        for start in range(0, len(names), 60):
            answer = client.put(
                f"/v2/{repository}/manifests/{content.digest}",
                params={"tag": names[start : start + 60]},
                content=content.manifest,
                headers={"Content-Type": content.media_type},
            )
            assert answer.status_code == 201
        for query, limit in (
            ("", 100),
            ("n=1000", 1000),
            ("n=1001", 1000),
            (f"n={'9' * 30}", 1000),
        ):
            answer = client.get(f"/acr/v1/{repository}/_tags?{query}")
            assert len(answer.json()["tags"]) == limit
            assert f"&n={limit}&" in answer.headers["Link"]
        manifest = client.get(f"/acr/v1/{repository}/_manifests/{content.digest}").json()
        assert manifest["manifest"]["tags"] == names[:1000]
        answer = client.get(f"/acr/v1/{repository}/_tags?n=0")
        assert (answer.json()["tags"], "Link" in answer.headers) == (None, False)

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("n=-1", "PAGINATION_NUMBER_INVALID"),
            ("n=", "PAGINATION_NUMBER_INVALID"),
            ("n=x", "PAGINATION_NUMBER_INVALID"),
            ("orderby=time_desc", "UNSUPPORTED"),
            ("orderby=TIMEASC", "UNSUPPORTED"),
            ("orderby=name", "UNSUPPORTED"),
            ("digest=v1", "DIGEST_INVALID"),
            ("digest=sha256:abc", "DIGEST_INVALID"),
        ],
    )
    def test_absurd(self, client: httpx.Client, repository: str, query: str, code: str) -> None:
        """A value that is not understood is refused, and not ignored."""
        answer = client.get(f"/acr/v1/{repository}/_tags?{query}")
        assert_error(answer, 400, code)
        if not query.startswith("digest"):
            assert_error(client.get(f"/acr/v1/{repository}/_manifests?{query}"), 400, code)
        if query.startswith("n="):
            assert_error(client.get(f"/acr/v1/_catalog?{query}"), 400, code)

    @pytest.mark.one_home
    @pytest.mark.parametrize("kind", ["_tags", "_manifests"])
    def test_unknown(self, client: httpx.Client, repository: str, kind: str) -> None:
        """Lists of a repository that does not exist are not empty."""
        assert_error(client.get(f"/acr/v1/{repository}/{kind}"), 404, "NAME_UNKNOWN")
