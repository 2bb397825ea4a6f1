"""Describe: record the properties of manifests that an older version received."""

from __future__ import annotations

from collections.abc import AsyncIterator

from portside.operations.platforms import read_platform
from portside.spec.digests import Digest
from portside.spec.errors import RegistryError, Unavailable
from portside.spec.manifests import read_manifest
from portside.spec.platforms import UNKNOWN_PLATFORM
from portside.stores.interfaces import BlobStore
from portside.stores.properties import PropertyStore

PAGE = 100
"""Manifests that are read at once."""


async def describe_manifests(metadata: PropertyStore, blobs: BlobStore) -> AsyncIterator[int]:
    """Describe every manifest that lacks it; yield how many are done after each page.

    A registry may serve meanwhile, and what was described stays so when this is interrupted. Raises
    ReadOnly and Unavailable.
    """
    done = 0
    while found := await metadata.list_undescribed(PAGE):
        for item in found:
            platform = UNKNOWN_PLATFORM
            try:
                manifest = read_manifest(
                    item.payload, media_type=item.media_type, expected=Digest.parse(item.digest)
                )
            except Unavailable:
                raise
            except RegistryError:
                manifest = None
            if manifest is not None:
                platform = await read_platform(blobs, manifest.config)
            await metadata.describe_manifest(item, manifest, platform)
        done += len(found)
        yield done
