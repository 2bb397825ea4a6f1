"""The stream of events."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.event_streams import parse_filter, parse_position, written
from portside.api.requests import Request
from portside.api.responses import headers, streamed
from portside.spec.endpoints import FOLLOW
from portside.spec.errors import ParameterInvalid
from portside.spec.media_types import EVENT_STREAM


async def stream_events(request: Request) -> Response:
    """Send events as they come, or those that there are, and end.

    The events of access control are not among them.
    """
    wanted, after = parse_filter(request), parse_position(request)
    feed = request.registry.events
    match request.query(FOLLOW.name):
        case None | "true":
            pages = feed.follow(after, reader=request.reader)
        case "false":
            pages = feed.read(after or 0)
        case other:
            raise ParameterInvalid(f"follow must be true or false, not {other[:40]!r}")
    fields = headers(
        content_type=EVENT_STREAM,
        cache_control="no-store",
        # nginx would hold events back.
        x_accel_buffering="no",
    )
    pieces = written(request, pages, wanted)
    return await streamed(request.status, fields, pieces)
