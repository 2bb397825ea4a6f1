"""What an object store holds, for those who check and collect: blocking, one list after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from portside.spec.digests import Digest
from portside.spec.uploads import UploadId
from portside.stores.blobs.objects.chunks import find_reach
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.keys import (
    BLOBS,
    PROBES,
    UPLOADS,
    blob_key,
    is_probe_key,
    lease_key,
    parse_blob_key,
    parse_chunk_key,
    parse_upload_key,
    upload_prefix,
)
from portside.stores.blobs.objects.leases import is_live
from portside.stores.blobs.objects.placing import size_of
from portside.stores.inspection import Stray
from portside.stores.marks import NAME as MARK
from portside.stores.marks import Mark, decode_mark, encode_mark

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

LIST_PAGE = 1000
"""Objects that are listed at once: what one request to S3 gives."""

YOUNG = 3600
"""Seconds after its last write in which a chunk without a lease may belong to a request."""

READ_SIZE = 1024 * 1024
"""Bytes that are hashed at once."""


class ObjectInventory:
    """The objects below one prefix."""

    def __init__(self, store: ObjectStore, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def _list(self, prefix: str | None, page: int = LIST_PAGE) -> Iterator[ObjectMeta]:
        with translated(f"listing {prefix or 'all objects'}"):
            for entries in obstore.list(self._store, prefix, chunk_size=page):
                yield from entries

    def holds_blobs(self) -> bool:
        """Tell whether there is any blob; raises Unavailable."""
        return next(self.objects(), None) is not None

    def read_mark(self) -> Mark | None:
        """Read the object of the mark."""
        with translated("reading the mark"):
            try:
                content = obstore.get(self._store, MARK).bytes()
            except FileNotFoundError:
                return None
        return decode_mark(bytes(content))

    def put_mark(self, mark: Mark) -> None:
        """Put the object on the condition that there is none."""
        with translated("leaving the mark"), suppress(AlreadyExistsError):
            obstore.put(self._store, MARK, encode_mark(mark), mode="create")

    def objects(self) -> Iterator[tuple[Digest, int]]:
        """List every blob."""
        for entry in self._list(BLOBS):
            digest = parse_blob_key(entry["path"])
            if digest is not None:
                yield digest, entry["size"]

    def size(self, digest: Digest) -> int | None:
        """Ask for the object's size, without an event loop."""
        with translated("reading a blob"):
            return size_of(self._store, blob_key(digest))

    def verify(self, digest: Digest) -> bool | None:
        """Hash the whole object."""
        hasher = digest.algorithm.hasher()
        with translated("reading a blob"):
            try:
                found = obstore.get(self._store, blob_key(digest))
            except FileNotFoundError:
                return None
            for piece in found.stream(min_chunk_size=READ_SIZE):
                hasher.update(piece)
        return Digest.finish(digest.algorithm, hasher) == digest

    def missing(self) -> Iterator[str]:
        """Give nothing: an object store has no directories."""
        return iter(())

    def strays(self) -> Iterator[Stray]:
        """List what does not belong here."""
        for entry in self._list(None):
            if _is_foreign(entry["path"]):
                advice = "nothing of a registry has this name; move it away"
                yield Stray(entry["path"], advice)

    def is_stray(self, stray: Stray) -> bool:
        """Look at the object once more."""
        with translated("looking at an object"):
            return _is_foreign(stray.path) and size_of(self._store, stray.path) is not None

    def staged(self) -> Iterator[tuple[UploadId, int]]:
        """List every upload that has a chunk, and the bytes that lead from the first on."""
        # S3, Azure and Google list in the order of keys, but a directory does not.
        entries = sorted(self._list(UPLOADS), key=lambda entry: entry["path"])
        for upload, found in groupby(entries, lambda entry: parse_upload_key(entry["path"])):
            chunks = [parse_chunk_key(entry["path"], entry["size"]) for entry in found]
            if upload is not None and any(chunks):
                yield upload, find_reach(chunk for chunk in chunks if chunk is not None)

    def staged_size(self, upload: UploadId) -> int | None:
        """List the upload's chunks."""
        entries = self._list(upload_prefix(upload))
        chunks = [parse_chunk_key(entry["path"], entry["size"]) for entry in entries]
        known = [chunk for chunk in chunks if chunk is not None]
        return find_reach(known) if known else None

    def is_held(self, upload: UploadId) -> bool:
        """Read the upload's lease; a blob that comes in one request has none, but is young."""
        with translated("looking at an upload"):
            try:
                content = obstore.get(self._store, lease_key(upload)).bytes()
            except FileNotFoundError:
                young = self._clock() - YOUNG * 1_000_000
                return any(_written(entry) > young for entry in self._list(upload_prefix(upload)))
        return is_live(bytes(content), self._clock())

    def _stale_uploads(self, before: int) -> list[UploadId]:
        """List uploads none of whose objects was written since."""
        newest: dict[UploadId, int] = {}
        for entry in self._list(UPLOADS):
            upload = parse_upload_key(entry["path"])
            if upload is not None:
                newest[upload] = max(newest.get(upload, 0), _written(entry))
        return [upload for upload, written in newest.items() if written < before]

    def _drop_probes(self, before: int) -> list[int]:
        """Remove what a crash in a probe left; gives the bytes of each."""
        gone = [entry for entry in self._list(PROBES) if _written(entry) < before]
        with translated("dropping leftovers"):
            for entry in gone:
                obstore.delete(self._store, entry["path"])
        return [entry["size"] for entry in gone]


def _is_foreign(key: str) -> bool:
    if not key:
        # Some servers list the prefix itself, as the directory that it is to them.
        return False
    known = parse_blob_key(key) is not None or parse_upload_key(key) is not None
    return not known and not is_probe_key(key) and key != MARK


def _written(entry: ObjectMeta) -> int:
    """Give the time of an object's last write, in microseconds since 1970."""
    return int(entry["last_modified"].timestamp() * 1_000_000)
