"""Manifests: pull (end-3), push (end-7), delete (end-9)."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.requests import Request
from portside.api.responses import (
    API_VERSION,
    AS_DECLARED,
    FORBID_ALL,
    PreparedResponse,
    manifest_location,
    no_content,
)
from portside.spec.names import Tag

_VARY = (b"vary", b"accept")


async def get_manifest(request: Request) -> Response:
    """Send the exact bytes that were pushed, or what a tag points at as schema 1.

    Only that differs with Accept: what a digest names is always sent as it is.
    """
    repository, reference = request.repository, request.known_reference
    manifest = await request.registry.pull.manifest(repository, reference)
    etag = b'"%b"'
    if isinstance(reference, Tag) and request.wants_schema_1(manifest.media_type):
        manifest = await request.registry.convert.to_schema_1(repository, reference, manifest)
        # Each signature is another one: the same document, but not the same bytes.
        etag = b'W/"%b"'
    request.check_match(manifest.digest)
    digest = manifest.digest.encode("ascii")
    fields = [
        API_VERSION,
        AS_DECLARED,
        FORBID_ALL,
        (b"content-type", manifest.media_type.encode("latin-1", "replace")),
        (b"content-length", b"%d" % len(manifest.payload)),
        (b"docker-content-digest", digest),
        (b"etag", etag % digest),
    ]
    if isinstance(reference, Tag):
        fields.append(_VARY)
    if request.is_not_modified(manifest.digest):
        return PreparedResponse(304, fields[:3] + fields[5:])
    return PreparedResponse(request.status, fields, manifest.payload)


async def head_manifest(request: Request) -> Response:
    """Send the headers of a GET."""
    response = await get_manifest(request)
    return PreparedResponse(response.status_code, response.raw_headers)


async def put_manifest(request: Request) -> Response:
    """Store a manifest and point tags at it."""
    repository, reference = request.repository, request.new_reference
    extra_tags = request.extra_tags(reference)
    condition = request.tag_condition()
    manifest = await request.registry.push.manifest(
        repository,
        reference,
        await request.manifest_payload(),
        content_type=request.header(b"content-type"),
        extra_tags=extra_tags,
        condition=condition,
        by=request.actor,
    )
    return no_content(
        request.status,
        location=manifest_location(repository, manifest.digest),
        docker_content_digest=manifest.digest,
        oci_subject=manifest.subject,
        oci_tag=", ".join(extra_tags) or None,
    )


async def delete_manifest(request: Request) -> Response:
    """Delete a manifest with its tags, or one tag."""
    repository, reference = request.repository, request.known_reference
    await request.registry.delete.manifest(
        repository, reference, request.tag_condition(), by=request.actor
    )
    return no_content(request.status)
