"""The rows in which content is kept in S3, and by Portside in PostgreSQL too."""

from __future__ import annotations

from bench import loads
from bench.content import MIB, LargeBlobs
from bench.errors import BenchError
from bench.lists import ListTags
from bench.peer import Peer
from bench.setups import Setup
from bench.uploads import push_large
from bench.works import (
    CONNECTIONS,
    GetManifest,
    GetMedium,
    HeadBlob,
    PushImage,
    PushLarge,
    Work,
)

LARGE = 256 * MIB
"""The most of a large blob: a push to docker-registry takes its time there."""

TAGS = 5_000
"""Fewer than on a disk, where docker-registry takes less time to list them."""


class GetManifestRemotely(GetManifest):
    """GET a manifest by tag: one query, beside what docker-registry reads from S3."""

    name = "get-manifest-s3"
    floor = best = None
    setup = Setup.STREAMED


class HeadBlobRemotely(HeadBlob):
    """HEAD a blob."""

    name = "head-blob-s3"
    floor = best = None
    setup = Setup.STREAMED


class GetMediumRemotely(GetMedium):
    """GET blobs that the registry itself reads from S3 and sends."""

    name = "get-medium-s3"
    title = f"{GetMedium.title}, streamed"
    floor = None
    setup = Setup.STREAMED


class RedirectBlob(Work):
    """GET a blob and be redirected; the redirect is not followed."""

    name = "redirect-blob-s3"
    title = f"GET blob answered by a redirect, {CONNECTIONS} connections"
    unit = "requests/s"
    setup = Setup.REDIRECTED

    def __init__(self) -> None:
        self._blob = LargeBlobs(MIB).fresh()
        self._path = f"/v2/bench/redirect/blobs/{self._blob.digest}"

    def prepare(self, peer: Peer) -> None:
        """Push a blob, and look where its redirect leads."""
        with peer.connect() as connection:
            push_large(connection, "bench/redirect", self._blob)
            answer = connection.ask("GET", self._path)
        location = answer.expect(307, f"{peer.name}, GET {self._path}").headers["location"]
        if loads.get_digest_elsewhere(location) != self._blob.digest:
            raise BenchError(f"{peer.name} sends clients to another blob")

    def measure(self, peer: Peer, seconds: int) -> float:
        """Let wrk ask for it."""
        return loads.get_requests(peer, self._path, connections=CONNECTIONS, seconds=seconds)


class PushLargeRemotely(PushLarge):
    """Push a large blob."""

    name = "push-large-s3"
    floor = best = None
    setup = Setup.STREAMED

    def __init__(self, size: int) -> None:
        super().__init__(min(size, LARGE))


class PushImageRemotely(PushImage):
    """Push an image of many small layers."""

    name = "push-image-s3"
    floor = None
    setup = Setup.STREAMED


class ListTagsRemotely(ListTags):
    """GET a page of tags."""

    name = "list-tags-s3"
    floor = None
    setup = Setup.STREAMED

    def __init__(self) -> None:
        super().__init__(TAGS)
