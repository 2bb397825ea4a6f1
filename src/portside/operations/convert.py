"""Convert: images for clients that read no manifests but those of schema 1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from portside.operations.platforms import MAX_CONFIG_BYTES
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, ManifestNotConvertible
from portside.spec.manifests import INDEXES
from portside.spec.media_types import DOCKER_SCHEMA_1_SIGNED
from portside.spec.names import RepositoryName, Tag
from portside.spec.ranges import ByteRange
from portside.spec.schema1 import Image, choose_image, make_document, parse_image
from portside.stores.interfaces import BlobStore, MetadataStore, StoredManifest

AT_ONCE = 2
"""Conversions in one worker; a config and what is made of it take some 30 MB at most."""


class Convert:
    """Converts manifests; a document has at most `max_bytes`, and is signed by `sign`."""

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        sign: Callable[[bytes], bytes],
        max_bytes: int,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._sign = sign
        self._max_bytes = max_bytes
        self._free = asyncio.Semaphore(AT_ONCE)

    async def to_schema_1(
        self, repository: RepositoryName, tag: Tag, stored: StoredManifest
    ) -> StoredManifest:
        """Return what a tag points at as a signed manifest of schema 1.

        Its digest is that of the document without the signature, which is new each time.

        Raises ManifestNotConvertible; ManifestUnknown and OperationDisallowed for an image that an
        index lists.
        """
        if stored.media_type in INDEXES:
            chosen = choose_image(stored.payload)
            stored = await self._metadata.get_manifest(repository, chosen)
        image = parse_image(stored.payload)
        async with self._free:
            config = await self._read_config(repository, image.config)
            return await asyncio.to_thread(self._convert, image, config, repository, tag)

    def _convert(
        self, image: Image, config: bytes, repository: RepositoryName, tag: Tag
    ) -> StoredManifest:
        document = make_document(image, config, name=repository, tag=tag, max_bytes=self._max_bytes)
        return StoredManifest(DOCKER_SCHEMA_1_SIGNED, Digest.of(document), self._sign(document))

    async def _read_config(self, repository: RepositoryName, digest: Digest) -> bytes:
        try:
            size = (await self._metadata.get_blob(repository, digest)).size
            if not 0 < size <= MAX_CONFIG_BYTES:
                large = f"its config has {size} bytes; 1 to {MAX_CONFIG_BYTES} are read"
                raise ManifestNotConvertible(large)
            async with aclosing(self._blobs.read(digest, ByteRange(0, size))) as pieces:
                config = b"".join([piece async for piece in pieces])
        except BlobUnknown as error:
            raise ManifestNotConvertible(*error.details) from error
        if Digest.of(config, digest.algorithm) != digest:
            damaged = f"its config {digest} is damaged in this registry; push the blob again"
            raise ManifestNotConvertible(damaged)
        return config
