"""Platforms: what an image runs on, as its config says ("OCI Image Configuration")."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

MAX_WORD = 100
"""Characters of an architecture or of an operating system."""


class Platform(NamedTuple):
    """What an image runs on; None where it is not known."""

    architecture: str | None = None
    os: str | None = None


UNKNOWN_PLATFORM = Platform()


class _Config(msgspec.Struct):
    architecture: str | None = None
    os: str | None = None


_decode = msgspec.json.Decoder(_Config).decode


def parse_config(config: bytes) -> Platform:
    """Read the config of an image; nothing is known of one that cannot be read."""
    try:
        read = _decode(config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNKNOWN_PLATFORM
    return Platform(_word(read.architecture), _word(read.os))


def _word(text: str | None) -> str | None:
    """Return a text that can be stored and shown, or None."""
    return text if text and len(text) <= MAX_WORD and text.isprintable() else None
