"""Upload sessions: open (end-4), append (5), finish (6), get the offset (13), cancel (14)."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.requests import Request
from portside.api.responses import blob_location, no_content, upload_location
from portside.spec.digests import Algorithm, Digest
from portside.spec.uploads import UploadSession


async def start_upload(request: Request) -> Response:
    """Mount a blob, receive one in this request, or open a session, depending on the query."""
    if request.query("mount") is not None:
        return await _mount(request)
    if request.query("digest") is not None:
        digest = request.query_digest()
        await request.registry.push.blob(
            request.repository, digest, request.chunk(), by=request.actor
        )
        return _created(request, digest)
    return await _open(request)


async def _mount(request: Request) -> Response:
    """Mount the blob, or open a session if that is not possible (end-11)."""
    mount, permit = request.mount(), request.permit
    if mount is None:
        return await _open(request)
    repository, source = request.repository, mount.source
    may_pull = permit.may_pull if permit is not None else None
    if source is not None and may_pull is not None and not may_pull(source):
        return await _open(request)
    mounted = await request.registry.mount.blob(
        repository, mount.digest, source, may_pull=may_pull, by=request.actor
    )
    return _created(request, mount.digest) if mounted else await _open(request)


async def _open(request: Request) -> Response:
    algorithm = Algorithm.parse(request.query("digest-algorithm") or Algorithm.SHA256)
    session = await request.registry.push.open_upload(
        request.repository, algorithm, owner=request.identity
    )
    return _progress(request.status, session)


async def append_upload(request: Request) -> Response:
    """Receive a chunk."""
    repository, upload, chunk = request.repository, request.upload, request.chunk()
    session = await request.registry.push.append(repository, upload, chunk)
    return _progress(request.status, session)


async def finish_upload(request: Request) -> Response:
    """Receive the last chunk, if there is one, and commit the blob."""
    digest, repository = request.query_digest(), request.repository
    upload, chunk = request.upload, request.chunk()
    await request.registry.push.finish(repository, upload, digest, chunk, by=request.actor)
    location = blob_location(repository, digest)
    return no_content(request.status, location=location, docker_content_digest=digest)


async def get_upload(request: Request) -> Response:
    """Send the offset of a session."""
    session = await request.registry.push.get_upload(request.repository, request.upload)
    return _progress(request.status, session)


async def cancel_upload(request: Request) -> Response:
    """End a session without a blob."""
    await request.registry.push.cancel(request.repository, request.upload)
    return no_content(request.status)


def _progress(status: int, session: UploadSession) -> Response:
    return no_content(
        status,
        location=upload_location(session),
        range=session.received,
        docker_upload_uuid=session.id,
    )


def _created(request: Request, digest: Digest) -> Response:
    """Answer a POST that committed or mounted the blob; the status is the same in both dialects."""
    location = blob_location(request.repository, digest)
    return no_content(201, location=location, docker_content_digest=digest)
