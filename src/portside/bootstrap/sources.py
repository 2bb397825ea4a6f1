"""Where a repair fetches from: another registry, an OCI layout, or the storage of a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portside.bootstrap.stores import open_storage
from portside.config import Settings, SettingsInvalid
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import StorageUrlInvalid
from portside.stores.repairing import ContentSource
from portside.stores.sources.layout import MARKER, LayoutSource
from portside.stores.sources.storage import StorageSource

Login = tuple[str, str]
"""The name and the password of an account of another registry."""


@contextmanager
def opened_source(
    place: str, settings: Settings, *, login: Login | None = None
) -> Iterator[ContentSource]:
    """Open a source for the length of a block; nothing is read yet.

    A place is the URL of a registry or of a storage, or a directory: an OCI layout, or the data
    directory of a registry. Raises SettingsInvalid.
    """
    if place.lower().startswith(("https://", "http://")):
        # Most commands need no client for HTTP.
        from portside.stores.sources.registry import RegistrySource, UrlInvalid  # noqa: PLC0415

        try:
            yield RegistrySource(place, login, allow_http=settings.storage_http)
        except UrlInvalid as error:
            raise SettingsInvalid(f"from: {error}") from error
    elif "://" not in place and (Path(place) / MARKER).is_file():
        yield LayoutSource(Path(place))
    else:
        blobs = _open_storage(place, settings)
        try:
            yield StorageSource(blobs)
        finally:
            blobs.close()


def _open_storage(place: str, settings: Settings) -> DiskBlobs | ObjectBlobs:
    is_url = "://" in place
    if not is_url and not (Path(place) / "blobs").is_dir():
        raise SettingsInvalid(
            f"from: {place} is neither an OCI layout nor the data directory of a registry"
        )
    try:
        return open_storage(settings, place if is_url else "", Path(place))
    except StorageUrlInvalid as error:
        raise SettingsInvalid(f"from: {error}") from error
