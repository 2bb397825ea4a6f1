"""The grammar: names, tags, digests, ranges, pages, routes, media types."""

from __future__ import annotations

import re
import string

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
from portside.spec.media_types import essence, is_foreign, is_media_type
from portside.spec.names import RepositoryName, Tag, parse_reference
from portside.spec.pagination import PageRequest, cut, parse_page
from portside.spec.ranges import ByteRange, parse_chunk, parse_range
from portside.spec.routes import Routes

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
        variables = {"reference": "v1", "digest": "sha256:0", "session": "0" * 32}
        path = template.format(name=name, **variables)
        found = ROUTES.match(path)
        assert found is not None
        assert (found.route.path, found.name) == (template, name)
        last = template.rpartition("/")[2]
        assert found.last == (variables[last.strip("{}")] if last.startswith("{") else "")

    @given(st.text(st.sampled_from("v2/abTUagslimnfetrod_cp:"), max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any path is matched or not, and what is matched has a method."""
        found = ROUTES.match(f"/{text}")
        assert found is None or found.route.methods

    def test_ids_are_those_of_the_specification(self) -> None:
        """The rows under /v2 bear the ids of the distribution-spec, but for the catalog."""
        ids = {row.id for row in ENDPOINTS if row.path.startswith("/v2")} - {"catalog"}
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
    assert is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
