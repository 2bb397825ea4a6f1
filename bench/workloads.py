"""What is measured: the rows of the table. Each gives a rate, of which more is better."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from bench import loads
from bench.content import MIB, Image, LargeBlob, LargeBlobs
from bench.peer import Peer
from bench.programs import BenchError
from bench.setups import Setup
from bench.uploads import push_image, push_large

CONNECTIONS = 32
READERS = 8
MEDIUM = 64 * MIB
LAYERS = 100
LAYER = 10_000

TAGS = 50_000
REPOSITORIES = 5_000
PAGE = 100
CLIENTS = 4
"""Connections that ask for pages at once: enough to keep both cores busy."""

REMOTE_LARGE = 256 * MIB
"""The most of a large blob: a push to docker-registry takes its time there."""

REMOTE_TAGS = 5_000
"""Fewer than on a disk, where docker-registry takes less time to list them."""


class Workload(ABC):
    """One row.

    `floor` is the ratio to docker-registry that Portside has to reach, `best` that of the fastest
    other registry that was measured on the machine where the floors were set.
    """

    name: ClassVar[str]
    title: str
    unit: ClassVar[str]
    floor: ClassVar[float | None] = None
    best: ClassVar[float | None] = None
    setup: ClassVar[Setup] = Setup.LOCAL

    @abstractmethod
    def prepare(self, peer: Peer) -> None:
        """Load what the work needs, and make sure that the right bytes come back."""

    @abstractmethod
    def measure(self, peer: Peer, seconds: int) -> float:
        """Measure for about so many seconds; raises BenchError."""


class GetManifest(Workload):
    """GET a manifest by tag."""

    name = "get-manifest"
    title = f"GET manifest of 2 kB by tag, {CONNECTIONS} connections"
    unit = "requests/s"
    floor: ClassVar[float | None] = 16
    best: ClassVar[float | None] = 17

    def __init__(self) -> None:
        self._image = Image.fresh(layers=11, size=100)

    def prepare(self, peer: Peer) -> None:
        """Push a small image."""
        with peer.connect() as connection:
            push_image(connection, "bench/manifest", "1", self._image)
            kind = loads.ACCEPT.removeprefix("Accept: ")
            answer = connection.ask("GET", "/v2/bench/manifest/manifests/1", kind=kind)
        if answer.expect(200, "GET of the manifest").body != self._image.manifest:
            raise BenchError(f"{peer.name} gives back another manifest")

    def measure(self, peer: Peer, seconds: int) -> float:
        """Request it with wrk."""
        path = "/v2/bench/manifest/manifests/1"
        return loads.get_requests(peer, path, connections=CONNECTIONS, seconds=seconds)


class HeadBlob(Workload):
    """HEAD a blob."""

    name = "head-blob"
    title = f"HEAD blob, {CONNECTIONS} connections"
    unit = "requests/s"
    floor: ClassVar[float | None] = 5
    best: ClassVar[float | None] = 6

    def __init__(self) -> None:
        self._image = Image.fresh(layers=1, size=LAYER)

    def prepare(self, peer: Peer) -> None:
        """Push an image of one layer."""
        with peer.connect() as connection:
            push_image(connection, "bench/head", "1", self._image)

    def measure(self, peer: Peer, seconds: int) -> float:
        """Request it with ab."""
        path = f"/v2/bench/head/blobs/{self._image.blobs[1].digest}"
        return loads.head_requests(peer, path, connections=CONNECTIONS, seconds=seconds)


class GetLarge(Workload):
    """GET a large blob on one connection."""

    name = "get-large"
    unit = "bytes/s"
    floor: ClassVar[float | None] = 0.9
    best: ClassVar[float | None] = 1.3

    def __init__(self, size: int) -> None:
        self.title = f"GET blob of {size // MIB} MiB, 1 connection"
        self._size = size

    @cached_property
    def _blob(self) -> LargeBlob:
        return LargeBlobs(self._size).fresh()

    def prepare(self, peer: Peer) -> None:
        """Push it."""
        _push_for_good(peer, "bench/large", self._blob)

    def measure(self, peer: Peer, seconds: int) -> float:
        """Read it and throw the bytes away."""
        path = f"/v2/bench/large/blobs/{self._blob.digest}"
        return loads.get_bytes(peer, path, self._size, seconds)


class GetLargeSecurely(GetLarge):
    """GET a large blob over TLS, with the HTTP version that client and server agree on: 2."""

    name = "get-large-tls"
    floor: ClassVar[float | None] = 1.25
    best = None
    setup = Setup.SECURE
    http_version: ClassVar[str] = "2"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.title += f", TLS, HTTP/{self.http_version}"

    def measure(self, peer: Peer, seconds: int) -> float:
        """Read it with curl."""
        path = f"/v2/bench/large/blobs/{self._blob.digest}"
        return loads.get_bytes_securely(peer, path, self._size, seconds, self.http_version)


class GetLargeSecurelyOverHttp1(GetLargeSecurely):
    """GET a large blob over TLS by a client that speaks HTTP/1.1 alone."""

    name = "get-large-tls-http1"
    floor: ClassVar[float | None] = None
    http_version = "1.1"


class GetMedium(Workload):
    """GET blobs on several connections."""

    name = "get-medium"
    title = f"GET blobs of {MEDIUM // MIB} MiB, {READERS} connections"
    unit = "bytes/s"
    floor: ClassVar[float | None] = 1.0

    @cached_property
    def _blobs(self) -> list[LargeBlob]:
        blobs = LargeBlobs(MEDIUM)
        return [blobs.fresh() for _ in range(READERS)]

    def prepare(self, peer: Peer) -> None:
        """Push one for each connection."""
        for blob in self._blobs:
            _push_for_good(peer, "bench/medium", blob)

    def measure(self, peer: Peer, seconds: int) -> float:
        """Read them all at once and throw the bytes away."""
        paths = [f"/v2/bench/medium/blobs/{blob.digest}" for blob in self._blobs]
        return loads.get_many_bytes(peer, paths, MEDIUM, seconds)


class PushLarge(Workload):
    """Push a large blob that the registry has not seen."""

    name = "push-large"
    unit = "bytes/s"
    floor: ClassVar[float | None] = 1.8
    best: ClassVar[float | None] = 2.3

    def __init__(self, size: int) -> None:
        self.title = f"push blob of {size // MIB} MiB (POST, PUT)"
        self._size = size

    @cached_property
    def _blobs(self) -> LargeBlobs:
        return LargeBlobs(self._size)

    def prepare(self, peer: Peer) -> None:
        """Need nothing."""

    def measure(self, peer: Peer, seconds: int) -> float:
        """Push one blob after the other, and delete each before the next."""
        total, elapsed = 0, 0.0
        while elapsed < seconds:
            blob = self._blobs.fresh()
            # What the other registry left in the page cache is written before the measurement.
            os.sync()
            with peer.connect() as connection:
                begun = time.monotonic()
                push_large(connection, "bench/push", blob)
                elapsed += time.monotonic() - begun
            total += self._size
            peer.forget("bench/push", blob.digest)
        return total / elapsed


class PushImage(Workload):
    """Push an image of many small layers by one client over one connection."""

    name = "push-image"
    title = f"push image of {LAYERS} layers of {LAYER // 1000} kB, 1 connection"
    unit = "layers/s"
    floor: ClassVar[float | None] = 1.5

    def prepare(self, peer: Peer) -> None:
        """Need nothing."""

    def measure(self, peer: Peer, seconds: int) -> float:
        """Push one image after the other."""
        total, elapsed = 0, 0.0
        while elapsed < seconds:
            image = Image.fresh(LAYERS, LAYER)
            os.sync()
            with peer.connect() as connection:
                begun = time.monotonic()
                push_image(connection, "bench/layers", "latest", image)
                elapsed += time.monotonic() - begun
            total += LAYERS
        return total / elapsed


class ListWorkload(Workload):
    """GET a page from the middle of a list."""

    unit = "requests/s"
    floor: ClassVar[float | None] = 20
    key: ClassVar[str]
    path: ClassVar[str]

    def __init__(self, length: int) -> None:
        self.entries: Sequence[str] = [self.entry(number) for number in range(length)]
        middle = length // 2
        self._after = self.entries[middle : middle + PAGE]
        self._path = f"{self.path}?n={PAGE}&last={self.entries[middle - 1]}"

    @abstractmethod
    def entry(self, number: int) -> str:
        """Name one entry; the names sort like their numbers."""

    @abstractmethod
    def fill(self, peer: Peer) -> None:
        """Make the list."""

    def prepare(self, peer: Peer) -> None:
        """Make the list, and look whether the page is in the answer.

        docker-registry 2.8 ignores `n` and `last` for tags and sends the whole list.
        """
        self.fill(peer)
        with peer.connect() as connection:
            answer = connection.ask("GET", self._path).expect(200, f"{peer.name}, a page")
        listed = json.loads(answer.body)[self.key]
        if not set(self._after) <= set(listed):
            raise BenchError(f"{peer.name} answers {self._path} with another page: {listed[:3]}…")

    def measure(self, peer: Peer, seconds: int) -> float:
        """Request the page with wrk."""
        return loads.get_requests(peer, self._path, connections=CLIENTS, seconds=seconds)


class ListTags(ListWorkload):
    """GET a page of tags."""

    name = "list-tags"
    key = "tags"
    path = "/v2/bench/tags/tags/list"

    def __init__(self, length: int = TAGS) -> None:
        super().__init__(length)
        self.title = f"GET page of {PAGE} tags out of {length:,}"

    def entry(self, number: int) -> str:
        """Name a tag."""
        return f"v{number:06}"

    def fill(self, peer: Peer) -> None:
        """Tag one manifest often."""
        peer.add_tags("bench/tags", self.entries)


class ListRepositories(ListWorkload):
    """GET a page of repositories."""

    name = "list-repositories"
    key = "repositories"
    path = "/v2/_catalog"

    def __init__(self, length: int = REPOSITORIES) -> None:
        super().__init__(length)
        self.title = f"GET page of {PAGE} repositories out of {length:,}"

    def entry(self, number: int) -> str:
        """Name a repository."""
        return f"many/r{number:05}"

    def fill(self, peer: Peer) -> None:
        """Push one manifest into many repositories."""
        peer.add_repositories(self.entries)


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


class RedirectBlob(Workload):
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
        """Request it with wrk."""
        return loads.get_requests(peer, self._path, connections=CONNECTIONS, seconds=seconds)


class PushLargeRemotely(PushLarge):
    """Push a large blob."""

    name = "push-large-s3"
    floor = best = None
    setup = Setup.STREAMED

    def __init__(self, size: int) -> None:
        super().__init__(min(size, REMOTE_LARGE))


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
        super().__init__(REMOTE_TAGS)


def _push_for_good(peer: Peer, repository: str, blob: LargeBlob) -> None:
    """Push a blob, and read it back once to compare its digest."""
    with peer.connect() as connection:
        push_large(connection, repository, blob)
        digest = loads.get_digest(connection, f"/v2/{repository}/blobs/{blob.digest}")
    if digest != blob.digest:
        raise BenchError(f"{peer.name} gives back other bytes than it got")
