"""What is pushed: large blobs of one repeated block with a tail of their own, and small images."""

from __future__ import annotations

import hashlib
import json
import os
import random
from typing import NamedTuple

from bench.programs import BenchError
from bench.wire import PIECE, Connection

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

MIB = 1024 * 1024

_BLOCK = random.Random("block").randbytes(PIECE)
_TAIL = 32
"""Bytes at the end of a large blob that no other blob has."""


def digest_of(content: bytes) -> str:
    """Compute a digest with nothing of the code that is measured."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Blob(NamedTuple):
    """A small blob."""

    content: bytes
    digest: str

    @classmethod
    def fresh(cls, size: int) -> Blob:
        """Make a blob that was not pushed before."""
        content = os.urandom(size)
        return cls(content, digest_of(content))


class LargeBlob(NamedTuple):
    """A blob that is never in memory as a whole."""

    size: int
    tail: bytes
    digest: str

    def send(self, connection: Connection) -> None:
        """Send its bytes as the body of the request whose head went before.

        On a plain connection they come straight from pages of the kernel, so that reading and
        copying them costs the cores next to nothing.
        """
        whole, rest = divmod(self.size - len(self.tail), PIECE)
        for length in (*[PIECE] * whole, rest):
            if connection.secure:
                connection.socket.sendall(_BLOCK[:length])
            else:
                _send_pages(connection, length)
        connection.socket.sendall(self.tail)


class LargeBlobs:
    """Makes large blobs of one size; each is new to every registry.

    All but the last bytes are alike, so the digest of the next one costs nothing; what a registry
    has to do is the same, as it cannot know that.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._hasher = hashlib.sha256()
        whole, rest = divmod(size - _TAIL, PIECE)
        for _ in range(whole):
            self._hasher.update(_BLOCK)
        self._hasher.update(_BLOCK[:rest])

    def fresh(self) -> LargeBlob:
        """Make a blob that was not pushed before."""
        tail = os.urandom(_TAIL)
        hasher = self._hasher.copy()
        hasher.update(tail)
        return LargeBlob(self._size, tail, f"sha256:{hasher.hexdigest()}")


class Image(NamedTuple):
    """An image manifest and its blobs, of which the first is the config."""

    blobs: tuple[Blob, ...]
    manifest: bytes

    @classmethod
    def fresh(cls, layers: int, size: int) -> Image:
        """Make an image that was not pushed before."""
        config = Blob.fresh(200)
        blobs = [Blob.fresh(size) for _ in range(layers)]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _describe(config, OCI_CONFIG),
            "layers": [_describe(blob, OCI_LAYER) for blob in blobs],
        }
        return cls((config, *blobs), json.dumps(document).encode())


EMPTY_INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
"""The smallest manifest: it needs no blob."""


def _describe(blob: Blob, kind: str) -> dict[str, str | int]:
    return {"mediaType": kind, "digest": blob.digest, "size": len(blob.content)}


def _make_pages() -> int:
    pages = os.memfd_create("bench")
    os.write(pages, _BLOCK)
    return pages


_PAGES = _make_pages()


def _send_pages(connection: Connection, length: int) -> None:
    offset = 0
    while offset < length:
        sent = os.sendfile(connection.socket.fileno(), _PAGES, offset, length - offset)
        if not sent:
            raise BenchError(f"{connection.host} takes no more of a body")
        offset += sent
