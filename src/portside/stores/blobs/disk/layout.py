"""Where a blob store in a directory keeps its files; `docs/topics/storage-layout.md` draws it.

A registry may write while its files are listed: a file that vanishes in between is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import BlobUploadUnknown, DigestInvalid
from portside.spec.uploads import UploadId
from portside.stores.backups import SNAPSHOTS
from portside.stores.directories import PRIVATE, create_directory
from portside.stores.marks import NAME as MARK


class Layout:
    """The paths below one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.uploads = root / "uploads"
        self.mark = root / MARK
        self.snapshots = root / SNAPSHOTS
        self._prefixes: dict[str, str] = {
            algorithm: f"{self.blobs}{os.sep}{algorithm}{os.sep}" for algorithm in Algorithm
        }

    @property
    def blob_directories(self) -> list[Path]:
        """The directories that hold blobs, one for each algorithm."""
        return [self.blobs / algorithm for algorithm in Algorithm]

    @property
    def directories(self) -> list[Path]:
        """The directories that everything else relies on."""
        return [self.uploads, *self.blob_directories]

    def create(self) -> None:
        """Create the directories; raises OSError."""
        create_directory(self.root)
        for directory in self.directories:
            create_directory(directory, PRIVATE)

    def blob(self, digest: Digest) -> str:
        """Return the path of a blob: `blobs/sha256/ab/abcd…`."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self._prefixes[algorithm]}{encoded[:2]}{os.sep}{encoded}"

    def upload(self, upload: UploadId) -> str:
        """Return the path of an upload's bytes: `uploads/<id>`."""
        return f"{self.uploads}{os.sep}{upload}"

    def list_blobs(self) -> Iterator[tuple[Digest, int]]:
        """List every blob's digest and size in bytes, in the order of digests; raises OSError."""
        for path, digest in self._walk_blobs():
            if digest is not None and (found := stat_or_none(path)) is not None:
                yield digest, found.st_size

    def list_uploads(self) -> Iterator[tuple[UploadId, int]]:
        """List the id and the bytes of every upload that has a file; raises OSError."""
        for upload, found in self._stat_uploads():
            yield upload, found.st_size

    def list_stale_uploads(self, before: int) -> list[UploadId]:
        """List the uploads whose files were last changed before a time (µs since 1970).

        Raises OSError.
        """
        return [
            upload for upload, found in self._stat_uploads() if found.st_mtime_ns // 1000 < before
        ]

    def list_orphaned(self) -> Iterator[str]:
        """List every path that has no place in this layout; raises OSError."""
        for path, digest in self._walk_blobs():
            if digest is None:
                yield path
        for entry in list_directory(self.uploads):
            if _upload_id(entry.path) is None:
                yield entry.path

    def is_orphaned(self, path: str) -> bool:
        """Whether there is something at a path that has no place in this layout."""
        if not os.path.lexists(path):
            return False
        if os.path.dirname(path) == str(self.uploads):
            return _upload_id(path) is None
        return all(self._digest_at(algorithm, path) is None for algorithm in Algorithm)

    def _stat_uploads(self) -> Iterator[tuple[UploadId, os.stat_result]]:
        for entry in list_directory(self.uploads):
            upload = _upload_id(entry.path)
            if upload is not None and (found := stat_or_none(entry.path)) is not None:
                yield upload, found

    def _walk_blobs(self) -> Iterator[tuple[str, Digest | None]]:
        for top in list_directory(self.blobs):
            if top.name not in set(Algorithm) or not top.is_dir():
                yield top.path, None
                continue
            for directory in list_directory(top.path):
                if not directory.is_dir():
                    yield directory.path, None
                    continue
                for entry in list_directory(directory.path):
                    yield entry.path, self._digest_at(top.name, entry.path)

    def _digest_at(self, algorithm: str, path: str) -> Digest | None:
        try:
            digest = Digest.parse(f"{algorithm}:{os.path.basename(path)}")
        except DigestInvalid:
            return None
        return digest if self.blob(digest) == path and not os.path.isdir(path) else None


def _upload_id(path: str) -> UploadId | None:
    try:
        upload = UploadId.parse(os.path.basename(path))
    except BlobUploadUnknown:
        return None
    return None if os.path.isdir(path) else upload


def list_directory(directory: str | Path) -> list[os.DirEntry[str]]:
    """List a directory by name; an empty list if it is missing. Raises OSError."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def stat_or_none(path: str) -> os.stat_result | None:
    """Return the state of a file; None if it is missing. Raises OSError."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
