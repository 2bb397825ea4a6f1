"""A registry in the process of the test, where hundreds are started one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp

from portside.bootstrap.application import make_app
from portside.bootstrap.preparing import prepare
from portside.config import Settings


@contextmanager
def serve_inside(settings: Settings) -> Iterator[httpx.Client]:
    """Serve to one client for the length of a block."""
    prepare(settings)
    with start_blocking_portal() as portal:
        app = portal.call(_make, settings)
        with (
            portal.wrap_async_context_manager(_lifespan(app)),
            httpx.Client(base_url="http://127.0.0.1", transport=_Transport(portal, app)) as client,
        ):
            yield client


async def _make(settings: Settings) -> ASGIApp:
    return make_app(settings, on_start=lambda: None)


@asynccontextmanager
async def _lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start an application, and end it."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    await told.put({"type": "lifespan.startup"})
    running = asyncio.ensure_future(app({"type": "lifespan"}, told.get, said.put))
    assert (await said.get())["type"] == "lifespan.startup.complete"
    yield
    await told.put({"type": "lifespan.shutdown"})
    await running


class _Transport(httpx.BaseTransport):
    def __init__(self, portal: BlockingPortal, app: ASGIApp) -> None:
        self._portal = portal
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask the application in its own thread."""
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        content = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)
