"""A request to a receiver goes where it should, ends in time, and follows nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from portside.operations.webhooks import sending
from portside.operations.webhooks.sending import Answer, Post, is_allowed, send, send_blocking
from support.certificates import write_certificate
from support.waiting import PATIENCE

Serve = Callable[[socket.socket], None]


class Receiver:
    """Listens on the loopback interface; `serve` is run with each connection."""

    def __init__(self, serve: Serve) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/in?x=1"
        self.seen: list[bytes] = []
        self._serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connected, _ = self.listener.accept()
                with closing(connected), suppress(OSError):
                    self._serve(connected)


def reading(connected: socket.socket) -> bytes:
    """Read a request with a body of two bytes."""
    text = b""
    while not text.endswith(b"\r\n\r\n{}"):
        piece = connected.recv(4096)
        if not piece:
            raise ConnectionError
        text += piece
    return text


def answering(*parts: bytes) -> Serve:
    """Read a request, and answer."""

    def serve(connected: socket.socket) -> None:
        reading(connected)
        for part in parts:
            connected.sendall(part)

    return serve


def forever(first: bytes, piece: bytes, pause: float = 0) -> Serve:
    """Read a request, and answer without an end."""

    def serve(connected: socket.socket) -> None:
        reading(connected)
        connected.sendall(first)
        while True:
            connected.sendall(piece)
            time.sleep(pause)

    return serve


@pytest.fixture
def receive() -> Iterator[Callable[[Serve], Receiver]]:
    """Make receivers."""
    with ExitStack() as stack:

        def make(serve: Serve) -> Receiver:
            receiver = Receiver(serve)
            stack.callback(receiver.listener.close)
            return receiver

        yield make


Receive = Callable[[Serve], Receiver]


def post(
    url: str, timeout: float = 20, *, private: bool = True, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send two bytes."""
    return send_blocking(Post(url, headers or {}, b"{}", private), timeout=timeout)


class TestAnswers:
    """What counts as accepted."""

    def test_a_request(self, receive: Receive) -> None:
        """It is a POST with the path, the query, the host and the headers."""
        seen: list[bytes] = []

        def serve(connected: socket.socket) -> None:
            seen.append(reading(connected))
            connected.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")

        receiver = receive(serve)
        answer = post(receiver.url, headers={"webhook-id": "1"})
        assert answer == Answer(202)
        line, *headers = seen[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert line == "POST /in?x=1 HTTP/1.1"
        assert f"Host: 127.0.0.1:{receiver.port}" in headers
        assert {"webhook-id: 1", "Content-Length: 2", "Connection: close"} <= {*headers}

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            ("302 Found\r\nLocation: http://169.254.169.254/", "answered 302 Found; redirects"),
            ("500 <b>", "answered 500 Internal Server Error"),
            ("799 x", "answered 799"),
            ("410 Gone", "answered 410 Gone"),
        ],
    )
    def test_failures(self, receive: Receive, status: str, error: str) -> None:
        """Whatever is not 2xx; what is said of it is not the receiver's text."""
        receiver = receive(answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()))
        answer = post(receiver.url)
        assert answer.error.startswith(error)
        assert answer.status == int(status[:3])

    def test_retry_after(self, receive: Receive) -> None:
        """Seconds or a time; anything else asks for nothing."""

        def asked(text: str) -> int | None:
            head = f"HTTP/1.1 503 x\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n"
            return post(receive(answering(head.encode())).url).retry_after

        assert asked("120") == 120
        assert 50 <= (asked(formatdate(time.time() + 60, usegmt=True)) or 0) <= 60
        assert asked("Mon, 01 Jan 2001 00:00:00 GMT") == 0
        assert asked("9" * 4000) == 999_999_999
        assert [asked(text) for text in ("", "soon", "-1", "1.5")] == [None] * 4

    def test_a_success_is_one_whatever_follows(self, receive: Receive) -> None:
        """A body that is cut off, or never ends, changes nothing."""
        head = b"HTTP/1.1 200 OK\r\n"
        for serve in (
            answering(head + b"Content-Length: 99\r\n\r\nshort"),
            answering(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            forever(head + b"Content-Length: 9999999\r\n\r\n", b"x", 0.05),
        ):
            assert post(receive(serve).url, 2) == Answer(200)
        began = time.monotonic()
        assert post(receive(forever(head + b"\r\n", b"x" * 65536)).url) == Answer(200)
        assert time.monotonic() - began < 15


class TestReceiversThatFail:
    """Each attempt ends in time, with a reason."""

    @pytest.mark.parametrize(
        "serve",
        [
            forever(b"", b"", 0.05),
            forever(b"HTTP/1.1 200", b" ", 0.05),
            forever(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", 0.05),
            forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
        ],
        ids=["stalls", "status", "headers", "continue"],
    )
    def test_slow(self, receive: Receive, serve: Serve) -> None:
        """One that says nothing, and those that say something now and then."""
        receiver = receive(serve)
        began = time.monotonic()
        assert post(receiver.url, 0.4).error.endswith("did not answer within 0.4 s")
        assert time.monotonic() - began < PATIENCE / 2

    def test_not_http(self, receive: Receive) -> None:
        """One that dies, before or within the headers, another server, and endless headers."""
        errors = {
            post(receive(serve).url).error.partition(" ")[2]
            for serve in (
                answering(b""),
                answering(b"HTTP/1.1 200 OK\r\nContent-Le"),
                answering(b"HTTP/1.1 200 OK\r\n"),
                answering(b"SSH-2.0-x\r\n"),
                forever(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 1000),
            )
        }
        assert errors == {
            "closed the connection before it had answered",
            "did not answer as HTTP servers do (BadStatusLine)",
            "did not answer as HTTP servers do (HTTPException)",
        }

    def test_no_connection(self) -> None:
        """A port on which nothing listens, and a host that does not exist."""
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            port = listener.getsockname()[1]
        error = post(f"http://127.0.0.1:{port}/").error
        assert error == f"no connection to 127.0.0.1:{port}: Connection refused"
        assert post("http://nowhere.invalid/").error.startswith("cannot look up nowhere.invalid")

    def test_headers_cannot_be_split(self, receive: Receive) -> None:
        """A line feed in a value is refused before anything is sent."""
        receiver = receive(answering())
        assert "ValueError" in post(receiver.url, headers={"name": "a\r\nX-Other: b"}).error

    async def test_it_is_not_awaited(self, receive: Receive) -> None:
        """The event loop goes on, and an attempt can be left."""
        release = threading.Event()
        receiver = receive(lambda _: (release.wait(), None)[1])
        sent = asyncio.ensure_future(send(Post(receiver.url, {}, b"{}", True), timeout=30))
        await asyncio.sleep(0)
        sent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sent
        release.set()


class TestAddresses:
    """Where a request may go."""

    @pytest.mark.parametrize(
        ("address", "public", "private"),
        [
            ("93.184.215.14", True, True),
            ("2606:2800:21f::1", True, True),
            ("127.0.0.1", False, True),
            ("10.1.2.3", False, True),
            ("192.168.0.1", False, True),
            ("100.64.0.1", False, True),
            ("::1", False, True),
            ("fd12::1", False, True),
            ("::ffff:10.1.2.3", False, True),
            ("64:ff9b::a01:203", False, True),
            ("2002:a01:203::1", False, True),
            ("169.254.169.254", False, False),
            ("::ffff:169.254.169.254", False, False),
            ("64:ff9b::a9fe:a9fe", False, False),
            ("fe80::1", False, False),
            ("fd00:ec2::254", False, False),
            ("168.63.129.16", False, False),
            ("224.0.0.1", False, False),
            ("ff02::1", False, False),
            ("0.0.0.0", False, False),
            ("::", False, False),
            ("255.255.255.255", False, False),
        ],
    )
    def test_allowed(self, address: str, public: bool, private: bool) -> None:
        """Public addresses; private ones if they are allowed; those of a cloud's machines never."""
        parsed = ip_address(address)
        assert is_allowed(parsed, allow_private=False) is public
        assert is_allowed(parsed, allow_private=True) is private

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1"])
    def test_refused(self, receive: Receive, host: str) -> None:
        """Nothing is sent, however the address is written."""
        receiver = receive(answering(b"HTTP/1.1 204 x\r\n\r\n"))
        error = post(f"http://{host}:{receiver.port}/", private=False).error
        assert error.startswith(f"{host} has the address ")
        assert "allow-private" in error

    def test_a_name_that_changes(self, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host is looked up once, and only those of its addresses are used that are allowed."""
        receiver = receive(answering(b"HTTP/1.1 204 x\r\n\r\n"))
        lookups: list[Any] = []

        def look_up(*asked: Any, **_: Any) -> list[Any]:
            lookups.append(asked)
            # The first address could be connected to; the second one is that of the receiver.
            addresses = ["169.254.169.254", "127.0.0.1"] if len(lookups) == 1 else []
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, receiver.port))
                for each in addresses
            ]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert post(f"http://changing.example:{receiver.port}/") == Answer(204)
        assert len(lookups) == 1

    def test_another_address_is_tried(
        self, receive: Receive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If one of several does not answer."""
        receiver = receive(answering(b"HTTP/1.1 204 x\r\n\r\n"))
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, receiver.port))
            for each in ("127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert post("http://two.example/") == Answer(204)

    def test_proxies_are_not_used(self, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the environment names would connect where it wants."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
        assert post(receive(answering(b"HTTP/1.1 204 x\r\n\r\n")).url) == Answer(204)


class TestTls:
    """A receiver has to be the one that the URL names."""

    @pytest.fixture
    @staticmethod
    def port(receive: Receive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """Run a receiver with a certificate for one name, under any name, and trust it."""
        certificate, key = write_certificate(tmp_path, names=["receiver.example"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def serve(connected: socket.socket) -> None:
            with context.wrap_socket(connected, server_side=True) as secured:
                answering(b"HTTP/1.1 204 x\r\n\r\n")(secured)

        port = receive(serve).port
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sending.verifier.cache_clear()
        yield port
        sending.verifier.cache_clear()

    def test_the_name_is_verified(self, port: int) -> None:
        """Although the connection goes to an address."""
        assert post(f"https://receiver.example:{port}/") == Answer(204)
        error = post(f"https://other.example:{port}/").error
        assert error.startswith(f"no TLS connection to other.example:{port}: Hostname mismatch")

    def test_others_are_not_trusted(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A certificate that no authority has signed."""
        monkeypatch.delenv("SSL_CERT_FILE")
        error = post(f"https://receiver.example:{port}/").error
        assert error.endswith("self-signed certificate")

    def test_a_receiver_without_it(self, receive: Receive) -> None:
        """One that does not speak TLS."""
        port = receive(answering(b"HTTP/1.1 204 x\r\n\r\n")).port
        assert post(f"https://127.0.0.1:{port}/", 0.4).error
