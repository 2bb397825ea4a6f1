"""Server-sent events (WHATWG HTML, section 9.2): what of the events a stream sends, and how."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from portside.api.requests import Request
from portside.operations.events import EventPage
from portside.operations.tag_history import format_time
from portside.spec.endpoints import ACTION, AFTER, REPOSITORIES, EventDocument
from portside.spec.errors import ParameterInvalid, RegistryError
from portside.spec.patterns import EVERY_NAME, PatternInvalid, RepositoryPattern
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import ACTIONS, SOURCE, Event, EventFilter

LARGEST_ID = 2**63 - 1


async def written(
    request: Request,
    pages: AsyncGenerator[EventPage, None],
    wanted: EventFilter,
) -> AsyncGenerator[bytes, None]:
    """Yield what the caller may see of each page, or else the position as a sign of life.

    The stream ends when access control changes or the credentials expire: the client authenticates
    anew, and continues after the last id. It ends, likewise, when the store fails.
    """
    has_begun = False
    async with aclosing(pages):
        try:
            async for page in pages:
                if has_begun and not await _is_current(request):
                    return
                shown = [
                    _written(event, _shown_actor(request, event), _details(request, event))
                    for event in page.events
                    if wanted.matches(event) and _may_see(request, event.repository)
                ]
                yield b"".join(shown) or b"id: %d\n\n" % page.position
                has_begun = True
        except RegistryError:
            if not has_begun:
                raise


async def _is_current(request: Request) -> bool:
    if request.permit is None:
        return await request.registry.is_open()
    return await request.permit.is_current()


def _may_see(request: Request, repository: str) -> bool:
    return request.permit is None or request.permit.may_pull(repository)


def _shown_actor(request: Request, event: Event) -> Actor:
    return event.by if request.may_see_identities else NOBODY


def _details(request: Request, event: Event) -> dict[str, Any]:
    """Return the details without the source of a mount, if the caller may not know of it."""
    source = event.details.get(SOURCE)
    if source is None or _may_see(request, source):
        return event.details
    return {name: value for name, value in event.details.items() if name != SOURCE}


def _written(event: Event, by: Actor, details: dict[str, Any]) -> bytes:
    document = EventDocument(
        id=event.id,
        time=format_time(event.time),
        action=event.action,
        repository=event.repository,
        reference=event.reference or None,
        digest=event.digest or None,
        media_type=event.media_type or None,
        size=event.size,
        identity=by.name or None,
        request=by.request or None,
        details=details,
    )
    return b"id: %d\ndata: %b\n\n" % (event.id, msgspec.json.encode(document))


def parse_filter(request: Request) -> EventFilter:
    """Return which events are asked for; raises ParameterInvalid."""
    action = request.query(ACTION.name)
    if action is not None and action not in ACTIONS:
        raise ParameterInvalid(f"unknown action {action[:80]!r}")
    try:
        patterns = [RepositoryPattern.parse(text) for text in request.fields.all(REPOSITORIES.name)]
    except PatternInvalid as error:
        raise ParameterInvalid(str(error)) from error
    names = [pattern.names for pattern in patterns] or EVERY_NAME
    return EventFilter(action=action, names=names)


def parse_position(request: Request) -> int | None:
    """Return the id after which the stream begins; raises ParameterInvalid.

    A client that connects again sends the last id that it has, whatever its URL says.
    """
    text = request.header(b"last-event-id") or request.query(AFTER.name)
    if text is None:
        return None
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit()) or int(digits[:20] or 0) > LARGEST_ID:
        raise ParameterInvalid(f"invalid event id {text[:40]!r}: expected a number")
    return int(digits or 0)
