"""The ASGI application: from a path to a row of the endpoint table, and from there to a handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from portside.api import blobs, discovery, manifests, uploads
from portside.api.answers import CLOSE, Answer
from portside.api.bodies import Body, Farewell
from portside.api.calls import Call
from portside.api.errors import error_answer
from portside.api.heads import check_head
from portside.api.registry import Registry
from portside.spec.endpoints import Endpoint
from portside.spec.errors import (
    BodyIncomplete,
    BodyTimeout,
    EndpointUnknown,
    MethodNotAllowed,
    RegistryError,
    Unavailable,
    Unknown,
)
from portside.spec.routes import Match, match

Handler = Callable[[Call], Awaitable[Response]]

HANDLERS: dict[str, Handler] = {
    "ping": discovery.ping,
    "get_blob": blobs.get_blob,
    "head_blob": blobs.head_blob,
    "delete_blob": blobs.delete_blob,
    "get_manifest": manifests.get_manifest,
    "head_manifest": manifests.head_manifest,
    "put_manifest": manifests.put_manifest,
    "delete_manifest": manifests.delete_manifest,
    "start_upload": uploads.start_upload,
    "append_upload": uploads.append_upload,
    "finish_upload": uploads.finish_upload,
    "get_upload": uploads.get_upload,
    "cancel_upload": uploads.cancel_upload,
    "list_tags": discovery.list_tags,
    "list_referrers": discovery.list_referrers,
    "list_repositories": discovery.list_repositories,
}
"""The handler of every operation in the endpoint table."""

log = logging.getLogger(__name__)


class RegistryApp:
    """`/v2` and all below it; other paths go to `elsewhere`."""

    def __init__(self, registry: Registry, *, elsewhere: ASGIApp) -> None:
        self._registry = registry
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/v2"):
            await self._elsewhere(scope, receive, send)
            return
        body = Body(scope, receive)
        found = match(scope["path"])
        endpoint = found.route.endpoint(scope["method"]) if found else None
        response: Response | Farewell
        try:
            check_head(scope, self._registry.limits.max_header_bytes)
            if found is None or endpoint is None:
                raise _not_found(scope, found)
            call = Call(self._registry, endpoint, scope, body, found)
            await call.authorise()
            response = await HANDLERS[endpoint.operation](call)
            if scope["method"] == "HEAD" and endpoint.method == "GET":
                # The headers of a GET, and nothing behind them (RFC 9110, section 9.3.2).
                response = Answer(response.status_code, response.raw_headers)
        except RegistryError as error:
            response = await self._refuse(error, endpoint, scope, body)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            fault = Unknown("the log of the registry says more")
            response = await self._refuse(fault, endpoint, scope, body)
        await response(scope, receive, send)

    async def _refuse(
        self, error: RegistryError, endpoint: Endpoint | None, scope: Scope, body: Body
    ) -> Response | Farewell:
        if isinstance(error, Unavailable):
            log.error("%s %s: %s", scope["method"], scope["path"], error)
        elif isinstance(error, BodyIncomplete):
            log.info("%s %s: %s", scope["method"], scope["path"], error)
        answer = error_answer(
            error,
            endpoint=endpoint,
            dialect=self._registry.dialect,
            is_head=scope["method"] == "HEAD",
        )
        is_silent = isinstance(error, BodyTimeout)
        if not is_silent and await body.drain_little():
            return answer
        if scope["http_version"].startswith("1"):
            answer.raw_headers.append(CLOSE)
        return answer if is_silent else Farewell(answer, body)


def _not_found(scope: Scope, found: Match | None) -> RegistryError:
    if found is None:
        return EndpointUnknown(f"{scope['path'][:300]!r} is no path of this registry")
    return MethodNotAllowed(found.route.allowed, f"{scope['method']} is not among them")
