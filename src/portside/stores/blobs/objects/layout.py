"""Where a blob store over an object store keeps its objects.

`docs/topics/storage-layout.md` draws it.

- `blobs/sha256/ab/abcd…` is a blob, at the key that it has on a disk as well.
- `uploads/<id>/<offset>-<random>` is a chunk of an upload: its bytes from that offset on. The
  offset has 20 digits, so that a list of keys is in the order of the bytes.
- `uploads/<id>/lease` says which request writes to the upload.
- `probes/<random>` is an object that a probe writes.
- `snapshots/<name>.json` describes a snapshot of a backup.

Every request writes a chunk of its own. A request that fails before its offset is acknowledged
leaves a chunk that is not part of the upload, and another request may have written one for the same
offset since. No chunk is dropped before the upload ends. The acknowledged offset determines what
the upload consists of: chunks without a gap between them, from the first byte to exactly there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from portside.spec.digests import Digest
from portside.spec.errors import BlobUploadUnknown, DigestInvalid
from portside.spec.uploads import UploadId
from portside.stores.backups import SNAPSHOTS, SUFFIX

BLOBS = "blobs"
UPLOADS = "uploads"
PROBES = "probes"

_LEASE = "lease"
_CHUNK = re.compile(r"([0-9]{20})-[0-9a-f]{16}")


class Chunk(NamedTuple):
    """An object that holds `size` bytes of an upload, from `start` on."""

    key: str
    start: int
    size: int

    @property
    def stop(self) -> int:
        """The offset after the last byte of the chunk."""
        return self.start + self.size


def blob_key(digest: Digest) -> str:
    """Return the key of a blob."""
    encoded = digest.encoded
    return f"{BLOBS}/{digest.algorithm}/{encoded[:2]}/{encoded}"


def upload_prefix(upload: UploadId) -> str:
    """Return the common prefix of an upload's keys, without the last slash."""
    return f"{UPLOADS}/{upload}"


def lease_key(upload: UploadId) -> str:
    """Return the key of an upload's lease."""
    return f"{UPLOADS}/{upload}/{_LEASE}"


def fresh_chunk_key(upload: UploadId, offset: int) -> str:
    """Return a new key for a chunk that begins at an offset; no two requests share one."""
    return f"{UPLOADS}/{upload}/{offset:020}-{secrets.token_hex(8)}"


def fresh_probe_key() -> str:
    """Return a new key for a probe."""
    return f"{PROBES}/{secrets.token_hex(8)}"


def parse_blob_key(key: str) -> Digest | None:
    """Return the digest of the blob at a key; None if it is not the key of a blob."""
    parts = key.split("/")
    if len(parts) != 4 or parts[0] != BLOBS:  # noqa: PLR2004
        return None
    try:
        digest = Digest.parse(f"{parts[1]}:{parts[3]}")
    except DigestInvalid:
        return None
    return digest if blob_key(digest) == key else None


def parse_upload_key(key: str) -> UploadId | None:
    """Return the upload of a chunk or a lease; None if the key belongs to neither."""
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
    """Return the chunk of `size` bytes at a key; None if it is not the key of a chunk."""
    found = _CHUNK.fullmatch(key.rpartition("/")[2])
    if found is None or parse_upload_key(key) is None:
        return None
    return Chunk(key, int(found[1]), size)


def is_probe_key(key: str) -> bool:
    """Whether an object belongs to a probe."""
    return key.startswith(f"{PROBES}/")


def snapshot_key(name: str) -> str:
    """Return the key of the document of a snapshot."""
    return f"{SNAPSHOTS}/{name}{SUFFIX}"


def parse_snapshot_key(key: str) -> str | None:
    """Return the name of a snapshot; None if the key is not that of its document."""
    name = key.removeprefix(f"{SNAPSHOTS}/").removesuffix(SUFFIX)
    return name if key == snapshot_key(name) else None


def find_chain(chunks: Iterable[Chunk], offset: int) -> list[Chunk] | None:
    """Return the chunks from the first byte up to `offset`, in order; None if one is missing."""
    following: dict[int, Chunk] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.start, reverse=True):
        if chunk.size and (chunk.stop == offset or chunk.stop in following):
            following[chunk.start] = chunk
    chain: list[Chunk] = []
    position = 0
    while position != offset:
        if position not in following:
            return None
        chain.append(following.pop(position))
        position = chain[-1].stop
    return chain


def find_reach(chunks: Iterable[Chunk]) -> int:
    """Return the largest offset up to which no byte is missing."""
    reached = {0}
    for chunk in sorted(chunks, key=lambda chunk: chunk.start):
        if chunk.start in reached:
            reached.add(chunk.stop)
    return max(reached)
