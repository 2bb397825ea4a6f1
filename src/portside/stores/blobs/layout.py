"""Where a blob store on a local disk keeps what; `docs/topics/storage-layout.md` draws it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import BlobUploadUnknown, DigestInvalid
from portside.spec.uploads import UploadId


class Layout:
    """The paths below one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.uploads = root / "uploads"
        self._prefixes = {
            algorithm: f"{self.blobs}{os.sep}{algorithm}{os.sep}" for algorithm in Algorithm
        }

    def create(self) -> None:
        """Make the directories that everything else relies on; raises OSError."""
        self.uploads.mkdir(parents=True, exist_ok=True)
        for algorithm in Algorithm:
            (self.blobs / algorithm).mkdir(parents=True, exist_ok=True)
        for directory in (self.blobs, self.root):
            sync_directory(directory)

    def blob(self, digest: Digest) -> str:
        """Give the path of a blob: `blobs/sha256/ab/abcd…`."""
        encoded = digest.encoded
        return f"{self._prefixes[digest.algorithm]}{encoded[:2]}{os.sep}{encoded}"

    def upload(self, upload: UploadId) -> str:
        """Give the path of an upload's bytes: `uploads/<id>`."""
        return f"{self.uploads}{os.sep}{upload}"

    def list_blobs(self) -> Iterator[tuple[Digest, int]]:
        """Give every blob's digest and size in bytes, in the order of the directories."""
        for path, digest in self._walk_blobs():
            if digest is not None:
                yield digest, path.stat().st_size

    def list_uploads(self) -> Iterator[tuple[UploadId, int]]:
        """Give the id and the number of bytes of every upload that has a file."""
        for path in sorted(self.uploads.iterdir()):
            upload = _upload_id(path)
            if upload is not None:
                yield upload, path.stat().st_size

    def list_stale_uploads(self, before: int) -> list[UploadId]:
        """Give the uploads whose files were last changed before a time (µs since 1970)."""
        return [
            upload
            for upload, _ in self.list_uploads()
            if os.stat(self.upload(upload)).st_mtime_ns // 1000 < before
        ]

    def list_strays(self) -> Iterator[Path]:
        """Give every path that nothing in this layout accounts for."""
        for path, digest in self._walk_blobs():
            if digest is None:
                yield path
        for path in sorted(self.uploads.iterdir()):
            if _upload_id(path) is None:
                yield path

    def _walk_blobs(self) -> Iterator[tuple[Path, Digest | None]]:
        for top in sorted(self.blobs.iterdir()):
            if top.name not in set(Algorithm) or not top.is_dir():
                yield top, None
                continue
            for directory in sorted(top.iterdir()):
                if not directory.is_dir():
                    yield directory, None
                    continue
                for path in sorted(directory.iterdir()):
                    yield path, self._digest_at(top.name, path)

    def _digest_at(self, algorithm: str, path: Path) -> Digest | None:
        try:
            digest = Digest.parse(f"{algorithm}:{path.name}")
        except DigestInvalid:
            return None
        return digest if self.blob(digest) == str(path) and path.is_file() else None


def _upload_id(path: Path) -> UploadId | None:
    try:
        return UploadId.parse(path.name) if path.is_file() else None
    except BlobUploadUnknown:
        return None


def sync_directory(directory: str | Path) -> None:
    """Make the entries of a directory durable; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
