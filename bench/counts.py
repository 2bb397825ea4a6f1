"""What each operation of one node asks of PostgreSQL and of S3, one by one.

docker-registry is counted beside it, with its requests to the same S3. Everything is done twice,
and what is done only once, such as opening a connection, is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from bench.content import MIB, OCI_MANIFEST, Image, LargeBlobs
from bench.docker_registry import DockerRegistryInS3
from bench.peer import Peer
from bench.portside import Place, PortsideNode
from bench.results import Counted
from bench.rounds import tell
from bench.setups import Backends
from bench.uploads import (
    finish_path,
    open_upload,
    path_of,
    push_image,
    push_large,
    push_small,
    put_manifest,
    send_large,
)
from bench.wire import Connection
from servers.counts import Counting, Counts

NAME = "counts"
REPOSITORY = "bench/counts"
OTHER = "bench/elsewhere"
SMALL = 10_000
LARGE = 64 * MIB

_SMALL_BLOBS = LargeBlobs(SMALL)
_LARGE_BLOBS = LargeBlobs(LARGE)


Prepared = Callable[[], object]


class Operation(NamedTuple):
    """One request, or the few that belong together.

    `prepare` makes what is needed, and gives what is to be counted. `size` is the length in bytes
    of the blob that is moved. docker-registry does not have all operations. One that is redirected
    is asked of a node that sends clients on.
    """

    title: str
    prepare: Callable[[Connection], Prepared]
    size: int = 0
    is_of_both: bool = True
    is_redirected: bool = False


def measure(folder: Path, backends: Backends) -> Iterator[Counted]:
    """Start both, and a second node of Portside, and do everything with each."""
    place = Place(backends.postgresql.make_database(), backends.s3, NAME)
    counting = Counting(backends.postgresql, place.database, backends.s3)
    streaming = PortsideNode(folder / "streaming", place, redirects=False, workers=1)
    redirecting = PortsideNode(folder / "redirecting", place, redirects=True, workers=1)
    docker = DockerRegistryInS3(folder / "docker", backends.s3, redirects=False)
    docker_redirecting = DockerRegistryInS3(folder / "docker-r", backends.s3, redirects=True)
    peers = (streaming, redirecting, docker, docker_redirecting)
    try:
        for peer in peers:
            peer.start()
        for operation in OPERATIONS:
            ours, theirs = (
                (redirecting, docker_redirecting)
                if operation.is_redirected
                else (streaming, docker)
            )
            counts = _count(operation, ours, counting)
            compared = _count(operation, theirs, counting) if operation.is_of_both else None
            yield Counted(operation.title, operation.size, counts, compared)
            tell(f"{NAME}: {operation.title}")
    finally:
        for peer in peers:
            peer.stop()


def _count(operation: Operation, peer: Peer, counting: Counting) -> Counts:
    with peer.connect() as connection:
        operation.prepare(connection)()
        return counting.count(operation.prepare(connection))


def _asking(connection: Connection, method: str, path: str, status: int) -> Prepared:
    return lambda: connection.ask(method, path, kind=OCI_MANIFEST).expect(
        status, f"{method} {path}"
    )


def _manifest(method: str, status: int, connection: Connection) -> Prepared:
    push_image(connection, REPOSITORY, "1", Image.fresh(layers=2, size=SMALL))
    return _asking(connection, method, f"/v2/{REPOSITORY}/manifests/1", status)


def _put_manifest(connection: Connection) -> Prepared:
    image = Image.fresh(layers=2, size=SMALL)
    for blob in image.blobs:
        push_small(connection, REPOSITORY, blob)
    return lambda: put_manifest(connection, REPOSITORY, "2", image.manifest)


def _blob(method: str, status: int, blobs: LargeBlobs, connection: Connection) -> Prepared:
    blob = blobs.fresh()
    push_large(connection, REPOSITORY, blob)
    return _asking(connection, method, f"/v2/{REPOSITORY}/blobs/{blob.digest}", status)


def _mount(connection: Connection) -> Prepared:
    blob = _SMALL_BLOBS.fresh()
    push_large(connection, REPOSITORY, blob)
    path = f"/v2/{OTHER}/blobs/uploads/?mount={blob.digest}&from={quote(REPOSITORY, safe='')}"
    return _asking(connection, "POST", path, 201)


def _post(blobs: LargeBlobs, connection: Connection) -> Prepared:
    blob = blobs.fresh()
    path = f"/v2/{REPOSITORY}/blobs/uploads/?digest={blob.digest}"
    return lambda: send_large(connection, "POST", path, blob, 201)


def _post_put(blobs: LargeBlobs, connection: Connection) -> Prepared:
    blob = blobs.fresh()
    return lambda: push_large(connection, REPOSITORY, blob)


def _post_patch_put(blobs: LargeBlobs, connection: Connection) -> Prepared:
    blob = blobs.fresh()

    def push() -> None:
        patched = send_large(connection, "PATCH", open_upload(connection, REPOSITORY), blob, 202)
        path = finish_path(path_of(patched), blob.digest)
        connection.ask("PUT", path).expect(201, f"PUT {path}")

    return push


def _push(title: str, push: Callable[[LargeBlobs, Connection], Prepared]) -> Iterator[Operation]:
    """Make one operation of a way to push for each size; 2.8 takes no blob in one request."""
    for blobs, size, called in (
        (_SMALL_BLOBS, SMALL, f"{SMALL // 1000} kB"),
        (_LARGE_BLOBS, LARGE, f"{LARGE // MIB} MiB"),
    ):
        yield Operation(
            f"push blob of {called} ({title})", partial(push, blobs), size, push is not _post
        )


_GET_LARGE = f"GET blob of {LARGE // MIB} MiB"

OPERATIONS = [
    Operation("GET manifest by tag", partial(_manifest, "GET", 200)),
    Operation("HEAD manifest by tag", partial(_manifest, "HEAD", 200)),
    Operation("HEAD blob", partial(_blob, "HEAD", 200, _SMALL_BLOBS)),
    Operation(
        f"{_GET_LARGE}, redirected", partial(_blob, "GET", 307, _LARGE_BLOBS), is_redirected=True
    ),
    Operation(f"{_GET_LARGE}, streamed", partial(_blob, "GET", 200, _LARGE_BLOBS), LARGE),
    *_push("POST", _post),
    *_push("POST, PUT", _post_put),
    *_push("POST, PATCH, PUT", _post_patch_put),
    Operation("mount blob", _mount),
    Operation("PUT manifest of 3 blobs", _put_manifest),
    Operation("DELETE tag", partial(_manifest, "DELETE", 202), is_of_both=False),
    Operation("DELETE blob", partial(_blob, "DELETE", 202, _SMALL_BLOBS)),
]
"""What is counted, in the order of the table."""
