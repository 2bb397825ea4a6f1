"""Digests, and the algorithms that Portside supports."""

from __future__ import annotations

import enum
import hashlib
import re
from typing import TYPE_CHECKING, Self

from portside.spec.errors import DigestInvalid

if TYPE_CHECKING:
    from hashlib import _Hash


class Algorithm(enum.StrEnum):
    """The registered algorithms of the image-spec ("Digests", "Registered Algorithms")."""

    SHA256 = "sha256"
    SHA512 = "sha512"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the name of an algorithm.

        Raises DigestInvalid.
        """
        try:
            return cls(text)
        except ValueError:
            known = " or ".join(cls)
            unknown = f"unsupported digest algorithm {text[:64]!r}: use {known}"
            raise DigestInvalid(unknown) from None

    def hasher(self) -> _Hash:
        """Return a new running digest."""
        return hashlib.new(self.value, usedforsecurity=True)


# "sha256: [a-f0-9]{64}, sha512: [a-f0-9]{128}"; the image-spec allows no capitals here.
_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})")


class Digest(str):
    """The name of content by its hash, such as `sha256:e3b0c442…`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a digest of a path, a query or a manifest, decoded.

        Raises DigestInvalid.
        """
        if _DIGEST.fullmatch(text) is None:
            algorithm, colon, encoded = text.partition(":")
            if not colon:
                shape = f"invalid digest {text[:140]!r}: expected ALGORITHM:HEX"
                raise DigestInvalid(shape)
            expected = Algorithm.parse(algorithm).hasher().digest_size * 2
            wrong = (
                f"invalid digest {text[:140]!r}: expected {expected} lower-case hexadecimal digits"
                f" after the colon, found {len(encoded)} characters"
            )
            raise DigestInvalid(wrong)
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: Algorithm = Algorithm.SHA256) -> Self:
        """Return the digest of content in memory."""
        hasher = algorithm.hasher()
        hasher.update(content)
        return cls.finish(algorithm, hasher)

    @classmethod
    def finish(cls, algorithm: Algorithm, hasher: _Hash) -> Self:
        """Return the digest of what `hasher` has read."""
        return cls(f"{algorithm.value}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> Algorithm:
        """The part before the colon."""
        return Algorithm(self[: self.index(":")])

    @property
    def encoded(self) -> str:
        """The part after the colon."""
        return self[self.index(":") + 1 :]
