"""Frames of HTTP/2, written by hand: no client library sends what an attacker would."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113, section 3.4)."""

DATA, HEADERS, SETTINGS, PING, GOAWAY, CONTINUATION = 0x0, 0x1, 0x4, 0x6, 0x7, 0x9
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1

INITIAL_WINDOW_SIZE = 0x4
"""The setting that says how much of a response may be sent at first (section 6.5.2)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame (section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """Write a SETTINGS frame; the names are those of this module in lower case."""
    numbers = {"initial_window_size": INITIAL_WINDOW_SIZE}
    payload = b"".join(struct.pack(">HI", numbers[name], value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def _integer(value: int, prefix: int) -> bytes:
    """Write an integer with a prefix of so many bits (RFC 7541, section 5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([value])
    written, value = bytearray([most]), value - most
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _string(text: str) -> bytes:
    return _integer(len(text), 7) + text.encode("ascii")


def field(name: str, value: str) -> bytes:
    """Write a header field without an index (RFC 7541, section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def get(stream: int, path: str, *more: bytes) -> bytes:
    """Write a GET as one HEADERS frame."""
    fields = (
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":authority", "127.0.0.1"),
        field(":path", path),
        *more,
    )
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, b"".join(fields))
