"""What a handler has at hand: the verbs, the limits of requests, and the dialect."""

from __future__ import annotations

from dataclasses import dataclass

from portside.api.addresses import Addresses
from portside.api.auth import Gate
from portside.api.body_memory import BodyMemory
from portside.operations.convert import Convert
from portside.operations.delete import Delete
from portside.operations.discover import Discover
from portside.operations.events import EventFeed
from portside.operations.mount import Mount
from portside.operations.pull import Pull
from portside.operations.push import Push
from portside.operations.readiness import Readiness
from portside.operations.relocation import Relocation
from portside.operations.restore import Restore
from portside.operations.tag_history import TagHistory
from portside.spec.dialects import Dialect
from portside.stores.properties import PropertyStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a request may ask for; the settings of the same names say why.

    Sizes are in bytes, times in seconds.
    """

    max_manifest_bytes: int
    max_header_bytes: int
    max_fields: int
    max_tags_per_push: int
    max_ranges: int
    page_limit: int
    body_timeout: float
    manifest_timeout: float
    max_form_bytes: int
    form_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One registry, as the HTTP edge sees it."""

    pull: Pull
    convert: Convert
    push: Push
    mount: Mount
    delete: Delete
    restore: Restore
    discover: Discover
    tag_history: TagHistory
    properties: PropertyStore
    relocation: Relocation
    readiness: Readiness
    events: EventFeed
    addresses: Addresses
    limits: Limits
    body_memory: BodyMemory
    form_memory: BodyMemory
    dialect: Dialect
    gate: Gate

    async def is_open(self) -> bool:
        """Whether everybody may do everything now; raises Unavailable."""
        return not (await self.gate.control.snapshot()).closed
