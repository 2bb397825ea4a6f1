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
    REFERENCE = "reference"
    """A manifest needs a blob or a manifest that its repository does not have."""
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
    `repository` the one that is concerned, if it is one. `images` need what is damaged.
    """

    kind: Kind
    problem: str
    digest: str = ""
    repository: str = ""
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
