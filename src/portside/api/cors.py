"""Cross-origin resource sharing: let web pages of some origins use the registry (Fetch, 3.2).

Starlette's CORSMiddleware lists the same methods for every path, answers a preflight with 200 and a
text, and sends no `Vary` to a request without an origin, whose response a cache would then give to
one with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portside.api.responses import PreparedResponse

READ_HEADERS = frozenset(
    {
        "accept",
        "authorization",
        "cache-control",
        "content-range",
        "content-type",
        "docker-upload-uuid",
        "if-match",
        "if-none-match",
        "if-range",
        "range",
        "x-requested-with",
    }
)
"""Headers that a page may send: those that are read, and a few that libraries for pages add."""

SAFELISTED = frozenset(
    {"cache-control", "content-language", "content-length", "content-type", "expires"}
    | {"last-modified", "pragma"}
)
"""Headers of responses that pages always see (Fetch, "CORS-safelisted response-header name")."""

EXPOSED = (
    "Accept-Ranges",
    "Age",
    "Allow",
    "Content-Range",
    "Docker-Content-Digest",
    "Docker-Distribution-Api-Version",
    "Docker-Upload-UUID",
    "ETag",
    "Link",
    "Location",
    "OCI-Chunk-Max-Length",
    "OCI-Chunk-Min-Length",
    "OCI-Filters-Applied",
    "OCI-Subject",
    "OCI-Tag",
    "Range",
    "Retry-After",
    "WWW-Authenticate",
    "X-Ms-Correlation-Request-Id",
    "X-Request-Id",
)
"""Headers that the registry sends, and that pages see only if they are listed."""

MAX_AGE = 7200
"""Seconds for which a browser may remember a preflight; Chromium remembers none for longer."""

ANY = "*"

_ASKED = b"access-control-request-method"


class Cors:
    """An ASGI middleware; `methods` returns the methods of a path, or nothing if it has no route.

    The named `origins` may let the browser send the credentials that it keeps; `*` may not (Fetch,
    3.2.5), but a page can set `Authorization` itself.
    """

    def __init__(
        self, app: ASGIApp, *, origins: Iterable[str], methods: Callable[[str], Sequence[str]]
    ) -> None:
        self._app = app
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._is_public = ANY.encode() in self._origins
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or serve a request and say who may read the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = {
            name: value
            for name, value in scope["headers"]
            if name == b"origin" or name.startswith(b"access-control-request-")
        }
        shared = self._shared(asked.get(b"origin", b""))
        if shared and scope["method"] == "OPTIONS" and _ASKED in asked:
            methods = self._methods(scope["path"])
            if methods:
                preflight = PreparedResponse(204, [*shared, *_preflight(asked, methods)])
                await preflight(scope, receive, send)
                return
        added = [*shared, _EXPOSE] if shared else []
        if not self._is_public:
            added.append((b"vary", b"Origin"))

        async def sharing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, sharing)

    def _shared(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page of an origin read a response."""
        if self._is_public:
            return [(b"access-control-allow-origin", b"*")]
        if origin not in self._origins:
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
        ]


_EXPOSE = (b"access-control-expose-headers", ", ".join(EXPOSED).encode("ascii"))


def _preflight(asked: dict[bytes, bytes], methods: Sequence[str]) -> list[tuple[bytes, bytes]]:
    wanted = asked.get(b"access-control-request-headers", b"").decode("latin-1").lower()
    names = sorted(READ_HEADERS.intersection(name.strip() for name in wanted.split(",")))
    fields = [
        (b"access-control-allow-methods", ", ".join(methods).encode("ascii")),
        (b"access-control-max-age", str(MAX_AGE).encode("ascii")),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    if names:
        fields.append((b"access-control-allow-headers", ", ".join(names).encode("ascii")))
    return fields
