"""Responses, times and Links as ACR writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from portside.api.requests import Request
from portside.api.responses import PreparedResponse, json_response, no_content
from portside.spec.pagination import Order, OrderedPageRequest, Position, parse_ordered_page

_JSON = "application/json; charset=utf-8"

PAGE = 100
"""Entries of a page for clients that do not say how many: as many as ACR lists."""

MAX_PAGE = 1000
"""Entries of a page at most, as in ACR; fewer with a lower `--page-limit`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def respond(request: Request, document: object, link: str | None = None) -> PreparedResponse:
    """Return the success of a request, with a JSON document."""
    return json_response(
        request.status,
        document,
        content_type=_JSON,
        link=link,
        x_ms_correlation_request_id=request.id,
    )


def respond_empty(request: Request) -> PreparedResponse:
    """Return the success of a request, without a body."""
    return no_content(request.status, x_ms_correlation_request_id=request.id)


def page_limit(request: Request) -> int:
    """Return the most entries that a page may have."""
    return min(MAX_PAGE, request.registry.limits.page_limit)


def ordered_page(request: Request) -> OrderedPageRequest:
    """Return the page that is asked for; raises PaginationNumberInvalid and ParameterInvalid."""
    return parse_ordered_page(
        request.query("n"),
        request.query("last"),
        request.query("orderby"),
        limit=page_limit(request),
        default=PAGE,
    )


def next_of(
    request: Request, kind: str, wanted: OrderedPageRequest, last: Position, digest: str = ""
) -> str:
    """Return the Link to the page of a list behind a position."""
    place = last.name if wanted.order is Order.NAME else str(last)
    path = f"/acr/v1/{quote(request.repository, safe='')}/{kind}"
    return next_link(path, place, wanted.limit, request.query("orderby") or "", digest)


def deleted_page(request: Request) -> OrderedPageRequest:
    """Return the page of deleted content that is asked for, which has one order.

    Raises PaginationNumberInvalid and ParameterInvalid.
    """
    n, last = request.query("n"), request.query("last")
    return parse_ordered_page(n, last, "timeasc", limit=page_limit(request), default=PAGE)


def next_of_deleted(request: Request, kind: str, limit: int, last: Position) -> str:
    """Return the Link to the page of deleted content behind a position."""
    path = f"/acr/v1/_deleted/{quote(request.repository, safe='')}/{kind}"
    return next_link(path, str(last), limit)


def next_link(path: str, last: str, limit: int, orderby: str = "", digest: str = "") -> str:
    """Return the Link to a next page, relative as ACR's clients require.

    They look for `last` and `orderby`, which are always there.
    """
    fields = {"last": last, "n": str(limit), "orderby": orderby}
    if digest:
        fields["digest"] = digest
    return f'<{path}?{urlencode(fields)}>; rel="next"'


def format_time(microseconds: int) -> str:
    """Write a time with seven digits: ACR's clock ticks ten times in a microsecond."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z"
