"""The history of tags, and the way back: the extension `_portside`."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.requests import Request
from portside.api.responses import json_response, next_link
from portside.operations.tag_history import TagRecord, format_time, parse_time
from portside.spec.digests import Digest
from portside.spec.endpoints import PointedBack, TagChange, TagChanges
from portside.spec.errors import ParameterInvalid


async def list_tag_changes(request: Request) -> Response:
    """List the changes of a tag, newest first."""
    wanted, repository, tag = request.page(), request.repository, request.known_tag
    before = _time(wanted.last) if wanted.last else None
    history = request.registry.tag_history
    page = await history.list(repository, tag, before=before, limit=wanted.limit)
    changes = [_document(request, record) for record in page.items]
    link = None
    if page.more:
        path = f"/v2/{repository}/_portside/tags/history/{tag}"
        kept = request.query_beside("n", "last")
        link = next_link(path, last=changes[-1].time, limit=wanted.limit, kept=kept)
    return json_response(request.status, TagChanges(str(repository), str(tag), changes), link=link)


async def restore_tag(request: Request) -> Response:
    """Point a tag to a manifest, or to what it pointed to at a time."""
    repository, tag = request.repository, request.known_tag
    done = await request.registry.tag_history.restore(
        repository,
        tag,
        _aim(request),
        request.tag_condition(),
        by=request.actor,
        shows_identities=request.may_see_identities,
    )
    answer = PointedBack(str(repository), str(tag), str(done.digest), done.before, done.manifests)
    return json_response(request.status, answer)


def _aim(request: Request) -> Digest | int:
    """Return the digest or the time that is asked for; raises ParameterInvalid, DigestInvalid."""
    digest, at = request.query("digest"), request.query("at")
    if digest is not None and at is None:
        return Digest.parse(digest)
    if at is not None and digest is None:
        return _time(at)
    raise ParameterInvalid("either digest or at is required, and not both")


def _time(text: str) -> int:
    # A plus that was not encoded has become a space.
    return parse_time(text.replace(" ", "+"))


def _document(request: Request, record: TagRecord) -> TagChange:
    change = record.change
    return TagChange(
        format_time(change.time),
        change.action.value,
        str(change.digest),
        (change.identity or None) if request.may_see_identities else None,
        record.manifest.value,
    )
