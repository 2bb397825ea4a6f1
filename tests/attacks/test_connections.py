"""Connections that hold a registry for nothing: each is ended, and others are answered."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from support import http2
from support.certificates import write_certificate
from support.content import make_blob
from support.server import RunningRegistry, running_registry
from support.waiting import until
from support.wire import connect, push_blob

WRITE_TIMEOUT = 0.5
"""Seconds."""

TIMEOUTS = (
    *("--header-timeout", "0.5", "--idle-timeout", "1.5"),
    *("--write-timeout", str(WRITE_TIMEOUT)),
)

GONE = 20.0
"""Seconds after which a connection counts as held: less than any of the defaults."""

TRIES = 5
"""How often a time may be too long on a slow machine; where a limit is missing, it always is."""

MANY = 100
"""Connections of which some may have to wait."""

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

LARGE = make_blob(20_000_000, "unread")
"""More than the buffers of the system and of the server take."""


@contextmanager
def connected(
    registry: RunningRegistry, count: int, first: bytes = b""
) -> Iterator[list[socket.socket]]:
    """Open connections that send a few bytes and no more."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex((registry.host, registry.port))
            opened.append(connection)
        for connection in opened:
            connection.settimeout(GONE)
            # The rest has to try again, as the system does for it.
            if wait_for(connection, select.POLLOUT, 0 if count > MANY else GONE):
                connection.sendall(first)
        yield opened


def wait_for(connection: socket.socket, events: int, seconds: float) -> bool:
    """Return whether something happens on a connection in time, without reading it."""
    poll = select.poll()
    poll.register(connection, events)
    return bool(poll.poll(seconds * 1000))


def time_to_end(connection: socket.socket) -> float:
    """Read until the connection ends; returns how many seconds that took."""
    started = time.monotonic()
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - started


def assert_answers(registry: RunningRegistry) -> None:
    """Expect an answer within a few seconds, on new connections."""
    for _ in range(4):
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        verify.check_hostname, verify.verify_mode = False, ssl.CERT_NONE
        answer = httpx.get(f"{registry.url}/healthz", timeout=GONE / 4, verify=verify)
        assert answer.status_code == 200


def is_answering(registry: RunningRegistry) -> bool:
    """Whether others are answered; some may have to try again in a rush."""
    try:
        assert_answers(registry)
    except httpx.TransportError:
        return False
    return True


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve with short time limits and no limit for a client."""
    data = tmp_path_factory.mktemp("hurried") / "data"
    with running_registry(data, *TIMEOUTS, "--max-client-connections", "0") as running:
        yield running


@pytest.fixture(scope="module")
def blob(hurried: RunningRegistry) -> str:
    """Push a blob that no buffer takes; returns its path."""
    with connect(hurried.url) as client:
        return f"/v2/unread/blobs/{push_blob(client, 'unread', LARGE)}"


class TestSilent:
    """Connections without a request."""

    @pytest.mark.parametrize(
        "first",
        [
            b"",
            b"G",
            b"GET /healthz HTTP/1.1\r\nHost",
            http2.PREFACE[:10],
            http2.PREFACE,
            http2.PREFACE + http2.settings(),
        ],
        ids=[
            "nothing",
            "a byte",
            "half a head",
            "half a preface",
            "a preface",
            "preface and settings",
        ],
    )
    def test_is_ended(self, hurried: RunningRegistry, first: bytes) -> None:
        with connected(hurried, 3, first) as opened:
            assert_answers(hurried)
            assert all(time_to_end(each) < GONE / 2 for each in opened)

    def test_trickle(self, hurried: RunningRegistry) -> None:
        """A byte from time to time does not prolong the time for a head."""
        first = b"GET / HTTP/1.1\r\n"
        with connected(hurried, 1, first) as (connection,), suppress(ConnectionError):
            for _ in range(6000):
                connection.sendall(b"X")
                wait_for(connection, 0, 0.01)
            pytest.fail("the connection is still open")

    def test_thousand(self, data: Path) -> None:
        """With more than the worker accepts, others are answered, and memory is not taken."""
        few = ("--max-client-connections", "0", "--max-connections", "512", "--workers", "1")
        with running_registry(data, *few) as registry, connected(registry, 1100):
            assert_answers(registry)

    @pytest.mark.parametrize(
        "first", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "half a hello"]
    )
    def test_tls(self, data: Path, tmp_path: Path, first: bytes) -> None:
        """Handshakes that do not go on leave descriptors for others."""
        certificate, key = map(str, write_certificate(tmp_path))
        tls = ("--tls-certificate", certificate, "--tls-key", key, "--workers", "1")
        few = ("prlimit", "--nofile=512:512")
        free = (*TIMEOUTS, "--max-client-connections", "0")
        with (
            running_registry(data, *tls, *free, prefix=few) as registry,
            connected(registry, 600, first),
        ):
            until(lambda: is_answering(registry))
            until(lambda: len(os.listdir(f"/proc/{registry.workers[0]}/fd")) < 100)

    def test_client_limit(self, data: Path) -> None:
        """A client with more connections than it may have loses those without a request."""
        few = ("--max-client-connections", "4", "--workers", "1")
        with (
            running_registry(data, *few) as registry,
            connected(registry, 1, REQUEST) as (asking,),
            connected(registry, 20) as opened,
        ):
            assert asking.recv(1000).startswith(b"HTTP/1.1 200")
            assert all(time_to_end(each) < GONE for each in opened[:16])
            asking.sendall(REQUEST)
            assert asking.recv(1000).startswith(b"HTTP/1.1 200")

    def test_proxies_have_no_limit(self, data: Path) -> None:
        few = ("--max-client-connections", "1", "--trusted-proxies", "127.0.0.0/8")
        with (
            running_registry(data, *few, "--workers", "1") as registry,
            connected(registry, 20) as opened,
        ):
            assert_answers(registry)
            for each in opened:
                each.sendall(REQUEST)
                assert each.recv(1000).startswith(b"HTTP/1.1 200")


class TestIdle:
    """Connections between two requests."""

    def test_longer_than_a_head(self, hurried: RunningRegistry) -> None:
        """An idle connection stays for longer than the time for a head, and then ends."""
        with connected(hurried, 1, REQUEST) as (connection,):
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            assert 1.0 < time_to_end(connection) < GONE

    def test_next_head(self, hurried: RunningRegistry) -> None:
        """The head of a further request has the time of a head."""

        def measure() -> float:
            with connected(hurried, 1, REQUEST) as (connection,):
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.sendall(b"GET /healthz")
                connection.settimeout(GONE)
                return time_to_end(connection)

        assert any(measure() < 1.2 for _ in range(TRIES))

    def test_http2(self, hurried: RunningRegistry) -> None:
        first = http2.PREFACE + http2.settings() + http2.get(1, "/healthz")
        with connected(hurried, 1, first) as (connection,):
            assert 1.0 < time_to_end(connection) < GONE


class TestUnread:
    """Clients that do not read their responses."""

    def test_pulls(self, hurried: RunningRegistry, blob: str) -> None:
        request = f"GET {blob} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        with connected(hurried, 20, request) as opened:
            assert_answers(hurried)
            assert all(wait_for(each, 0, GONE) for each in opened)

    def test_slow_pull(self, hurried: RunningRegistry, blob: str) -> None:
        """A client that pauses for less than the limit gets everything."""
        request = f"GET {blob} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()

        def is_whole() -> bool:
            received, longest, pauses = 0, 0.0, threading.Event()
            with connected(hurried, 1, request) as (connection,):
                try:
                    while piece := connection.recv(2_000_000):
                        received += len(piece)
                        paused = time.monotonic()
                        pauses.wait(WRITE_TIMEOUT / 5)
                        longest = max(longest, time.monotonic() - paused)
                except ConnectionError:
                    assert longest > WRITE_TIMEOUT / 2
            return received > len(LARGE)

        assert any(is_whole() for _ in range(TRIES))

    def test_closed_window(self, hurried: RunningRegistry, blob: str) -> None:
        first = http2.PREFACE + http2.settings(initial_window_size=0) + http2.get(1, blob)

        def measure() -> float:
            with connected(hurried, 1, first) as (connection,):
                assert_answers(hurried)
                return time_to_end(connection)

        assert any(measure() < 1.4 for _ in range(TRIES))

    def test_is_not_read_on(self, hurried: RunningRegistry, blob: str) -> None:
        """Of a blob whose client has gone, no more is read, and others are answered."""
        request = f"GET {blob} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        before = bytes_read(hurried)
        with connected(hurried, 20, request) as opened:
            assert all(wait_for(each, select.POLLIN, GONE) for each in opened)
        until(lambda: not reads(hurried, blob))
        # The buffers of the system take a few MB of each.
        assert bytes_read(hurried) - before < 20 * len(LARGE) // 2

    def test_memory(self, hurried: RunningRegistry, blob: str) -> None:
        """The more responses wait for their clients, the less is held of each."""
        before = peak_memory(hurried)
        streams = b"".join(http2.get(stream, blob) for stream in range(1, 128, 2))
        first = http2.PREFACE + http2.settings(initial_window_size=0) + streams
        with connected(hurried, 8, first) as opened:
            assert all(time_to_end(each) < GONE for each in opened)
        # 512 of them; with five pieces of 120 KiB held of each, it would be 300 MB and more.
        assert peak_memory(hurried) - before < 200_000


class TestHeaders:
    """The memory that the headers of HTTP/2 take."""

    def test_bomb(self, hurried: RunningRegistry) -> None:
        """References to one large field, which take a byte each, do not fill the memory."""
        before = peak_memory(hurried)
        large = b"\x40" + http2.field("a", "b" * 4000)[1:]
        with connected(hurried, 10, http2.PREFACE + http2.settings()) as opened:
            for connection in opened:
                fill = http2.get(1, "/healthz", large)
                bombs = [
                    http2.get(stream, "/healthz", b"\xbe" * 1000) for stream in range(3, 60, 2)
                ]
                with suppress(ConnectionError):
                    connection.sendall(fill + b"".join(bombs))
            assert_answers(hurried)
            # By its end, a connection has been read.
            assert all(time_to_end(connection) < GONE for connection in opened)
        assert peak_memory(hurried) - before < 30_000


def peak_memory(registry: RunningRegistry) -> int:
    """Return the most memory that the workers of a registry have had, in KiB."""
    statuses = [Path(f"/proc/{worker}/status").read_text() for worker in registry.workers]
    return sum(int(status.partition("VmHWM:")[2].split()[0]) for status in statuses)


def bytes_read(registry: RunningRegistry) -> int:
    """Return how much the workers of a registry have read so far."""
    counted = [Path(f"/proc/{worker}/io").read_text() for worker in registry.workers]
    return sum(int(each.partition("rchar:")[2].split()[0]) for each in counted)


def reads(registry: RunningRegistry, blob: str) -> list[str]:
    """Return the descriptors by which the workers of a registry read a blob."""
    name = blob.rpartition(":")[2]
    found = []
    for worker in registry.workers:
        for link in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):
                found += [str(link)] if name in str(link.readlink()) else []
    return found
