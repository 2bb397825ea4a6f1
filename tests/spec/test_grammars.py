"""The grammar: names, tags, digests, ranges, pages, routes, media types."""

from __future__ import annotations

import re
import string
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.spec.digests import Algorithm, Digest
from portside.spec.endpoints import ENDPOINTS
from portside.spec.errors import (
    DigestInvalid,
    NameInvalid,
    PaginationNumberInvalid,
    RangeInvalid,
    RangeNotSatisfiable,
    TagInvalid,
)
from portside.spec.media_types import (
    canonical,
    essence,
    is_foreign,
    is_manifest_type,
    is_media_type,
)
from portside.spec.mounts import MountRequest
from portside.spec.names import RepositoryName, Tag, parse_reference
from portside.spec.pagination import PageRequest, cut, parse_page
from portside.spec.ranges import ByteRange, grouped, parse_chunk, parse_range
from portside.spec.routes import LONGEST, Routes

# The expressions as they stand in the distribution-spec.
NAME = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"

ROUTES = Routes(ENDPOINTS)

names = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 255)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)


class TestNames:
    """Repository names."""

    @given(names)
    @example("a/blobs/uploads")
    def test_every_name_of_the_grammar(self, text: str) -> None:
        """What the expression matches is a name, and is written as it was read."""
        assert str(RepositoryName.parse(text)) == text

    @given(st.text(st.sampled_from("aB0/._- é\0\n"), max_size=12))
    def test_nothing_else(self, text: str) -> None:
        """A text that the expression does not match is not a name."""
        if re.fullmatch(NAME, text):
            RepositoryName.parse(text)
        else:
            with pytest.raises(NameInvalid):
                RepositoryName.parse(text)

    def test_length(self) -> None:
        """255 characters are a name, 256 are not."""
        RepositoryName.parse("a" * 255)
        with pytest.raises(NameInvalid):
            RepositoryName.parse("a" * 256)


class TestReferences:
    """Tags and digests."""

    @given(st.from_regex(TAG, fullmatch=True))
    def test_every_tag_of_the_grammar(self, text: str) -> None:
        """What the expression matches is a tag."""
        assert isinstance(parse_reference(text), Tag)

    @given(st.text(max_size=140))
    def test_nothing_else_is_a_tag(self, text: str) -> None:
        """A text that the expression does not match is not a tag."""
        if re.fullmatch(TAG, text):
            Tag.parse(text)
        else:
            with pytest.raises(TagInvalid):
                Tag.parse(text)

    @given(hexes)
    def test_digest(self, encoded: str) -> None:
        """A digest keeps its two parts."""
        digest = parse_reference(f"sha256:{encoded}")
        assert isinstance(digest, Digest)
        assert (digest.algorithm, digest.encoded) == (Algorithm.SHA256, encoded)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ":",
            "sha256:",
            "sha256:" + "a" * 63,
            "sha256:" + "a" * 65,
            "sha256:" + "A" * 64,
            "sha256:" + "g" * 64,
            "SHA256:" + "a" * 64,
            "sha512:" + "a" * 64,
            "md5:" + "a" * 32,
            "sha256:" + "a" * 64 + "\n",
            "sha256:" + "\u0661" * 64,
        ],
    )
    def test_malformed_digest(self, text: str) -> None:
        """A text of another length, case or algorithm is not a digest."""
        with pytest.raises(DigestInvalid):
            Digest.parse(text)

    @given(st.binary(max_size=100), st.sampled_from(Algorithm))
    def test_computed(self, content: bytes, algorithm: Algorithm) -> None:
        """What is computed parses."""
        digest = Digest.of(content, algorithm)
        assert Digest.parse(str(digest)) == digest


class TestRanges:
    """Range and Content-Range."""

    @given(st.text(st.sampled_from("bytes=0123456789-, "), max_size=30), st.integers(0, 1000))
    def test_whatever_is_asked_for_lies_within(self, header: str, size: int) -> None:
        """Parts are never empty, never outside, and never more than the whole."""
        try:
            parts = parse_range(header, size=size, max_ranges=4)
        except RangeNotSatisfiable:
            return
        assert len(parts) <= 4
        assert all(0 <= part.start < part.stop <= size for part in parts)
        assert sum(part.length for part in parts) <= size

    @given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
    def test_one(self, first: int, last: int, size: int) -> None:
        """A range means the bytes that RFC 9110 says."""
        header = f"bytes={first}-{last}"
        expected = list(range(first, min(last + 1, size)))[:1]
        if not expected:
            with pytest.raises(RangeNotSatisfiable):
                parse_range(header, size=size, max_ranges=1)
        else:
            part = ByteRange(first, min(last + 1, size))
            assert parse_range(header, size=size, max_ranges=1) == [part]

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("bytes=0-", [(0, 100)]),
            ("bytes=99-", [(99, 100)]),
            ("bytes=-1", [(99, 100)]),
            ("bytes=-100", [(0, 100)]),
            ("bytes=-101", [(0, 100)]),
            ("bytes=-99999999999999999999", [(0, 100)]),
            ("bytes=5-99999999999999999999", [(5, 100)]),
            ("BYTES = 0-4", [(0, 5)]),
            (" bytes=0-4 , 7-8,, ", [(0, 5), (7, 9)]),
            ("bytes=0-4,5-9", [(0, 10)]),
            ("bytes=5-9,0-4", [(0, 10)]),
            ("bytes=0-4,6-9", [(0, 5), (6, 10)]),
            ("bytes=0-50,10-20", [(0, 51)]),
            ("bytes=10-20,0-50", [(0, 51)]),
            ("bytes=50-59,0-9,55-65", [(50, 66), (0, 10)]),
            ("bytes=50-59,0-9,45-52", [(45, 60), (0, 10)]),
            ("bytes=0-9,50-59,20-29", [(0, 10), (50, 60), (20, 30)]),
            ("bytes=90-99,100-200", [(90, 100)]),
            ("bytes=-0,3-3", [(3, 4)]),
            ("bytes=0-0,1-1,2-2,3-3", [(0, 4)]),
            ("bytes=0-0,2-2,4-4,6-6,8-8", []),
            ("bytes=9-5", None),
            ("bytes=-0", None),
            ("bytes=100-", None),
            ("bytes=99999999999999999999-", None),
            ("bytes=99999999999999999999-99999999999999999999", None),
            ("bytes=100-200,300-400", None),
            ("bytes=0-4,x", []),
            ("bytes=-", []),
            ("bytes=", []),
            ("bytes=,", []),
            ("bytes 0-4", []),
            ("items=0-4", []),
            ("bytes=\u0661-\u0662", []),
            ("bytes=+1-2", []),
        ],
    )
    def test_examples(self, header: str, expected: list[tuple[int, int]] | None) -> None:
        """Ranges are coalesced where their first one was; what is no range is ignored."""
        if expected is None:
            with pytest.raises(RangeNotSatisfiable) as caught:
                parse_range(header, size=100, max_ranges=4)
            assert caught.value.size == 100
        else:
            assert parse_range(header, size=100, max_ranges=4) == expected

    def test_groups(self) -> None:
        """Parts with a small gap between them are read at once, never backwards."""
        parts = [ByteRange(*part) for part in ((0, 5), (8, 10), (14, 20), (4, 6), (6, 7))]
        first, second, third, fourth, fifth = parts
        assert grouped(parts, gap=3) == [[first, second], [third], [fourth, fifth]]
        assert grouped(parts, gap=4) == [[first, second, third], [fourth, fifth]]
        assert grouped(parts, gap=0) == [[first], [second], [third], [fourth, fifth]]

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("0-0", (0, 1)),
            (" 5-9 ", (5, 10)),
            ("bytes 5-9/100", (5, 10)),
            ("bytes=5-9", (5, 10)),
            ("bytes 5-9/*", (5, 10)),
            ("9-5", None),
            ("5-", None),
            ("-5", None),
            ("5", None),
            ("5-9,11-12", None),
            ("5-9/", None),
            ("items 5-9", None),
            ("\u0665-9", None),
            ("0-99999999999999999999", None),
        ],
    )
    def test_chunks(self, header: str, expected: tuple[int, int] | None) -> None:
        """Both forms are read: that of the specification, and that of RFC 9110."""
        if expected is None:
            with pytest.raises(RangeInvalid):
                parse_chunk(header)
        else:
            assert parse_chunk(header) == expected

    @given(st.text(max_size=30))
    def test_chunk(self, header: str) -> None:
        """A Content-Range is read or refused, and never anything else."""
        try:
            chunk = parse_chunk(header)
        except RangeInvalid:
            return
        assert chunk.length > 0

    @given(st.integers(0, 10**18), st.integers(1, 10**6))
    def test_chunk_as_written(self, start: int, length: int) -> None:
        """The specification's form is read."""
        assert parse_chunk(f"{start}-{start + length - 1}") == ByteRange(start, start + length)


class TestPages:
    """n and last."""

    @given(st.integers(0, 10**17), st.integers(1, 100))
    def test_number(self, n: int, limit: int) -> None:
        """A number is taken, up to the limit."""
        assert parse_page(str(n), None, limit=limit) == PageRequest(min(n, limit))

    @given(st.text(max_size=5))
    def test_nothing_else(self, text: str) -> None:
        """Only a whole number is a page size; other texts are refused."""
        if text and set(text) <= set(string.digits):
            assert parse_page(text, None, limit=1) == PageRequest(min(int(text), 1))
        else:
            with pytest.raises(PaginationNumberInvalid):
                parse_page(text, None, limit=1)

    @given(st.lists(st.integers(), max_size=10), st.integers(0, 12))
    def test_cut(self, items: list[int], limit: int) -> None:
        """A page says that there is more exactly if there is, and never after an empty page."""
        page = cut(items[: limit + 1], PageRequest(limit))
        assert page.items == items[:limit]
        assert page.more == (0 < limit < len(items))


class TestRoutes:
    """From a path to an endpoint."""

    @given(names, st.sampled_from([route for route in ROUTES.by_path if "{name}" in route]))
    def test_any_name(self, name: str, template: str) -> None:
        """Every endpoint is found in a repository of any name, with its variables."""
        variables = {"reference": "v1", "digest": "sha256:0", "session": "0" * 32, "tag": "_tags"}
        path = template.format(name=name, **variables)
        found = ROUTES.match(path)
        assert found is not None
        assert (found.route.path, found.name) == (template, name)
        last = template.rpartition("/")[2].strip("{}")
        assert found.last == variables.get(last, "")

    def test_long_path(self) -> None:
        """It is matched as well, and not kept: a client could fill the memory with such paths."""
        name = "a" * LONGEST
        path = f"/v2/{name}/manifests/v1"
        references = sys.getrefcount(path)
        found = ROUTES.match(path)
        assert found is not None
        assert (found.route.path, found.name) == ("/v2/{name}/manifests/{reference}", name)
        assert sys.getrefcount(path) == references

    def test_methods(self) -> None:
        """What has a GET has a HEAD, which may be a row of its own."""
        for route in ROUTES.by_path.values():
            assert ("GET" in route.methods) <= ("HEAD" in route.methods)
            for row in (row for row in ENDPOINTS if row.path == route.path):
                assert route.methods[row.method] is row

    @pytest.mark.parametrize(
        ("path", "template", "name", "last"),
        [
            ("/v2", "/v2/", "", ""),
            ("/v2/", "/v2/", "", ""),
            ("/v2/a/blobs/uploads", "/v2/{name}/blobs/uploads/", "a", ""),
            ("/v2/a/blobs/uploads/", "/v2/{name}/blobs/uploads/", "a", ""),
            ("/v2/a/blobs/uploads/x", "/v2/{name}/blobs/uploads/{session}", "a", "x"),
            ("/v2/a/blobs/uploads/uploads", "/v2/{name}/blobs/uploads/{session}", "a", "uploads"),
            ("/v2/tags/list/tags/list", "/v2/{name}/tags/list", "tags/list", ""),
            ("/v2/a/manifests/list", "/v2/{name}/manifests/{reference}", "a", "list"),
            ("/v2/_catalog", "/v2/_catalog", "", ""),
            ("/v2/_oci/ext/discover", "/v2/_oci/ext/discover", "", ""),
            (
                "/v2/tags/history/_portside/tags/history/history",
                "/v2/{name}/_portside/tags/history/{tag}",
                "tags/history",
                "history",
            ),
            ("/acr/v1/_catalog", "/acr/v1/_catalog", "", ""),
            ("/acr/v1/a", "/acr/v1/{name}", "a", ""),
            ("/acr/v1/a/tags/list", "/acr/v1/{name}", "a/tags/list", ""),
            ("/acr/v1/a/blobs/b", "/acr/v1/{name}", "a/blobs/b", ""),
            ("/acr/v1/blobs/_tags", "/acr/v1/{name}/_tags", "blobs", ""),
            ("/acr/v1/a/manifests/_tags", "/acr/v1/{name}/_tags", "a/manifests", ""),
            ("/acr/v1/a/_tags/_tags", "/acr/v1/{name}/_tags/{tag}", "a", "_tags"),
            ("/acr/v1/a/_tags/_manifests", "/acr/v1/{name}/_tags/{tag}", "a", "_manifests"),
            ("/acr/v1/a/_manifests/x", "/acr/v1/{name}/_manifests/{digest}", "a", "x"),
            ("/acr/v1/a/_tags/b/c", "/acr/v1/{name}", "a/_tags/b/c", ""),
        ],
    )
    def test_examples(self, path: str, template: str, name: str, last: str) -> None:
        """Paths whose words could be taken for others are matched from the right."""
        found = ROUTES.match(path)
        assert found is not None
        assert (found.route.path, found.name, found.last) == (template, name, last)

    @pytest.mark.parametrize(
        "path",
        [
            "v2/",
            "/v2//",
            "/v2/a",
            "/v2/a/tags/list/",
            "/v2/a/manifests/",
            "/v2/a/blobs/uploads//",
            "/v3/a/tags/list",
            "/a/tags/list",
            "/v2/_catalog/",
            "/v2/a/_tags",
            "/v2/a/_tags/v1",
            "/acr/v1",
            "/acr/v1/",
            "/acr/v1/a/",
            "/acr/v1/a/_tags/",
            "/acr/v2/a",
            "/healthz/",
        ],
    )
    def test_no_route(self, path: str) -> None:
        """A path that no row describes has none."""
        assert ROUTES.match(path) is None

    @given(st.text(st.sampled_from("v12/abTUagslimnfetrod_cp:"), max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any path is matched or not, and what is matched has a method."""
        found = ROUTES.match(f"/{text}")
        assert found is None or found.route.methods

    def test_ids_are_those_of_the_specification(self) -> None:
        """The rows under /v2 bear the ids of the distribution-spec, but for its extensions."""
        extensions = {"catalog", "extension"}
        ids = {row.id for row in ENDPOINTS if row.path.startswith("/v2")} - extensions
        assert ids <= {f"end-{number}" for number in range(1, 15)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("application/json", True),
        ("application/vnd.oci.image.manifest.v1+json", True),
        ("json", False),
        ("a/b; c=d", False),
        ("a/b\r\n", False),
        ("a/\u00e4", False),
        ("/", False),
        ("a/" + "b" * 128, False),
    ],
)
def test_media_types(text: str, expected: bool) -> None:
    """A media type is two names of RFC 6838."""
    assert is_media_type(text) is expected


def test_essence() -> None:
    """Parameters do not count."""
    assert essence(' a/b ;charset="x"') == "a/b"
    assert essence("a/b") == "a/b"


def test_foreign_types() -> None:
    """Layers that may be elsewhere are told by their type; others never are."""
    for foreign in (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ):
        assert is_foreign(foreign)
    assert not is_foreign("application/vnd.oci.image.layer.v1.tar+gzip")
    assert not is_foreign("application/vnd.docker.image.rootfs.diff.tar.gzip")


MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.cncf.oras.artifact.manifest.v1+json",
    "application/vnd.oci.artifact.manifest.v1+json",
)


def test_manifest_types() -> None:
    """Known types have one spelling; others are manifests if they are of JSON documents."""
    for known in MANIFEST_TYPES:
        assert canonical(known.upper()) == known
        assert is_manifest_type(known.upper())
    for other in ("application/json", "Application/JSON", "application/x+json"):
        assert is_manifest_type(other)
        assert canonical(other) == other
    for refused in (
        "text/json",
        "text/x+json",
        "application/x",
        "json",
        "application/octet-stream",
    ):
        assert not is_manifest_type(refused)


@pytest.mark.parametrize(
    ("mount", "source", "expected"),
    [
        ("sha256:" + "a" * 64, "team/app", ("sha256:" + "a" * 64, "team/app")),
        ("sha256:" + "a" * 64, None, ("sha256:" + "a" * 64, None)),
        ("sha256:" + "a" * 64, "", ("sha256:" + "a" * 64, None)),
        ("sha256:" + "a" * 64, "127.0.0.1:5000/app", None),
        ("sha256:" + "a" * 64, "Team/App", None),
        ("md5:" + "a" * 32, "team/app", None),
        ("", None, None),
    ],
)
def test_mounts(mount: str, source: str | None, expected: tuple[str, str | None] | None) -> None:
    """A mount that names nothing that could be here is no mount, and no error."""
    found = MountRequest.parse(mount, source)
    assert (None if found is None else (found.digest, found.source)) == expected
