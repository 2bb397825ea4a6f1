"""A real S3 server for tests: SeaweedFS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import seaweedfs
from servers.seaweedfs import BUCKET, S3
from support.missing import server_needed

__all__ = ["BUCKET", "S3", "running_s3"]


@contextmanager
def running_s3(root: Path) -> Iterator[S3]:
    """Serve one empty bucket for the length of a block; skips the test if it cannot, but in CI."""
    with server_needed(), seaweedfs.running_s3(root) as server:
        yield server
