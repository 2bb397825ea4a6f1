"""Upload sessions: open (end-4), append (end-5), finish (end-6), ask (end-13), cancel (end-14)."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.answers import no_content
from portside.api.calls import Call
from portside.api.locations import blob_location, upload_location
from portside.operations.mount import mount_blob
from portside.spec.digests import Algorithm, Digest
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession


async def start_upload(call: Call) -> Response:
    """Mount a blob, take one whole, or open a session, as the query asks."""
    if call.query("mount") is not None:
        return await _mount(call)
    if call.query("digest") is not None:
        digest = call.query_digest()
        await call.registry.receiver.push(call.repository, digest, call.chunk())
        return _created(call, digest)
    return await _open(call)


async def _mount(call: Call) -> Response:
    """Link the blob; a session is opened where that cannot be done (end-11)."""
    digest = Digest.parse(call.query("mount") or "")
    source = call.query("from")
    named = RepositoryName.parse(source) if source else None
    permit = call.permit
    if permit is not None and named is not None and not permit.may_mount(call.repository, named):
        return await _open(call)
    mounted = await mount_blob(
        call.registry.metadata,
        call.registry.blobs,
        call.repository,
        digest,
        named,
        may_pull=permit.may_pull if permit is not None else None,
    )
    return _created(call, digest) if mounted else await _open(call)


async def _open(call: Call) -> Response:
    algorithm = Algorithm.parse(call.query("digest-algorithm") or Algorithm.SHA256)
    session = await call.registry.receiver.open(call.repository, algorithm)
    return _standing(call.status, session)


async def append_upload(call: Call) -> Response:
    """Take a chunk."""
    session = await call.registry.receiver.append(call.repository, call.upload, call.chunk())
    return _standing(call.status, session)


async def finish_upload(call: Call) -> Response:
    """Take the last chunk, if there is one, and make the blob."""
    digest = call.query_digest()
    await call.registry.receiver.finish(call.repository, call.upload, digest, call.chunk())
    return no_content(
        call.status,
        location=blob_location(call.repository, digest),
        docker_content_digest=digest,
    )


async def get_upload(call: Call) -> Response:
    """Tell where a session stands."""
    session = await call.registry.metadata.get_upload(call.repository, call.upload)
    return _standing(call.status, session)


async def cancel_upload(call: Call) -> Response:
    """Give a session up."""
    await call.registry.receiver.cancel(call.repository, call.upload)
    return no_content(call.status)


def _standing(status: int, session: UploadSession) -> Response:
    return no_content(
        status,
        location=upload_location(session),
        range=session.received,
        docker_upload_uuid=session.id,
    )


def _created(call: Call, digest: Digest) -> Response:
    """Answer a POST that made the blob readable at once, in both dialects alike."""
    location = blob_location(call.repository, digest)
    return no_content(201, location=location, docker_content_digest=digest)
