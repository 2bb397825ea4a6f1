"""A proxy that can be made to fail, between a registry and its object store.

    with faulty(server.endpoint) as way:
        way.fail(503, 2)            # the next two requests do not reach the server
        way.lose(1)                 # the next one does, but its answer is lost
        way.cut(1, after=100_000)   # the next answer ends after as many bytes
        way.stall()                 # from now on, nothing moves
        way.heal()                  # all is well; what was stalled is cut off

Faults that are counted can be kept to requests whose first line has some text in it. Every request
has a connection of its own to the server; what passes is never held in memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from support.waiting import PATIENCE

Result = TypeVar("Result")

PIECE = 64 * 1024


@dataclass
class _Fault:
    """A fault of the next `count` requests whose first line contains `where`."""

    kind: str
    count: int
    where: str
    status: int = 0
    after: int = 0


@dataclass
class _State:
    """The faults that are due, and the requests that the proxy saw."""

    faults: list[_Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sent: int = 0

    def take(self, line: str) -> _Fault | None:
        """Return the fault that is due for a request, and count it."""
        self.requests.append(line)
        for fault in self.faults:
            if fault.count and fault.where in line:
                fault.count -= 1
                return fault
        return None


class Faulty:
    """The proxy of a server; `url` is its address."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        self._target = (parts.hostname, parts.port)
        self._state = _State()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty", daemon=True)
        self._thread.start()
        self._moves = self._run(self._make_event())
        self._idle = self._run(self._make_event())
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    @staticmethod
    async def _make_event() -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    @property
    def requests(self) -> list[str]:
        """The first lines of all requests so far, such as `PUT /bucket/key HTTP/1.1`."""
        return list(self._state.requests)

    def forget(self) -> None:
        """Count requests and bytes from here on."""
        self._state.requests.clear()
        self._state.sent = 0

    @property
    def sent(self) -> int:
        """The bytes of answers that were taken by those who asked."""
        return self._state.sent

    def fail(self, status: int, count: int, *, where: str = "") -> None:
        """Answer requests with a status, in the server's place."""
        self._state.faults.append(_Fault("fail", count, where, status=status))

    def lose(self, count: int, *, where: str = "") -> None:
        """Pass requests on, and close the connection instead of answering."""
        self._state.faults.append(_Fault("lose", count, where))

    def cut(self, count: int, *, after: int, where: str = "") -> None:
        """Close the connection after some bytes of an answer."""
        self._state.faults.append(_Fault("cut", count, where, after=after))

    def stall(self) -> None:
        """Pass nothing on any more, in either direction; connections stay open."""
        self._loop.call_soon_threadsafe(self._moves.clear)

    def heal(self) -> None:
        """Forget all faults; stalled connections are closed."""
        self._state.faults.clear()
        self._run(self._cut_off())

    async def _cut_off(self) -> None:
        if not self._moves.is_set():
            for writer in self._open:
                writer.transport.abort()
            self._moves.set()

    def settle(self) -> None:
        """Wait until no request is under way."""
        self._run(self._settle())

    async def _settle(self) -> None:
        await self._idle.wait()

    def close(self) -> None:
        """End every connection, and listen no more."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._moves.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._idle.clear()
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()
            if not self._open:
                self._idle.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close: a client that asks again connects again."""
        head = await reader.readuntil(b"\r\n\r\n")
        fault = self._state.take(head.partition(b"\r\n")[0].decode("latin-1"))
        await self._moves.wait()
        if fault is not None and fault.kind == "fail":
            await _skip(reader, head)
            phrase = HTTPStatus(fault.status).phrase
            said = f"HTTP/1.1 {fault.status} {phrase}\r\nContent-Length: 0\r\nConnection: close"
            writer.write(f"{said}\r\n\r\n".encode())
            await writer.drain()
            return
        from_server, to_server = await asyncio.open_connection(*self._target)
        self._open.add(to_server)
        try:
            to_server.write(head[:-2] + b"Connection: close\r\n\r\n")
            sending = asyncio.ensure_future(self._pass_on(reader, to_server, _length(head)))
            try:
                await self._pass_back(from_server, writer, fault)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            self._open.discard(to_server)
            to_server.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int
    ) -> None:
        while left and (piece := await reader.read(min(PIECE, left))):
            await self._moves.wait()
            writer.write(piece)
            await writer.drain()
            left -= len(piece)

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: _Fault | None
    ) -> None:
        is_lost = fault is not None and fault.kind == "lose"
        left = fault.after if fault is not None and fault.kind == "cut" else None
        while piece := await reader.read(PIECE):
            await self._moves.wait()
            if is_lost:
                continue
            passed = piece if left is None else piece[:left]
            writer.write(passed)
            await writer.drain()
            self._state.sent += len(passed)
            if left is not None:
                left -= len(passed)
                if not left:
                    writer.transport.abort()
                    return


async def _skip(reader: asyncio.StreamReader, head: bytes) -> None:
    left = _length(head)
    while left and (piece := await reader.read(min(PIECE, left))):
        left -= len(piece)


def _length(head: bytes) -> int:
    """Return the length of a request's body; object stores are always told."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


@contextmanager
def faulty(target: str) -> Iterator[Faulty]:
    """Run a proxy of a server for the length of a block."""
    way = Faulty(target)
    try:
        yield way
    finally:
        way.close()
