"""Lists of tags (end-8), referrers (end-12) and repositories; and the ping (end-1)."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from portside.api.requests import Request
from portside.api.responses import API_VERSION, PreparedResponse, json_response, next_link
from portside.spec.endpoints import Extension, Extensions, Index, Repositories, Tags
from portside.spec.media_types import JSON, OCI_INDEX
from portside.spec.pagination import PageRequest
from portside.spec.patterns import EVERY_NAME
from portside.stores.interfaces import Referrer

_PING_FIELDS = (API_VERSION, (b"content-type", JSON.encode("ascii")), (b"content-length", b"2"))


async def ping(request: Request) -> Response:
    """Confirm that this is a registry."""
    return PreparedResponse(request.status, [*_PING_FIELDS], b"{}")


_EXTENSIONS = Extensions(
    [
        Extension(
            "_oci",
            "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
            "Lists the extensions of the registry.",
            ["/v2/_oci/ext/discover"],
        ),
        Extension(
            "_catalog",
            "https://distribution.github.io/distribution/spec/api/#catalog",
            "Lists the repositories of the registry.",
            ["/v2/_catalog"],
        ),
        Extension(
            "_portside",
            "/openapi.json",
            "Lists what a tag pointed to, and points it back.",
            [
                "/v2/{name}/_portside/tags/history/{tag}",
                "/v2/{name}/_portside/tags/restore/{tag}",
            ],
        ),
    ]
)


async def list_extensions(request: Request) -> Response:
    """List what is offered under `/v2` beyond the endpoints of the distribution-spec."""
    del request
    return json_response(200, _EXTENSIONS)


async def list_tags(request: Request) -> Response:
    """List tags in ASCII order."""
    wanted, repository = request.page(), request.repository
    page = await request.registry.discover.tags(repository, wanted)
    link = None
    if page.more:
        link = _next_page(request, f"/v2/{repository}/tags/list", page.items[-1], wanted)
    return json_response(200, Tags(str(repository), page.items), link=link)


async def list_repositories(request: Request) -> Response:
    """List repositories in ASCII order."""
    wanted = request.page()
    shown = request.permit.shown if request.permit is not None else EVERY_NAME
    page = await request.registry.discover.repositories(wanted, shown)
    link = _next_page(request, "/v2/_catalog", page.items[-1], wanted) if page.more else None
    return json_response(200, Repositories(page.items), link=link)


async def list_referrers(request: Request) -> Response:
    """List, as an image index, the manifests that name this digest as their subject."""
    wanted = request.page()
    # A plus that was not encoded has become a space, which no media type holds.
    artifact_type = (request.query("artifactType") or "").replace(" ", "+") or None
    subject, repository = request.digest, request.repository
    page = await request.registry.discover.referrers(repository, subject, artifact_type, wanted)
    link = None
    if page.more:
        path = f"/v2/{repository}/referrers/{subject}"
        link = _next_page(request, path, page.items[-1].digest, wanted)
    return json_response(
        200,
        Index(2, OCI_INDEX, [_descriptor(referrer) for referrer in page.items]),
        content_type=OCI_INDEX,
        link=link,
        oci_filters_applied="artifactType" if artifact_type else None,
    )


def _next_page(request: Request, path: str, last: str, wanted: PageRequest) -> str:
    return next_link(path, last=last, limit=wanted.limit, kept=request.query_beside("n", "last"))


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
