"""Lists: tags (end-8), referrers (end-12), the catalog; and the ping (end-1)."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from portside.api.answers import API_VERSION, Answer, headers, json_answer, next_link
from portside.api.calls import Call
from portside.operations.discover import find_repositories
from portside.spec.media_types import JSON, OCI_INDEX
from portside.spec.pagination import PageRequest
from portside.stores.interfaces import Referrer

_PING = Answer(
    200, [API_VERSION, (b"content-type", JSON.encode("ascii")), (b"content-length", b"2")], b"{}"
)


async def ping(call: Call) -> Response:
    """Say that this is a registry."""
    del call
    return _PING


async def list_tags(call: Call) -> Response:
    """List tags in ASCII order."""
    request = call.page()
    page = await call.registry.metadata.list_tags(call.repository, request)
    link = None
    if page.more:
        path = f"/v2/{call.repository}/tags/list"
        link = _next_page(call, path, page.items[-1], request)
    return json_answer(200, {"name": str(call.repository), "tags": page.items}, link=link)


async def list_repositories(call: Call) -> Response:
    """List repositories in ASCII order."""
    request = call.page()
    shows = call.permit.shows if call.permit is not None else None
    page = await find_repositories(call.registry.metadata, request, shows)
    link = None
    if page.more:
        link = _next_page(call, "/v2/_catalog", page.items[-1], request)
    return json_answer(200, {"repositories": page.items}, link=link)


async def list_referrers(call: Call) -> Response:
    """List, as an image index, the manifests that name this digest as their subject."""
    request = call.page()
    # A plus that was not encoded has become a space, which no media type holds.
    artifact_type = (call.query("artifactType") or "").replace(" ", "+") or None
    subject = call.digest
    page = await call.registry.metadata.list_referrers(
        call.repository,
        subject,
        artifact_type,
        request,
        call.registry.limits.max_referrers_bytes,
    )
    link = None
    if page.more:
        path = f"/v2/{call.repository}/referrers/{subject}"
        link = _next_page(call, path, page.items[-1].digest, request)
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_descriptor(referrer) for referrer in page.items],
    }
    body = msgspec.json.encode(index)
    fields = headers(
        content_type=OCI_INDEX,
        content_length=str(len(body)),
        link=link,
        oci_filters_applied="artifactType" if artifact_type else None,
    )
    return Answer(200, fields, body)


def _next_page(call: Call, path: str, last: str, request: PageRequest) -> str:
    return next_link(path, last=last, limit=request.limit, kept=call.query_beside("n", "last"))


def _descriptor(referrer: Referrer) -> dict[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": str(referrer.digest),
        "size": referrer.size,
    }
    if referrer.artifact_type:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations != b"{}":
        descriptor["annotations"] = msgspec.Raw(referrer.annotations)
    return descriptor
