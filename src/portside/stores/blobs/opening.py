"""From a URL to a blob store: a directory, or an object store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from portside.stores.blobs.local import LocalBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import BRIEF, StorageUrlInvalid, open_store


def open_blobs(
    url: str,
    *,
    root: Path,
    environment: Mapping[str, str],
    allow_http: bool,
    hold_timeout: float,
    reserve: int,
    clock: Callable[[], int],
) -> LocalBlobs | ObjectBlobs:
    """Make the store that a URL names, or the one in `root` if it is empty; nothing is read yet.

    `file:///path` is a directory as `root` is. Raises StorageUrlInvalid.
    """
    if not url:
        return LocalBlobs(root, hold_timeout=hold_timeout, reserve=reserve)
    if not is_remote(url):
        return LocalBlobs(_directory(url), hold_timeout=hold_timeout, reserve=reserve)
    return ObjectBlobs(
        open_store(url, environment=environment, allow_http=allow_http),
        brief=open_store(url, environment=environment, allow_http=allow_http, patience=BRIEF),
        place=url,
        hold_timeout=hold_timeout,
        clock=clock,
    )


def is_remote(url: str) -> bool:
    """Tell whether a URL names an object store; an empty one does not."""
    return bool(url) and not url.startswith("file:")


def _directory(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise StorageUrlInvalid(f"{url!r} needs three slashes before an absolute path")
    if not path.strip("/") or parts.query or parts.fragment:
        raise StorageUrlInvalid(f"{url!r} names no directory")
    return Path(path)
