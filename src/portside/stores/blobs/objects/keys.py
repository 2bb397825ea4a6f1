"""Where a blob store over an object store keeps what; `docs/topics/storage-layout.md` draws it.

- `blobs/sha256/ab/abcd…` is a blob, at the key that it has on a disk as well.
- `uploads/<id>/<offset>-<random>` is a chunk of an upload: its bytes from that offset on. The
  offset has 20 digits, so that a list of keys is in the order of the bytes.
- `uploads/<id>/lease` says which request writes to the upload.
- `probes/<random>` is an object by which the store was tried.
"""

from __future__ import annotations

import re
import secrets

from portside.spec.digests import Digest
from portside.spec.errors import BlobUploadUnknown, DigestInvalid
from portside.spec.uploads import UploadId
from portside.stores.blobs.objects.chunks import Chunk

BLOBS = "blobs"
UPLOADS = "uploads"
PROBES = "probes"

_LEASE = "lease"
_CHUNK = re.compile(r"([0-9]{20})-[0-9a-f]{16}")


def blob_key(digest: Digest) -> str:
    """Give the key of a blob."""
    encoded = digest.encoded
    return f"{BLOBS}/{digest.algorithm}/{encoded[:2]}/{encoded}"


def upload_prefix(upload: UploadId) -> str:
    """Give what the keys of an upload begin with, up to the last slash."""
    return f"{UPLOADS}/{upload}"


def lease_key(upload: UploadId) -> str:
    """Give the key of an upload's lease."""
    return f"{UPLOADS}/{upload}/{_LEASE}"


def fresh_chunk_key(upload: UploadId, offset: int) -> str:
    """Name a chunk that begins at an offset; no two requests ever write to one key."""
    return f"{UPLOADS}/{upload}/{offset:020}-{secrets.token_hex(8)}"


def fresh_probe_key() -> str:
    """Name an object to try the store by."""
    return f"{PROBES}/{secrets.token_hex(8)}"


def parse_blob_key(key: str) -> Digest | None:
    """Give the digest whose content stands at a key, or None if it is no blob's key."""
    parts = key.split("/")
    if len(parts) != 4 or parts[0] != BLOBS:  # noqa: PLR2004
        return None
    try:
        digest = Digest.parse(f"{parts[1]}:{parts[3]}")
    except DigestInvalid:
        return None
    return digest if blob_key(digest) == key else None


def parse_upload_key(key: str) -> UploadId | None:
    """Give the upload that a chunk or a lease belongs to, or None if the key is of neither."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] != UPLOADS:  # noqa: PLR2004
        return None
    if parts[2] != _LEASE and _CHUNK.fullmatch(parts[2]) is None:
        return None
    try:
        return UploadId.parse(parts[1])
    except BlobUploadUnknown:
        return None


def parse_chunk_key(key: str, size: int) -> Chunk | None:
    """Read a chunk of `size` bytes from its key, or give None if it is no chunk's key."""
    found = _CHUNK.fullmatch(key.rpartition("/")[2])
    if found is None or parse_upload_key(key) is None:
        return None
    return Chunk(key, int(found[1]), size)


def is_probe_key(key: str) -> bool:
    """Tell whether an object was made to try the store."""
    return key.startswith(f"{PROBES}/")
