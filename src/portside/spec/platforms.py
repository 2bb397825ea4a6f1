"""Platforms: what an image runs on, as its config or its index says.

"OCI Image Configuration" and "OCI Image Index Specification" of the image-spec.
"""

from __future__ import annotations

from typing import NamedTuple

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


class _Entry(msgspec.Struct):
    platform: _Config | None = None


class _Index(msgspec.Struct):
    manifests: list[_Entry]


_decode = msgspec.json.Decoder(_Config).decode
_decode_index = msgspec.json.Decoder(_Index).decode


def parse_config(config: bytes) -> Platform:
    """Read the config of an image; nothing is known of one that cannot be read."""
    try:
        read = _decode(config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNKNOWN_PLATFORM
    return Platform(_word(read.architecture), _word(read.os))


def parse_index_platforms(index: bytes) -> list[Platform]:
    """Read the platforms of an index, each once, in its order; none if it cannot be read."""
    try:
        entries = _decode_index(index).manifests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    read = [entry.platform for entry in entries if entry.platform is not None]
    found = [Platform(_word(one.architecture), _word(one.os)) for one in read]
    nothing = {UNKNOWN_PLATFORM, Platform(_UNKNOWN, _UNKNOWN)}
    return [platform for platform in dict.fromkeys(found) if platform not in nothing]


def _word(text: str | None) -> str | None:
    """Return a text that can be stored and shown, or None."""
    return text if text and len(text) <= MAX_WORD and text.isprintable() else None
