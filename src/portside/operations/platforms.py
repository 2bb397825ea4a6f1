"""Read the configs of images, for lists that show what an image runs on without opening a blob."""

from __future__ import annotations

from contextlib import aclosing
from typing import TypeGuard

from portside.spec.errors import BlobUnknown
from portside.spec.manifests import Config, Manifest
from portside.spec.media_types import IMAGE_CONFIGS
from portside.spec.names import RepositoryName
from portside.spec.platforms import UNKNOWN_PLATFORM, Platform, parse_config
from portside.spec.ranges import ByteRange
from portside.stores.interfaces import BlobStore, ManifestStore

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Bytes of a config that is read; the largest ones of real images have some 100 kB."""


async def find_platform(
    metadata: ManifestStore, blobs: BlobStore, repository: RepositoryName, manifest: Manifest
) -> Platform:
    """Return what the config of a manifest says; it is not read where the manifest is stored."""
    if not _is_of_image(manifest.config):
        return UNKNOWN_PLATFORM
    stored = await metadata.get_platform(repository, manifest)
    return await read_platform(blobs, manifest.config) if stored is None else stored


async def read_platform(blobs: BlobStore, config: Config | None) -> Platform:
    """Return what an image's config says; nothing is known of other configs and of large ones.

    The size is the blob's own: the manifest may say another one.
    """
    if not _is_of_image(config):
        return UNKNOWN_PLATFORM
    size = await blobs.stat(config.digest)
    if size is None or not 0 < size <= MAX_CONFIG_BYTES:
        return UNKNOWN_PLATFORM
    try:
        async with aclosing(blobs.read(config.digest, ByteRange(0, size))) as pieces:
            return parse_config(b"".join([piece async for piece in pieces]))
    except BlobUnknown:
        return UNKNOWN_PLATFORM


def _is_of_image(config: Config | None) -> TypeGuard[Config]:
    return config is not None and config.media_type in IMAGE_CONFIGS
