"""What the entries of an index run on."""

from __future__ import annotations

import json

import pytest

from portside.spec.platforms import Platform, parse_index_platforms


def entry(architecture: object, system: object = "linux") -> dict[str, object]:
    """Make an entry of an index."""
    return {"digest": "", "platform": {"architecture": architecture, "os": system}}


def index(*entries: object) -> bytes:
    """Make an index."""
    return json.dumps({"manifests": entries}).encode()


class TestIndex:
    """`parse_index_platforms`."""

    def test_platforms(self) -> None:
        """Each is named once, in the order of the index; attestations and others are not."""
        entries = [
            entry("arm64"),
            entry("unknown", "unknown"),
            {"digest": ""},
            entry("amd64"),
            entry("arm64"),
        ]
        found = parse_index_platforms(index(*entries, entry("amd64", "windows")))
        assert [str(platform) for platform in found] == [
            "linux/arm64",
            "linux/amd64",
            "windows/amd64",
        ]

    def test_words(self) -> None:
        """A word that cannot be shown is left out."""
        bad = [entry("\x1b[31m"), entry("x" * 101, "a\nb"), entry(5), {"digest": "", "platform": 5}]
        found = parse_index_platforms(index(*bad))
        assert found == [Platform(None, "linux")]
        assert str(found[0]) == "linux"

    @pytest.mark.parametrize(
        "payload", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, index(5), index({"digest": 5})]
    )
    def test_unreadable(self, payload: bytes) -> None:
        """Nothing is known of what cannot be read."""
        assert parse_index_platforms(payload) == []
