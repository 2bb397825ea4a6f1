"""The two registries of a copy, and what is counted of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from portside.stores.copying import CopyableMetadata
from portside.stores.inspection import InspectableBlobs, InspectableMetadata
from portside.stores.interfaces import MetadataStore


class MovableMetadata(CopyableMetadata, InspectableMetadata, MetadataStore, Protocol):
    """What is known of a registry, with all that a copy asks of it."""


class Side(NamedTuple):
    """A registry's stores."""

    metadata: MovableMetadata
    blobs: InspectableBlobs


Progress = Callable[[], object]
"""Called whenever something was moved."""


class Tally:
    """How much a copy has moved so far, and what it could not move.

    `blobs` were copied, with `bytes` in them; other `rows` were written, others `dropped`; `passes`
    went through all that there is. `problems` has a line for each thing that is wrong.
    """

    def __init__(self) -> None:
        self.passes = 0
        self.rows = 0
        self.dropped = 0
        self.blobs = 0
        self.bytes = 0
        self.problems: list[str] = []

    @property
    def moved(self) -> int:
        """How many things were not in the target as they are in the source."""
        return self.rows + self.dropped + self.blobs


class Course(NamedTuple):
    """From where to where: the target is a copy of the source, whose `identity` that is."""

    source: Side
    target: Side
    identity: str
    tally: Tally
    progress: Progress
