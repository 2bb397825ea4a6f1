"""What is not part of the registry's protocol: health, readiness, the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portside.api.answers import json_answer
from portside.api.auth import TOKEN_PATH, Gate
from portside.api.errors import error_answer
from portside.api.openapi import describe
from portside.api.paths import OPERATOR_PATHS
from portside.api.registry import Registry
from portside.api.token_server import TokenServer
from portside.spec.errors import EndpointUnknown, MethodNotAllowed, RegistryError, Unavailable

PROBE_TIMEOUT = 5.0
"""Seconds after which a database or a blob store that does not answer counts as broken."""

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def operator_app(registry: Registry, *, lifespan: Lifespan) -> Starlette:
    """Make the application that answers outside `/v2`, and is told of start and stop."""

    async def healthz(_: Request) -> Response:
        return json_answer(200, {"status": "alive"})

    async def readyz(request: Request) -> Response:
        await _probe(registry)
        del request
        return json_answer(200, {"status": "ready"})

    async def openapi(_: Request) -> Response:
        return json_answer(200, document)

    async def refuse(request: Request, error: Exception) -> Response:
        if not isinstance(error, RegistryError):
            error = _from_status(request, error)
        is_head = request.method == "HEAD"
        return error_answer(error, endpoint=None, dialect=registry.dialect, is_head=is_head)

    document = describe(registry.dialect, OPERATOR_PATHS)
    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/openapi.json", openapi),
            *(_token_routes(registry.gate) if registry.gate is not None else ()),
        ],
        exception_handlers={RegistryError: refuse, 404: refuse, 405: refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _token_routes(gate: Gate) -> list[Route]:
    server = TokenServer(gate)
    return [
        *(Route(path, server.get_token, methods=["GET"]) for path in (TOKEN_PATH, "/token")),
        *(Route(path, server.post_token, methods=["POST"]) for path in (TOKEN_PATH, "/token")),
        Route("/oauth2/exchange", server.post_exchange, methods=["POST"]),
        Route("/.well-known/jwks.json", server.get_keys),
    ]


def _from_status(request: Request, error: Exception) -> RegistryError:
    if getattr(error, "status_code", 404) == 405:  # noqa: PLR2004
        allowed = {item.method for item in OPERATOR_PATHS if item.path == request.url.path}
        if "GET" in allowed:
            allowed.add("HEAD")
        return MethodNotAllowed(tuple(sorted(allowed)), f"{request.method} is not among them")
    return EndpointUnknown(f"{request.url.path[:300]!r} is no path of this registry")


async def _probe(registry: Registry) -> None:
    """Try both stores; raises Unavailable with one line about those that do not do their part."""
    troubles = await asyncio.gather(
        _trouble("the database", registry.metadata.probe),
        _trouble("the blob store", registry.blobs.probe),
    )
    if any(troubles):
        # Whoever asks wants to know whether to send requests here: a full store is no other case.
        raise Unavailable("; ".join(filter(None, troubles)))


async def _trouble(store: str, probe: Callable[[], Awaitable[None]]) -> str:
    """Say what keeps a store from doing its part; nothing if it does it."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await probe()
    except TimeoutError:
        return f"{store} has not answered for {PROBE_TIMEOUT:g} s"
    except Unavailable as error:
        return "; ".join(error.details)
    except OSError as error:
        return f"trying {store}: {error}"
    return ""
