"""One connection that speaks just enough HTTP/1.1, at as little cost as Python allows.

What the load generator spends is taken from the server on the same cores, and it is the same for
both servers, so it pulls every ratio towards one. Hence no HTTP library here.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import closing
from types import TracebackType
from typing import NamedTuple, Self

from bench.programs import BenchError

PATIENCE = 120
"""Seconds of silence after which a server counts as broken."""

PIECE = 1024 * 1024
"""Bytes that are taken off a connection at once."""

HEAD_LIMIT = 64 * 1024


class Answer(NamedTuple):
    """A whole response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def expect(self, status: int, what: str) -> Answer:
        """Return itself, or raise BenchError when it is another answer than the load needs."""
        if self.status != status:
            excerpt = self.body[:200].decode(errors="replace").strip()
            raise BenchError(f"{what} answered {self.status} instead of {status}: {excerpt}")
        return self


class Connection:
    """A kept-alive connection to one server; it trusts whatever certificate comes."""

    def __init__(self, host: str, port: int, *, secure: bool = False) -> None:
        self.host = f"{host}:{port}"
        self.secure = secure
        plain = socket.create_connection((host, port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel's own timers: with Python's, every call would poll the socket first.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            plain.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE, 0))
        self.socket = _trusting().wrap_socket(plain) if secure else plain
        self._buffer = b""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.socket.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream"
    ) -> Answer:
        """Send a request in one piece and read the whole answer."""
        self.socket.sendall(self.head(method, path, len(body), kind) + body)
        return self.read_answer(bodyless=method == "HEAD")

    def head(self, method: str, path: str, length: int, kind: str = "*/*") -> bytes:
        """Write the head of a request whose body has a length."""
        lines = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n"
        if method in {"POST", "PUT", "PATCH"}:
            lines += f"Content-Length: {length}\r\nContent-Type: {kind}\r\n"
        else:
            lines += f"Accept: {kind}\r\n"
        return f"{lines}\r\n".encode()

    def read_answer(self, *, bodyless: bool = False) -> Answer:
        """Read one whole answer."""
        status, headers = self.read_head()
        if bodyless or status in {204, 304}:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self._read_chunks())
        return Answer(status, headers, self._read(int(headers.get("content-length", "0"))))

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Read the status and the headers; the body is still to come."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise BenchError(f"{self.host} sends headers without an end")
            self._buffer += self._receive()
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        pairs = (line.partition(":") for line in lines[1:])
        return int(lines[0].split(" ", 2)[1]), {
            name.lower(): value.strip() for name, _, value in pairs
        }

    def throw_away(self, length: int) -> int:
        """Drop up to a megabyte of a body; returns how many of its bytes that were.

        On a plain connection the kernel drops the bytes without copying them.
        """
        if self._buffer:
            taken = min(length, len(self._buffer))
            self._buffer = self._buffer[taken:]
            return taken
        wanted = min(length, PIECE)
        if self.secure:
            taken = len(self.socket.recv(wanted))
        else:
            flags = socket.MSG_TRUNC | socket.MSG_WAITALL
            taken = self.socket.recv_into(_SINK, wanted, flags)
        if not taken:
            raise BenchError(f"{self.host} ended a body {length} bytes too early")
        return taken

    def read_piece(self, length: int) -> bytes:
        """Read the next piece of a body that has so many bytes to come."""
        if self._buffer:
            piece, self._buffer = self._buffer[:length], self._buffer[length:]
            return piece
        piece = self.socket.recv(min(length, PIECE))
        if not piece:
            raise BenchError(f"{self.host} ended a body {length} bytes too early")
        return piece

    def _read(self, length: int) -> bytes:
        pieces = []
        while length:
            pieces.append(self.read_piece(length))
            length -= len(pieces[-1])
        return b"".join(pieces)

    def _read_chunks(self) -> bytes:
        pieces = []
        while size := int(self._read_line(), 16):
            pieces.append(self._read(size))
            self._read_line()
        self._read_line()
        return b"".join(pieces)

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._buffer += self._receive()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _receive(self) -> bytes:
        received = self.socket.recv(PIECE)
        if not received:
            raise BenchError(f"{self.host} closed the connection within an answer")
        return received


_SINK = bytearray(PIECE)


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def free_port() -> int:
    """Find a free port of the loopback."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
