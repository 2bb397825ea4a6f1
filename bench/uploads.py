"""How a client pushes: the requests that podman and docker send, without what else they do."""

from __future__ import annotations

from bench.content import OCI_MANIFEST, Blob, Image, LargeBlob
from bench.wire import Answer, Connection

OCTETS = "application/octet-stream"


def push_large(connection: Connection, repository: str, blob: LargeBlob) -> None:
    """Push a large blob by POST and PUT."""
    location = open_upload(connection, repository)
    send_large(connection, "PUT", finish_path(location, blob.digest), blob, 201)


def push_image(connection: Connection, repository: str, tag: str, image: Image) -> None:
    """Push an image as a client does that does not know what the registry has."""
    for blob in image.blobs:
        path = f"/v2/{repository}/blobs/{blob.digest}"
        connection.ask("HEAD", path).expect(404, f"HEAD {path}")
        push_small(connection, repository, blob)
    put_manifest(connection, repository, tag, image.manifest)


def push_small(connection: Connection, repository: str, blob: Blob) -> None:
    """Push a small blob by POST and PUT."""
    path = finish_path(open_upload(connection, repository), blob.digest)
    connection.ask("PUT", path, blob.content).expect(201, f"PUT {path}")


def put_manifest(
    connection: Connection,
    repository: str,
    reference: str,
    payload: bytes,
    kind: str = OCI_MANIFEST,
) -> None:
    """Push a manifest."""
    path = f"/v2/{repository}/manifests/{reference}"
    connection.ask("PUT", path, payload, kind).expect(201, f"PUT {path[:200]}")


def open_upload(connection: Connection, repository: str) -> str:
    """Open an upload session; returns its path, wherever the server says that it is."""
    path = f"/v2/{repository}/blobs/uploads/"
    answer = connection.ask("POST", path).expect(202, f"POST {path}")
    return path_of(answer)


def send_large(
    connection: Connection, method: str, path: str, blob: LargeBlob, status: int
) -> Answer:
    """Send a large blob as the body of a request, to which a status is expected."""
    connection.socket.sendall(connection.head(method, path, blob.size, OCTETS))
    blob.send(connection)
    what = f"{method} of {blob.size} bytes to {connection.host}"
    return connection.read_answer().expect(status, what)


def path_of(answer: Answer) -> str:
    """Return the path where an answer says that an upload session goes on."""
    location = answer.headers["location"]
    return location if location.startswith("/") else "/" + location.split("/", 3)[3]


def finish_path(location: str, digest: str) -> str:
    """Add the digest to the path of an upload session."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
