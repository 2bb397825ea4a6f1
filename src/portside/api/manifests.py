"""Manifests: pull (end-3), push (end-7), delete (end-9)."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.answers import API_VERSION, Answer, headers, no_content
from portside.api.calls import Call
from portside.api.conditions import check_match, is_not_modified, tag_condition
from portside.api.locations import manifest_location
from portside.operations.delete import delete_manifest as delete
from portside.spec.digests import Digest
from portside.spec.errors import DeleteDisabled, TagInvalid, TooManyTags
from portside.spec.manifests import parse_manifest
from portside.spec.names import Reference, Tag


async def get_manifest(call: Call) -> Response:
    """Send the exact bytes that were pushed, whatever the Accept header says."""
    return await _pull(call, with_body=True)


async def head_manifest(call: Call) -> Response:
    """Send what a GET would, without the body."""
    return await _pull(call, with_body=False)


async def _pull(call: Call, *, with_body: bool) -> Response:
    manifest = await call.registry.metadata.get_manifest(call.repository, call.known_reference)
    check_match(call, manifest.digest)
    digest = manifest.digest.encode("ascii")
    fields = [
        API_VERSION,
        (b"content-type", manifest.media_type.encode("latin-1", "replace")),
        (b"content-length", b"%d" % len(manifest.payload)),
        (b"docker-content-digest", digest),
        (b"etag", b'"%b"' % digest),
    ]
    if is_not_modified(call, manifest.digest):
        return Answer(304, fields[:1] + fields[3:])
    return Answer(call.status, fields, manifest.payload if with_body else b"")


async def put_manifest(call: Call) -> Response:
    """Keep a manifest and point tags at it."""
    repository, reference = call.repository, call.new_reference
    extra_tags = _extra_tags(call, reference)
    condition = tag_condition(call)
    manifest = parse_manifest(
        await call.manifest_payload(),
        content_type=call.header("content-type"),
        expected=reference if isinstance(reference, Digest) else None,
    )
    await call.registry.metadata.put_manifest(
        repository,
        manifest,
        tags=[reference] if isinstance(reference, Tag) else extra_tags,
        condition=condition,
        check_children=not call.registry.allow_sparse_indexes,
    )
    return no_content(
        call.status,
        location=manifest_location(repository, manifest.digest),
        docker_content_digest=manifest.digest,
        oci_subject=manifest.subject,
        oci_tag=", ".join(extra_tags) or None,
    )


def _extra_tags(call: Call, reference: Reference) -> list[Tag]:
    """Read `?tag=` (end-7b), which goes with a digest only."""
    texts = call.query_list("tag")
    if texts and not isinstance(reference, Digest):
        where = "the parameter tag goes with a push by digest, and this is a push by tag"
        raise TagInvalid(where)
    most = call.registry.limits.max_tags_per_push
    if len(texts) > most:
        many = f"{len(texts)} tags; at most {most} are accepted at once"
        raise TooManyTags(many)
    return list(dict.fromkeys(Tag.parse(text) for text in texts))


async def delete_manifest(call: Call) -> Response:
    """Delete a manifest with its tags, or one tag."""
    if not call.registry.allow_delete:
        raise DeleteDisabled("the registry is set to keep everything (--no-delete)")
    await delete(call.registry.metadata, call.repository, call.known_reference, tag_condition(call))
    return Answer(call.status, headers(content_length="0"))
