"""Platforms: what an image runs on, as its config or its index says.

"OCI Image Configuration" and "OCI Image Index Specification" of the image-spec.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

MAX_WORD = 100
"""Characters of an architecture or of an operating system."""


class Platform(NamedTuple):
    """What an image runs on; None where it is not known."""

    architecture: str | None = None
    os: str | None = None

    def __str__(self) -> str:
        """Return it as clients write it, such as `linux/amd64`; empty if nothing is known."""
        return "/".join(word for word in (self.os, self.architecture) if word)


UNKNOWN_PLATFORM = Platform()

_UNKNOWN = "unknown"
"""The architecture and the os of what is not an image, such as an attestation of BuildKit."""


class _Config(msgspec.Struct):
    architecture: str | None = None
    os: str | None = None


class IndexEntry(NamedTuple):
    """A manifest that an index lists, and what it runs on."""

    digest: str
    platform: Platform


class _Listed(msgspec.Struct):
    digest: str
    platform: Any = None


class _Index(msgspec.Struct):
    manifests: list[_Listed]


_decode = msgspec.json.Decoder(_Config).decode
_decode_index = msgspec.json.Decoder(_Index).decode


def parse_config(config: bytes) -> Platform:
    """Read the config of an image; nothing is known of one that cannot be read."""
    try:
        read = _decode(config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNKNOWN_PLATFORM
    return Platform(_word(read.architecture), _word(read.os))


def parse_index(index: bytes) -> list[IndexEntry]:
    """Read what an index lists, in its order; nothing of one that cannot be read."""
    try:
        listed = _decode_index(index).manifests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [IndexEntry(item.digest, _platform(item.platform)) for item in listed]


def parse_index_platforms(index: bytes) -> list[Platform]:
    """Read the platforms of an index, each once, in its order; none if it cannot be read."""
    nothing = {UNKNOWN_PLATFORM, Platform(_UNKNOWN, _UNKNOWN)}
    found = dict.fromkeys(entry.platform for entry in parse_index(index))
    return [platform for platform in found if platform not in nothing]


def _platform(found: Any) -> Platform:
    """Read the platform of a descriptor, whatever stands there."""
    fields = found if isinstance(found, dict) else {}
    return Platform(_word(fields.get("architecture")), _word(fields.get("os")))


def _word(found: Any) -> str | None:
    """Return a text that can be stored and shown, or None."""
    if not isinstance(found, str) or not found or len(found) > MAX_WORD:
        return None
    return found if found.isprintable() else None
