"""Bodies at the edge itself: what is read of a request's, and what is left of a response's."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Scope

from portside.api.body_memory import FREE_BYTES, BodyMemory, Taken
from portside.api.connections import CONNECTION, Connection
from portside.api.requests import Body
from portside.api.responses import WHOLE, PreparedResponse, StreamResponse, streamed
from portside.spec.errors import TooManyRequests


async def test_body_that_waits() -> None:
    """A client that waits for "100 Continue" is not asked for a body that is refused."""

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    headers = [(b"content-length", b"5"), (b"expect", b"100-continue")]
    body = Body({"headers": headers}, receive)
    assert not await body.drain_little()
    await body.drain()


@pytest.mark.parametrize("gone_at", [1, 2, 3])
async def test_client_that_goes(gone_at: int) -> None:
    """A response that nobody takes ends what it reads from, and no longer waits."""
    closed, sent = [], 0

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(9):
                yield b"piece"
        finally:
            closed.append(True)

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    async def send(message: Message) -> None:
        nonlocal sent
        sent += 1
        if sent == gone_at:
            raise OSError(message["type"])

    connection = Connection(has_streams=True)
    scope: Scope = {"type": "http", "asgi": {"spec_version": "2.4"}, CONNECTION: connection}
    content = pieces()
    await anext(content)
    with pytest.raises(ClientDisconnect):
        await StreamResponse(200, [], content)(scope, receive, send)
    assert closed == [True]
    assert (connection.sending, connection.waits_since()) == (set(), None)


@pytest.mark.parametrize(
    ("pieces", "size", "kind"),
    [
        ([b"whole"], 5, PreparedResponse),
        ([b"in ", b"two"], 6, StreamResponse),
        ([b"unknown"], 0, StreamResponse),
        ([b"a" * WHOLE], WHOLE, PreparedResponse),
        ([b"a" * (WHOLE + 1)], WHOLE + 1, StreamResponse),
        ([], 0, StreamResponse),
    ],
)
async def test_whole_bodies(pieces: list[bytes], size: int, kind: type[Response]) -> None:
    """A small body that was read at once is sent at once, and what it came from is at its end."""
    closed, sent = [], bytearray()

    async def read() -> AsyncGenerator[bytes, None]:
        try:
            for piece in pieces:
                yield piece
            closed.append("at its end")
        finally:
            closed.append("closed")

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    async def send(message: Message) -> None:
        sent.extend(message.get("body", b""))

    answer = await streamed(200, [], read(), size=size)
    assert type(answer) is kind
    if kind is PreparedResponse:
        assert closed == ["at its end", "closed"]
    await answer({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert bytes(sent) == b"".join(pieces)
    assert closed == ["at its end", "closed"]


def test_memory() -> None:
    """Forms have a quarter, what is refused takes nothing, and all of it comes back."""
    whole = BodyMemory(400_000)
    forms = whole.forms()
    bodies = [Taken(whole), Taken(forms), Taken(forms)]
    for _ in range(2):
        bodies[0].grow_to(FREE_BYTES + 310_000)
        with pytest.raises(TooManyRequests):
            bodies[1].grow_to(FREE_BYTES + 90_001)
        bodies[1].grow_to(FREE_BYTES + 50_000)
        bodies[1].grow_to(FREE_BYTES + 90_000)
        bodies[2].grow_to(FREE_BYTES)
        with pytest.raises(TooManyRequests):
            bodies[2].grow_to(FREE_BYTES + 1)
        bodies[0].give_back()
        with pytest.raises(TooManyRequests):
            bodies[2].grow_to(FREE_BYTES + 10_001)
        bodies[2].grow_to(FREE_BYTES + 10_000)
        for body in bodies:
            body.give_back()
