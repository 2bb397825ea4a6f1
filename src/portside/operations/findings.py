"""Findings: what a check found, and what it means for the images of the registry."""

from __future__ import annotations

import enum
from typing import NamedTuple

from portside.stores.inspection import ImageNames


class Kind(enum.StrEnum):
    """What is wrong; only the last kind is harmless."""

    BLOB = "blob"
    """The bytes of a blob are missing, damaged, or not as long as is recorded."""
    UNREADABLE = "unreadable-blob"
    """The bytes of a blob cannot be read: the disk or the object store failed."""
    MANIFEST = "manifest"
    """The payload of a manifest is damaged."""
    MISSING_BLOB = "missing-blob"
    """A manifest needs a blob that its repository does not link."""
    MISSING_MANIFEST = "missing-manifest"
    """An index needs a manifest that its repository does not have."""
    UNLINKED = "unlinked-blob"
    """No repository links the blob, and so nobody can read it."""
    UNCOLLECTED = "uncollected-link"
    """No manifest needs the link, and the collector would never see it."""
    COUNT = "count"
    """The recorded number of manifests or tags of a repository is wrong."""
    RECORD = "record"
    """The database contradicts itself, or the payload of a manifest."""
    UPLOAD = "upload"
    """An upload session has lost bytes."""
    STORE = "store"
    """A part of a store is missing, or cannot be read."""
    ORPHANED = "orphaned"
    """Bytes that belong to nothing, as a crash can leave them."""


class Finding(NamedTuple):
    """One thing that a check found.

    `digest` is that of the blob or the manifest that is damaged or missing, as it is recorded, and
    `repository` the one that is concerned, if it is one. `upload` is the id of an upload session.
    `images` need what is damaged.
    """

    kind: Kind
    problem: str
    digest: str = ""
    repository: str = ""
    upload: str = ""
    images: ImageNames | None = None

    @property
    def is_damage(self) -> bool:
        """Whether something is lost or wrong; what a crash leaves is neither."""
        return self.kind is not Kind.ORPHANED

    @property
    def text(self) -> str:
        """The problem and the images, as a line."""
        if self.images is None:
            return self.problem
        return f"{self.problem}; {_say(self.images)}"


def _say(images: ImageNames) -> str:
    if not images.names:
        return "no image needs it"
    named, more = list(images.names), images.total - len(images.names)
    if more:
        named.append(f"{more} more")
    *first, last = named
    return f"needed by {', '.join(first)} and {last}" if first else f"needed by {last}"
