"""How a client pushes: the requests that podman and docker send, without what else they do."""

from __future__ import annotations

from bench.content import OCI_MANIFEST, Blob, Image, LargeBlob
from bench.wire import Connection


def push_large(connection: Connection, repository: str, blob: LargeBlob) -> None:
    """Push a large blob by POST and PUT."""
    location = open_upload(connection, repository)
    path = finish_path(location, blob.digest)
    connection.socket.sendall(connection.head("PUT", path, blob.size))
    blob.send(connection)
    connection.read_answer().expect(201, f"PUT of {blob.size} bytes to {connection.host}")


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
    """Open an upload session; gives its path, wherever the server says that it is."""
    path = f"/v2/{repository}/blobs/uploads/"
    location = connection.ask("POST", path).expect(202, f"POST {path}").headers["location"]
    return location if location.startswith("/") else "/" + location.split("/", 3)[3]


def finish_path(location: str, digest: str) -> str:
    """Add the digest to the path of an upload session."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
