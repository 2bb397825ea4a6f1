"""The paths outside `/v2`: health, the description of the API, and the token server."""

from __future__ import annotations

from typing import NamedTuple


class OperatorPath(NamedTuple):
    """A path outside `/v2`: what it is for, and the statuses of its errors."""

    method: str
    path: str
    summary: str
    failures: tuple[int, ...] = ()


_GIVES_TOKENS = (400, 401, 404, 413, 429)

OPERATOR_PATHS = (
    OperatorPath("GET", "/healthz", "Answers 200 while the process lives."),
    OperatorPath(
        "GET",
        "/readyz",
        "Answers 200 while the database and the blob store work, else 503.",
        (503,),
    ),
    OperatorPath("GET", "/openapi.json", "Describes the API (OpenAPI 3.1)."),
    OperatorPath(
        "GET", "/oauth2/token", "Gives an access token for Basic credentials.", _GIVES_TOKENS
    ),
    OperatorPath(
        "POST",
        "/oauth2/token",
        "Gives an access token for a password or a refresh token.",
        _GIVES_TOKENS,
    ),
    OperatorPath("GET", "/token", "Is another name of `/oauth2/token`.", _GIVES_TOKENS),
    OperatorPath("POST", "/token", "Is another name of `/oauth2/token`.", _GIVES_TOKENS),
    OperatorPath(
        "POST", "/oauth2/exchange", "Gives a refresh token for another credential.", _GIVES_TOKENS
    ),
    OperatorPath(
        "GET", "/.well-known/jwks.json", "Publishes the keys that verify access tokens.", (404,)
    ),
)
"""Every path outside `/v2`."""
