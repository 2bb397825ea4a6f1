"""Authorization: whether the caller may make a request, and who is challenged first."""

from __future__ import annotations

from functools import partial

from portside.api.auth import LOG_IN
from portside.api.requests import Request
from portside.auth.grants import EVERY_REPOSITORY
from portside.spec.actions import Action
from portside.spec.endpoints import MOUNT, REPOSITORIES
from portside.spec.errors import NameInvalid, Unauthorized
from portside.spec.names import RepositoryName
from portside.spec.scopes import CATALOG_SCOPE, Scope, repository_scope

MAX_FOLLOWED = 20
"""Repositories that a challenge names for the stream of events."""

AZURE_AGENT = b"azsdk-"
"""What the User-Agent of each of Azure's SDKs holds, after the application's id if it has one."""


async def authorise(request: Request) -> None:
    """Raise unless the caller may do what the row of the table asks for.

    Nothing in the stores is read before, so the response reveals nothing about them. A client that
    waits for a challenge gets one even if everybody may do this.

    Raises NameInvalid, Unauthorized, Denied and TooManyRequests.
    """
    endpoint = request.endpoint
    action = endpoint.action
    if action is None:
        return
    authorization = request.header(b"authorization")
    is_of_acr = endpoint.is_of_acr or AZURE_AGENT in request.headers.get(b"user-agent", b"")
    if authorization is None and (
        is_of_acr or (endpoint.body is not None and _withholds_body(request))
    ):
        _challenge_first(request)
    gate = request.registry.gate
    snapshot = await gate.control.snapshot()
    if not snapshot.closed:
        return
    wanted = partial(_wanted, request)
    request.permit = permit = await gate.admit(
        snapshot, request.scope, authorization, wanted, retries_denied=is_of_acr
    )
    request.record.identity = permit.identity
    match action:
        case Action.NONE:
            permit.check_identity()
        case Action.CATALOG:
            permit.check_catalog()
        case _:
            permit.check(action, request.repository)


def _withholds_body(request: Request) -> bool:
    """Whether a body is missing that the request cannot do without.

    The SDK for Go sends none before it was challenged, and may hide its name.
    """
    headers = request.headers
    if not (request.endpoint.needs_body or b"content-range" in headers):
        return False
    length = headers.get(b"content-length")
    if length is not None:
        return length == b"0"
    is_http_1 = request.scope["http_version"].startswith("1")
    return is_http_1 and b"transfer-encoding" not in headers


def _challenge_first(request: Request) -> None:
    """Raise Unauthorized, or NameInvalid, as a challenge has to name a scope.

    Basic credentials are sent at once by clients that have any.
    """
    gate = request.registry.gate
    if not gate.challenges_first:
        return
    wanted = _wanted(request)
    if not wanted and request.endpoint.action is not Action.NONE:
        RepositoryName.parse(request.name)
    raise Unauthorized(gate.challenge(request.scope, wanted), LOG_IN)


def _followed(request: Request) -> tuple[Scope, ...]:
    """Return the scopes for the repositories whose events are asked for.

    No token is for the repositories of a pattern, but for all of them.
    """
    if REPOSITORIES not in request.endpoint.query:
        return ()
    named = request.fields.all(REPOSITORIES.name)
    try:
        names = [str(RepositoryName.parse(text)) for text in named[:MAX_FOLLOWED]]
    except NameInvalid:
        names = []
    return tuple(repository_scope(name, Action.PULL) for name in names or [EVERY_REPOSITORY])


def _wanted(request: Request) -> tuple[Scope, ...]:
    """Return the scopes that a token for this request must have.

    Clients request one scope for each repository: that of the target, and of a mount's source.
    """
    endpoint = request.endpoint
    action = endpoint.action
    if action is Action.CATALOG:
        return (CATALOG_SCOPE, *_followed(request))
    try:
        repository = request.repository
    except NameInvalid:
        return ()
    if action is None or action is Action.NONE:
        return ()
    target = repository_scope(repository, *(endpoint.challenge or (action,)))
    mount = request.mount() if MOUNT in endpoint.query else None
    if mount is None or mount.source is None or mount.source == repository:
        return (target,)
    return (target, repository_scope(mount.source, Action.PULL))
