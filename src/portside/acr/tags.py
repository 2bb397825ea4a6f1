"""Tags: list, properties, locks, delete."""

from __future__ import annotations

from starlette.responses import Response

from portside.acr.responses import format_time, next_of, ordered_page, respond, respond_empty
from portside.api.requests import Request
from portside.spec.acr import (
    TagAttributes,
    TagAttributesBase,
    TagList,
    attributes_of,
    parse_change,
)
from portside.spec.digests import Digest
from portside.spec.errors import AttributesInvalid
from portside.spec.pagination import Position
from portside.stores.properties import TagProperties


async def list_tag_properties(request: Request) -> Response:
    """List tags by name or by time, of one manifest if the query names it."""
    wanted, repository = ordered_page(request), request.repository
    text = request.query("digest")
    digest = Digest.parse(text) if text else None
    properties = request.registry.properties
    page = await properties.list_tag_properties(repository, wanted, digest)
    link = None
    if page.more:
        last = page.items[-1]
        link = next_of(request, "_tags", wanted, Position(last.updated, last.name), digest or "")
    tags = [_document(tag) for tag in page.items]
    return respond(request, TagList(request.host, str(repository), tags or None), link)


async def get_tag(request: Request) -> Response:
    """Send the properties of a tag."""
    repository = request.repository
    found = await request.registry.properties.get_tag(repository, request.known_tag)
    return respond(request, TagAttributes(request.host, str(repository), _document(found)))


async def change_tag(request: Request) -> Response:
    """Change the locks of a tag, and send its properties."""
    repository, tag = request.repository, request.known_tag
    change = parse_change(await request.document_payload(AttributesInvalid))
    found = await request.registry.properties.change_tag(repository, tag, change, by=request.actor)
    return respond(request, TagAttributes(request.host, str(repository), _document(found)))


async def delete_tag(request: Request) -> Response:
    """Delete a tag."""
    await request.registry.delete.tag(request.repository, request.known_tag, by=request.actor)
    return respond_empty(request)


def _document(found: TagProperties) -> TagAttributesBase:
    return TagAttributesBase(
        name=found.name,
        digest=found.digest,
        created_time=format_time(found.created),
        last_update_time=format_time(found.updated),
        changeable_attributes=attributes_of(found.locks),
    )
