"""What one client may keep from others: memory for bodies that do not end, and open uploads."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from support.access import ALICE, PUSHER, guarded_registry
from support.content import OCI_MANIFEST, digest_of, image
from support.server import RunningRegistry
from support.waiting import PATIENCE
from support.wire import connect, open_upload, push

FORM = "application/x-www-form-urlencoded"
LOGIN = {
    "grant_type": "password",
    "service": "portside",
    "username": ALICE.name,
    "password": ALICE.password,
}
TIMEOUT, MANIFEST_TIMEOUT = 1.0, 1.5
"""Seconds for the whole body of a form, and of a manifest."""


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve with little memory for bodies, and little time; forms have 256 KiB."""
    data: Path = tmp_path_factory.mktemp("little") / "data"
    limits = ("--body-memory", str(1024 * 1024), "--max-form-bytes", "250000")
    times = ("--form-timeout", str(TIMEOUT), "--manifest-timeout", str(MANIFEST_TIMEOUT))
    most = ("--max-open-uploads", "2")
    with guarded_registry(data, "--workers", "1", *limits, *times, *most) as registry:
        yield registry


def head_of(method: str, path: str, kind: str, size: int) -> bytes:
    """Return the head of alice's request with a body of a size."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {ALICE.encoded}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def log_in(client: httpx.Client) -> int:
    """Send a form as clients do; return the status."""
    return client.post("/oauth2/token", data=LOGIN).status_code


def test_unfinished_forms_take_their_share(little: RunningRegistry) -> None:
    """Forms beyond their memory are refused for a while; logins and manifests are not."""
    head = head_of("POST", "/oauth2/token", FORM, 240_000)
    with ExitStack() as stack, connect(little.url, auth=ALICE.pair) as client:
        slow = [
            stack.enter_context(socket.create_connection((little.host, little.port), PATIENCE))
            for _ in range(4)
        ]
        for connection in slow:
            connection.sendall(head + b"a" * 200_000)
        refused, _, _ = select.select(slow, [], [], PATIENCE)
        answer = b""
        while b"TOOMANYREQUESTS" not in answer:
            # The body may come after the head.
            piece = refused[0].recv(65536)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1\r\n" in answer
        assert log_in(client) == 200
        content = image("large")
        push(client, "team/large", content)
        padded = content.manifest.ljust(400_000)
        path = f"/v2/team/large/manifests/{digest_of(padded)}"
        kind = {"Content-Type": content.media_type}
        assert client.put(path, content=padded, headers=kind).status_code == 201


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/exchange"])
def test_fields_of_a_form(little: RunningRegistry, path: str) -> None:
    """A form has at most 200 fields, as a query does."""
    kind = "access_token" if path.endswith("exchange") else "password"
    form = {**LOGIN, "grant_type": kind, "access_token": f"{ALICE.name}:{ALICE.password}"}
    with connect(little.url) as client:
        for count, status in ((200, 200), (201, 413)):
            padding = {f"a{number}": "" for number in range(count - len(form))}
            assert client.post(path, data=form | padding).status_code == status


def test_memory_comes_back(little: RunningRegistry) -> None:
    """Bodies that are read, too large, or cut off take nothing any longer."""
    head = head_of("POST", "/oauth2/token", FORM, 200_000)
    with connect(little.url) as client:
        for _ in range(3):
            padded = client.post("/oauth2/token", data={**LOGIN, "padding": "a" * 200_000})
            assert padded.status_code == 200
            large = client.post("/oauth2/token", data={**LOGIN, "padding": "a" * 260_000})
            assert large.status_code == 413
            with socket.create_connection((little.host, little.port), PATIENCE) as connection:
                connection.sendall(head + b"a" * 100_000)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


@pytest.mark.parametrize(
    ("method", "path", "kind", "timeout"),
    [
        ("POST", "/oauth2/token", FORM, TIMEOUT),
        ("POST", "/oauth2/exchange", FORM, TIMEOUT),
        ("PUT", "/v2/team/slow/manifests/v1", OCI_MANIFEST, MANIFEST_TIMEOUT),
    ],
)
def test_slow(little: RunningRegistry, method: str, path: str, kind: str, timeout: float) -> None:
    """A body that always brings another byte is refused when its time is over."""
    with socket.create_connection((little.host, little.port), PATIENCE) as connection:
        connection.sendall(head_of(method, path, kind, 1000))
        sent = 0
        while not select.select([connection], [], [], TIMEOUT / 10)[0]:
            assert sent < 500, "nobody stops a slow body"
            connection.sendall(b"a")
            sent += 1
        response = HTTPResponse(connection, method=method)
        response.begin()
        assert response.status == 408
        assert response.getheader("Connection") == "close"
        assert f"within {timeout:g} s".encode() in response.read()


def test_open_uploads_are_counted_for_each_identity(little: RunningRegistry) -> None:
    """Whoever has as many as are allowed keeps nobody else from pushing to the repository."""
    for login in (ALICE, PUSHER):
        with connect(little.url) as client:
            scope = "repository:team/open:pull,push"
            token = client.get("/oauth2/token", params={"scope": scope}, auth=login.pair).json()
            client.headers["Authorization"] = f"Bearer {token['access_token']}"
            for _ in range(2):
                open_upload(client, "team/open")
            assert client.post("/v2/team/open/blobs/uploads/").status_code == 429
