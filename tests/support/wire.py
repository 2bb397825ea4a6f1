"""A thin client: it pushes as the distribution-spec says, and returns whole answers."""

from __future__ import annotations

import socket
from typing import Any

import httpx

from support.content import Content, digest_of
from support.waiting import PATIENCE

OCTETS = {"Content-Type": "application/octet-stream"}

ANYBODY = {"Authorization": "Bearer any"}
"""Credentials that an open registry accepts, as it does all; `/acr/v1` takes no request without."""

CERTIFICATES = httpx.create_ssl_context()
"""The certificates that clients trust. All clients share them, as reading them takes long."""

ONCE: dict[str, Any] = {"timeout": PATIENCE, "verify": CERTIFICATES}
"""The options of `httpx.get` and its like, which make a client for one request."""


def connect(url: str | httpx.URL, **options: Any) -> httpx.Client:
    """Return a client of the registry at a URL; options are those of httpx."""
    return httpx.Client(base_url=url, **{**ONCE, **options})


def open_upload(client: httpx.Client, repository: str, **query: str) -> str:
    """Open an upload session; returns its location."""
    answer = client.post(f"/v2/{repository}/blobs/uploads/", params=query)
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def push_blob(
    client: httpx.Client, repository: str, content: bytes, algorithm: str = "sha256"
) -> str:
    """Push a blob by POST and PUT; returns its digest."""
    digest = digest_of(content, algorithm)
    location = open_upload(client, repository)
    answer = client.put(location, params={"digest": digest}, content=content, headers=OCTETS)
    assert answer.status_code in {201, 204}, answer.text
    return digest


def put_manifest(
    client: httpx.Client, repository: str, content: Content, reference: str | None = None
) -> httpx.Response:
    """Push a manifest alone, under its digest unless a tag is named."""
    path = f"/v2/{repository}/manifests/{reference or content.digest}"
    return client.put(path, content=content.manifest, headers={"Content-Type": content.media_type})


def push(
    client: httpx.Client, repository: str, content: Content, tag: str | None = None
) -> httpx.Response:
    """Push all that a manifest needs, and then the manifest."""
    for child in content.children:
        push(client, repository, child)
    for blob in content.blobs:
        push_blob(client, repository, blob, content.algorithm)
    answer = put_manifest(client, repository, content, tag)
    assert answer.status_code in {201, 202}, answer.text
    return answer


def errors_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the errors of a body, after a look at its shape."""
    assert answer.headers["Content-Type"] == "application/json"
    errors = answer.json()["errors"]
    assert errors
    for error in errors:
        assert set(error) == {"code", "message", "detail"}
        assert all(isinstance(value, str) for value in error.values())
        error["detail"] = without_request_id(error["detail"], answer)
    return list(errors)


def without_request_id(text: str, answer: httpx.Response) -> str:
    """Return what an answer says, once it has been seen to name its request."""
    named = f"(request {answer.headers['X-Request-Id']})"
    assert named in text
    return text.replace(named, "").rstrip()


def assert_error(answer: httpx.Response, status: int, code: str) -> str:
    """Expect one status and code; returns the detail of the first error."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    errors = errors_of(answer)
    assert {error["code"] for error in errors} == {code}
    detail: str = errors[0]["detail"]
    return detail


def exchange(host: str, port: int, request: bytes, *, timeout: float = PATIENCE) -> bytes:
    """Send raw bytes, and return all that comes back until the registry closes the connection."""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def raw_request(
    host: str, port: int, method: str, path: bytes, headers: str = "", body: bytes = b""
) -> tuple[int, str]:
    """Send a request that no client library would; returns the status and the rest as text."""
    head = f"{method} ".encode() + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = exchange(host, port, head + headers.encode() + b"\r\n" + body)
    assert answer, "the connection was closed without an answer"
    status_line, _, rest = answer.partition(b"\r\n")
    return int(status_line.split()[1]), rest.decode("utf-8", "replace")
