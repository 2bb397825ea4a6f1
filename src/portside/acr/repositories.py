"""Repositories: list, properties, locks, delete."""

from __future__ import annotations

from starlette.responses import Response

from portside.acr.responses import PAGE, format_time, next_link, page_limit, respond
from portside.api.requests import Request
from portside.spec.acr import (
    DeletedRepository,
    RepositoryAttributes,
    attributes_of,
    parse_change,
)
from portside.spec.endpoints import Repositories
from portside.spec.errors import AttributesInvalid
from portside.spec.pagination import parse_page
from portside.spec.patterns import EVERY_NAME
from portside.stores.properties import RepositoryProperties


async def list_acr_repositories(request: Request) -> Response:
    """List the repositories that `/v2/_catalog` lists."""
    wanted = parse_page(
        request.query("n"), request.query("last"), limit=page_limit(request), default=PAGE
    )
    shown = request.permit.shown if request.permit is not None else EVERY_NAME
    page = await request.registry.discover.repositories(wanted, shown)
    link = None
    if page.more:
        link = next_link("/acr/v1/_catalog", page.items[-1], wanted.limit)
    return respond(request, Repositories(page.items), link)


async def get_repository(request: Request) -> Response:
    """Send the properties of a repository."""
    found = await request.registry.properties.get_repository(request.repository)
    return respond(request, _document(request, found))


async def change_repository(request: Request) -> Response:
    """Change the locks of a repository, and send its properties."""
    repository = request.repository
    change = parse_change(await request.document_payload(AttributesInvalid))
    found = await request.registry.properties.change_repository(
        repository, change, by=request.actor
    )
    return respond(request, _document(request, found))


async def delete_repository(request: Request) -> Response:
    """Delete a repository, and list what went with it."""
    deleted = await request.registry.delete.repository(request.repository, by=request.actor)
    return respond(request, DeletedRepository(deleted.manifests, deleted.tags))


def _document(request: Request, found: RepositoryProperties) -> RepositoryAttributes:
    return RepositoryAttributes(
        registry=request.host,
        image_name=found.name,
        created_time=format_time(found.created),
        last_update_time=format_time(found.updated),
        manifest_count=found.manifest_count,
        tag_count=found.tag_count,
        changeable_attributes=attributes_of(found.locks),
    )
