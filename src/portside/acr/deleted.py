"""Deleted content: list it, and restore it, as ACR's soft delete does."""

from __future__ import annotations

from starlette.responses import Response

from portside.acr.responses import (
    PAGE,
    deleted_page,
    format_time,
    next_link,
    next_of_deleted,
    page_limit,
    respond,
)
from portside.api.requests import Request
from portside.spec.acr import (
    DeletedManifestAttributes,
    DeletedManifestList,
    DeletedRepositoryAttributes,
    DeletedRepositoryList,
    DeletedTagAttributes,
    DeletedTagList,
    RestoredArtifact,
    parse_force,
    parse_restore,
)
from portside.spec.errors import RestoreInvalid
from portside.spec.names import Tag
from portside.spec.pagination import Position, parse_page
from portside.spec.patterns import EVERY_NAME


async def list_deleted_repositories(request: Request) -> Response:
    """List the deleted repositories that the caller may know of."""
    wanted = parse_page(
        request.query("n"), request.query("last"), limit=page_limit(request), default=PAGE
    )
    shown = request.permit.shown if request.permit is not None else EVERY_NAME
    page = await request.registry.restore.repositories(wanted, shown, deleted=True)
    link = None
    if page.more:
        link = next_link("/acr/v1/_deleted/_catalog", page.items[-1].name, wanted.limit)
    repositories = [
        DeletedRepositoryAttributes(
            format_time(found.created), format_time(found.deleted or 0), found.name
        )
        for found in page.items
    ]
    return respond(request, DeletedRepositoryList(repositories), link)


async def list_deleted_manifests(request: Request) -> Response:
    """List deleted manifests in the order in which they were deleted."""
    wanted, repository = deleted_page(request), request.repository
    page = await request.registry.restore.manifests(repository, wanted)
    link = None
    if page.more:
        last = Position(page.items[-1].deleted, page.items[-1].digest)
        link = next_of_deleted(request, "_manifests", wanted.limit, last)
    manifests = [
        DeletedManifestAttributes(
            format_time(found.created), format_time(found.deleted), found.digest
        )
        for found in page.items
    ]
    document = DeletedManifestList(request.host, str(repository), manifests or None)
    return respond(request, document, link)


async def list_deleted_tags(request: Request) -> Response:
    """List deleted tags in the order in which they were deleted: `az` restores the last of them."""
    wanted, repository = deleted_page(request), request.repository
    page = await request.registry.restore.tags(repository, wanted)
    link = None
    if page.more:
        last = Position(page.items[-1].deleted, page.items[-1].name)
        link = next_of_deleted(request, "_tags", wanted.limit, last)
    tags = [
        DeletedTagAttributes(
            format_time(found.created), format_time(found.deleted), found.digest, found.name
        )
        for found in page.items
    ]
    return respond(request, DeletedTagList(request.host, str(repository), tags or None), link)


async def restore_deleted_manifest(request: Request) -> Response:
    """Restore a manifest under a tag, or with the tags that were deleted with it."""
    repository, digest = request.repository, request.known_digest
    force = parse_force(request.query("force"))
    name = parse_restore(await request.document_payload(RestoreInvalid))
    restore = request.registry.restore
    if name is None:
        await restore.manifest(repository, digest, by=request.actor)
    else:
        tag = Tag.parse(name)
        await restore.tag(repository, tag, digest, force=force, by=request.actor)
    return respond(request, RestoredArtifact(str(digest), name))
