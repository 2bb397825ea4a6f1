"""From a URL to a blob store: a directory, or an object store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.blobs.objects.placing import Sizes
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import BRIEF, StorageUrlInvalid, open_store, split_url


class Limits(NamedTuple):
    """How long, in seconds, one request waits for another, and what uploads may take, in bytes.

    `reserve` is what they leave free on a disk, `upload_memory` what they take together on the way
    to an object store.
    """

    hold_timeout: float
    reserve: int
    upload_memory: int


def open_blobs(
    url: str,
    *,
    root: Path,
    environment: Mapping[str, str],
    allow_http: bool,
    limits: Limits,
    clock: Callable[[], int],
) -> DiskBlobs | ObjectBlobs:
    """Open the store that a URL names, or `root` if the URL is empty; nothing is read yet.

    `file:///path` is a directory as `root` is. Raises StorageUrlInvalid.
    """
    if not url:
        return DiskBlobs(root, hold_timeout=limits.hold_timeout, reserve=limits.reserve)
    if not is_remote(url):
        return DiskBlobs(_directory(url), hold_timeout=limits.hold_timeout, reserve=limits.reserve)
    return ObjectBlobs(
        open_store(url, environment=environment, allow_http=allow_http),
        brief=open_store(url, environment=environment, allow_http=allow_http, patience=BRIEF),
        location=_spelled(url),
        hold_timeout=limits.hold_timeout,
        clock=clock,
        sizes=Sizes(together=limits.upload_memory),
    )


def is_remote(url: str) -> bool:
    """Whether a URL names an object store; an empty one does not."""
    return bool(url) and not url.lower().startswith("file:")


def kind_of(url: str) -> str:
    """Return the kind of the store that a URL names: its scheme, or `directory`."""
    return url.partition(":")[0].lower() if is_remote(url) else "directory"


def _spelled(url: str) -> str:
    """Return one spelling of a location that has several."""
    scheme, colon, rest = url.rstrip("/").partition(":")
    return f"{scheme.lower()}{colon}{rest}"


def _directory(url: str) -> Path:
    parts = split_url(url)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise StorageUrlInvalid(f"{url!r} needs three slashes before an absolute path")
    if not path.strip("/") or parts.query or parts.fragment:
        raise StorageUrlInvalid(f"{url!r} names no directory")
    return Path(path)
