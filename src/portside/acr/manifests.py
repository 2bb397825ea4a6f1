"""Manifests: list, properties, locks. They are deleted under `/v2`."""

from __future__ import annotations

from msgspec import UNSET
from starlette.responses import Response

from portside.acr.responses import format_time, next_of, ordered_page, respond
from portside.api.requests import Request
from portside.spec.acr import (
    ManifestAttributes,
    ManifestAttributesBase,
    ManifestList,
    attributes_of,
    parse_change,
    references_of,
)
from portside.spec.errors import AttributesInvalid
from portside.spec.pagination import Position
from portside.stores.properties import ManifestProperties


async def list_manifest_properties(request: Request) -> Response:
    """List manifests by digest or by time."""
    wanted, repository = ordered_page(request), request.repository
    page = await request.registry.properties.list_manifest_properties(repository, wanted)
    link = None
    if page.more:
        last = page.items[-1]
        link = next_of(request, "_manifests", wanted, Position(last.updated, last.digest))
    manifests = [_document(manifest) for manifest in page.items]
    return respond(request, ManifestList(request.host, str(repository), manifests or None), link)


async def get_manifest_properties(request: Request) -> Response:
    """Send the properties of a manifest."""
    repository, digest = request.repository, request.known_digest
    found = await request.registry.properties.get_manifest_properties(repository, digest)
    return respond(request, ManifestAttributes(request.host, str(repository), _document(found)))


async def change_manifest(request: Request) -> Response:
    """Change the locks of a manifest, and send its properties."""
    repository, digest = request.repository, request.known_digest
    change = parse_change(await request.document_payload(AttributesInvalid))
    found = await request.registry.properties.change_manifest(
        repository, digest, change, by=request.actor
    )
    return respond(request, ManifestAttributes(request.host, str(repository), _document(found)))


def _document(found: ManifestProperties) -> ManifestAttributesBase:
    is_index = found.index is not None
    return ManifestAttributesBase(
        digest=found.digest,
        image_size=found.image_size or 0,
        created_time=format_time(found.created),
        last_update_time=format_time(found.updated),
        media_type=found.media_type,
        changeable_attributes=attributes_of(found.locks),
        architecture=UNSET if is_index else found.architecture or UNSET,
        os=UNSET if is_index else found.os or UNSET,
        config_media_type=UNSET if is_index else found.config_media_type or UNSET,
        tags=list(found.tags) or UNSET,
        references=references_of(found.index) if found.index is not None else UNSET,
    )
