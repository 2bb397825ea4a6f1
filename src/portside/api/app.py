"""The ASGI application: from a path to a row of the endpoint table, and from there to a handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import ModuleType
from typing import Any

from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from portside.api import blobs, discovery, events, manifests, operator, tag_history, uploads
from portside.api.authorization import authorise
from portside.api.errors import error_response
from portside.api.records import RECORD, REQUEST_ID, RequestRecord
from portside.api.registry import Registry
from portside.api.requests import Body, Request, read_headers
from portside.api.responses import CLOSE, ClosingResponse, PreparedResponse
from portside.api.token_server import TokenServer
from portside.api.web_pages import WebPages
from portside.spec.endpoints import ENDPOINTS, Endpoint
from portside.spec.errors import (
    BodyIncomplete,
    BodyTimeout,
    DeleteDisabled,
    EndpointUnknown,
    MethodNotAllowed,
    ReadOnly,
    RegistryError,
    Unavailable,
    Unknown,
)
from portside.spec.routes import Match, Routes

Handler = Callable[[Request], Awaitable[Response]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]

NOUNS: tuple[ModuleType, ...] = (
    blobs,
    discovery,
    events,
    manifests,
    operator,
    tag_history,
    uploads,
)
"""The modules with the handlers of `/v2`, and of operators."""

log = logging.getLogger(__name__)


class RegistryApp:
    """The application of one registry; `lifespan` is entered at its start and left at its end.

    `nouns` are the modules with the handlers of endpoints.

    `web_pages` refuses the requests of web pages while the registry is open to everybody.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        lifespan: Lifespan,
        nouns: Sequence[ModuleType],
        web_pages: WebPages | None = None,
    ) -> None:
        self._registry = registry
        self._web_pages = web_pages
        self._limits = registry.limits
        self._served = {
            endpoint: (handler, endpoint.success(registry.dialect))
            for endpoint, handler in find_handlers(registry, nouns).items()
        }
        self._disabled = {
            endpoint
            for endpoint in self._served
            if DeleteDisabled in endpoint.errors and not registry.delete.allowed
        }
        self._match = Routes(self._served).match
        self._lifespan = Router(lifespan=lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        body = Body(scope, receive)
        record: RequestRecord = scope[RECORD]
        found = self._match(path)
        endpoint = found.route.methods.get(method) if found else None
        response: Response | ClosingResponse
        try:
            headers = read_headers(scope, self._limits)
            if self._web_pages is not None:
                refusal = self._web_pages.refusal(headers)
                if refusal is not None and await self._registry.is_open():
                    # It is the host or the page that is refused, at no endpoint in particular.
                    found = None
                    raise refusal
            if found is None:
                raise EndpointUnknown(f"unknown path {path[:300]!r}")
            if endpoint is None:
                raise MethodNotAllowed(f"method {method} is not supported")
            handler, status = self._served[endpoint]
            record.endpoint, record.name, record.last = endpoint, found.name, found.last
            request = Request(self._registry, endpoint, status, scope, headers, body, found)
            await authorise(request)
            response = await handler(request)
            if method == "HEAD" and endpoint.method == "GET":
                # The headers of a GET, and nothing behind them (RFC 9110, section 9.3.2).
                response = PreparedResponse(response.status_code, response.raw_headers)
            response.raw_headers.append((REQUEST_ID, record.header))
        except RegistryError as error:
            response = await self._refuse(error, found, scope, body)
        except Exception as error:  # noqa: BLE001  # logged with its traceback
            response = await self._refuse(Unknown(), found, scope, body, cause=error)
        await response(scope, receive, send)

    def methods(self, path: str) -> list[str]:
        """Return the methods that a path allows; none if it has no route."""
        found = self._match(path)
        return self._allowed(found.route.methods) if found else []

    def _allowed(self, methods: dict[str, Endpoint]) -> list[str]:
        return sorted(
            method for method, endpoint in methods.items() if endpoint not in self._disabled
        )

    def _others(self, methods: dict[str, Endpoint], method: str) -> list[str]:
        return [other for other in self._allowed(methods) if other != method]

    async def _refuse(
        self,
        error: RegistryError,
        found: Match | None,
        scope: Scope,
        body: Body,
        *,
        cause: Exception | None = None,
    ) -> Response | ClosingResponse:
        method = scope["method"]
        methods = found.route.methods if found else {}
        record: RequestRecord = scope[RECORD]
        record.error = error.code
        if isinstance(error, ReadOnly):
            error = await self._registry.relocation.explain_to_client(error)
        if error.is_private:
            error = _concealed(error, record.id, method, scope["path"], cause)
        elif isinstance(error, BodyIncomplete):
            log.info("%s %s: %s", method, scope["path"], error)
        response = error_response(
            error,
            endpoint=methods.get(method),
            dialect=self._registry.dialect,
            allowed=partial(self._others, methods, method),
            is_head=method == "HEAD",
            request_id=record.id,
            is_of_acr=found is not None and found.route.path.startswith("/acr/"),
        )
        is_silent = isinstance(error, BodyTimeout)
        if not is_silent and await body.drain_little():
            return response
        if scope["http_version"].startswith("1"):
            response.raw_headers.append(CLOSE)
        return response if is_silent else ClosingResponse(response, body)


def _concealed(
    error: RegistryError, request: str, method: str, path: str, cause: Exception | None
) -> RegistryError:
    """Log an error, and return it without its details: only operators may read those.

    The id of the request, which the response has, leads to the log.
    """
    log.error("request %s: %s %s: %s", request, method, path, error, exc_info=cause)
    again = "; try again later" if isinstance(error, Unavailable) else ""
    return type(error)(f"the log of the registry has the cause{again}")


def find_handlers(registry: Registry, modules: Sequence[ModuleType]) -> dict[Endpoint, Handler]:
    """Return the handler of each row: the function of the name in its column `operation`."""
    nouns: list[Any] = [*modules, TokenServer(registry.gate)]
    named = {name: getattr(noun, name) for noun in nouns for name in dir(noun)}
    return {row: named[row.operation] for row in ENDPOINTS if row.operation in named}
