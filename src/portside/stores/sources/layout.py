"""An OCI layout as a source: a directory as skopeo and other clients write it.

"The blobs directory contains content addressable blobs" at `blobs/<algorithm>/<encoded>`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import BinaryIO

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, Unavailable

MARKER = "oci-layout"
"""The file that every layout has."""

PIECE = 1024 * 1024
"""Bytes that are read at once."""


class LayoutSource:
    """The blobs of a layout, manifests among them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The directory."""
        return str(self._root)

    async def require(self) -> None:
        """Look for the file that every layout has."""
        if not (self._root / MARKER).is_file():
            raise Unavailable(f"{self._root} is not an OCI layout: it has no file {MARKER}")

    async def read_blob(self, digest: Digest, _: Sequence[str] = ()) -> AsyncGenerator[bytes, None]:
        """Read the file of a blob in a thread."""
        path = self._root / "blobs" / digest.algorithm.value / digest.encoded
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError as error:
            raise BlobUnknown(f"{path} does not exist") from error
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error
        with file:
            while piece := await asyncio.to_thread(_read, file, path):
                yield piece

    async def read_manifest(self, digest: Digest, repositories: Sequence[str]) -> bytes:
        """Read a manifest, which is a blob here."""
        return b"".join([piece async for piece in self.read_blob(digest, repositories)])


def _read(file: BinaryIO, path: Path) -> bytes:
    try:
        return file.read(PIECE)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
