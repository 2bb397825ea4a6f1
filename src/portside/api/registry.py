"""What a handler has at hand: the stores, the limits, and the dialect."""

from __future__ import annotations

from dataclasses import dataclass

from portside.api.auth import Gate
from portside.operations.push import Receiver
from portside.spec.dialects import Dialect
from portside.stores.interfaces import BlobStore, MetadataStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a request may ask for; the settings of the same names say why.

    Sizes are in bytes, times in seconds.
    """

    max_manifest_bytes: int
    max_header_bytes: int
    max_tags_per_push: int
    max_ranges: int
    page_limit: int
    max_referrers_bytes: int
    body_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirects:
    """Pulls of blobs with more than `above` bytes are sent on to where the bytes are.

    The URLs are good for `life` seconds.
    """

    blobs: BlobStore
    above: int
    life: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One registry, as the HTTP edge sees it; without a gate it is open to everybody."""

    metadata: MetadataStore
    blobs: BlobStore
    receiver: Receiver
    limits: Limits
    dialect: Dialect
    allow_delete: bool
    allow_sparse_indexes: bool
    gate: Gate | None
    redirects: Redirects | None = None
