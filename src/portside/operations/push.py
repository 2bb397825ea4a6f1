"""Push: receive manifests, and blobs in one request or over an upload session.

A request that writes to a session first holds it, then reads its offset. So two requests for one
session run one after the other, and each is checked against the offset that the other one reached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from portside.operations.admission import Admission
from portside.operations.platforms import find_platform
from portside.spec.conditions import TagCondition, keeping
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import (
    BlobTooLarge,
    BlobUnknown,
    BlobUploadUnknown,
    BodyIncomplete,
    BodyTimeout,
    DigestInvalid,
    QuotaExceeded,
    RangeInvalid,
    SizeInvalid,
    StorageFull,
    Unavailable,
)
from portside.spec.manifests import Manifest, parse_manifest
from portside.spec.names import Reference, RepositoryName, Tag
from portside.spec.ranges import ByteRange
from portside.spec.schema1 import EMPTY_LAYER, EMPTY_LAYER_DIGEST
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.actors import NOBODY, Actor
from portside.stores.interfaces import BlobStore, MetadataStore, Recorded, Staging

Clock = Callable[[], int]
"""Returns the time in microseconds since 1970."""


class Chunk(NamedTuple):
    """The body of a request, and what its headers announce about it.

    `range` is the Content-Range, `length` the Content-Length in bytes; either may be missing.
    """

    body: AsyncIterator[bytes]
    range: ByteRange | None = None
    length: int | None = None

    @property
    def announced(self) -> int | None:
        """The number of bytes that the headers promise, if they do."""
        return self.range.length if self.range is not None else self.length


class _Room(NamedTuple):
    """What is left of the quota of a repository, in bytes, for content that it does not have."""

    repository: RepositoryName
    quota: int
    left: int


class Push:
    """Receives content into a pair of stores.

    `max_blob_bytes` limits the size of a blob, `max_open_uploads` the sessions of one identity in
    one repository; zero means no limit. With `sparse_indexes`, an index may list manifests that the
    repository does not hold.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        max_blob_bytes: int,
        max_open_uploads: int,
        sparse_indexes: bool,
        clock: Clock,
        admission: Admission | None = None,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._max_blob_bytes = max_blob_bytes
        self._max_open_uploads = max_open_uploads
        self._sparse_indexes = sparse_indexes
        self._clock = clock
        self._admission = admission or Admission()

    async def manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        payload: bytes,
        *,
        content_type: str | None,
        extra_tags: Sequence[Tag] = (),
        condition: TagCondition | None = None,
        by: Actor = NOBODY,
    ) -> Manifest:
        """Store a manifest under a tag, or under its digest and `extra_tags` (end-7).

        Raises ManifestInvalid, DigestInvalid, ManifestBlobUnknown, OperationDisallowed, also for a
        tag that is immutable, and, if `condition` does not hold for one of the tags,
        PreconditionFailed; StorageFull and QuotaExceeded.
        """
        manifest = parse_manifest(
            payload,
            content_type=content_type,
            expected=reference if isinstance(reference, Digest) else None,
        )
        self._admission.check_space()
        rules = self._admission.rules_of(repository)
        if any(known.digest == EMPTY_LAYER_DIGEST for known in manifest.references):
            await self._link_empty_layer(repository, by)
        platform = await find_platform(self._metadata, self._blobs, repository, manifest)
        await self._metadata.put_manifest(
            repository,
            manifest,
            tags=extra_tags if isinstance(reference, Digest) else [reference],
            condition=keeping(condition, rules.immutable_tags),
            check_children=not self._sparse_indexes,
            recorded=Recorded(platform, by),
            quota=rules.quota,
        )
        return manifest

    async def _link_empty_layer(self, repository: RepositoryName, by: Actor) -> None:
        """Store the empty layer, which a client may have found without pushing it."""
        try:
            known = await self._metadata.get_blob(repository, EMPTY_LAYER_DIGEST)
            if known.unreferenced is not None:
                # Its grace period may be over: no client asks for what it knows to be there.
                await self._metadata.confirm_blob(repository, EMPTY_LAYER_DIGEST)
        except BlobUnknown:
            await self.blob(repository, EMPTY_LAYER_DIGEST, Chunk(_empty_layer()), by=by)

    async def open_upload(
        self, repository: RepositoryName, algorithm: Algorithm, *, owner: str = ""
    ) -> UploadSession:
        """Open an upload session (end-4a, end-4c).

        `owner` is the name of the identity, empty for anonymous clients. Raises TooManyRequests,
        OperationDisallowed, StorageFull and QuotaExceeded.
        """
        self._admission.check_space()
        upload = UploadId.fresh()
        room = await self._measure_room(repository, upload=upload)
        if room is not None and room.left <= 0:
            raise await self._explain_quota(room, 0)
        now = self._clock()
        session = UploadSession(
            id=upload,
            repository=repository,
            algorithm=algorithm,
            created=now,
            updated=now,
            owner=owner,
        )
        await self._metadata.open_upload(session, most=self._max_open_uploads)
        return session

    async def blob(
        self, repository: RepositoryName, digest: Digest, chunk: Chunk, *, by: Actor = NOBODY
    ) -> None:
        """Receive a blob in one request (end-4b).

        Raises DigestInvalid, RangeInvalid, SizeInvalid, BlobTooLarge, OperationDisallowed,
        QuotaExceeded, BodyIncomplete and BodyTimeout.
        """
        if chunk.range is not None and chunk.range.start:
            whole = f"a blob pushed in one request starts at byte 0, not {chunk.range.start}"
            raise RangeInvalid(whole)
        room = await self._measure_room(repository, digest)
        upload = UploadId.fresh()
        async with self._blobs.hold(upload, fresh=True) as staging:
            await staging.resume(0, digest.algorithm)
            size = await self._receive(staging, chunk, 0, room)
            await self._commit(repository, digest, size, staging, session=None, by=by)

    async def get_upload(self, repository: RepositoryName, upload: UploadId) -> UploadSession:
        """Return a session at its offset (end-13); raises BlobUploadUnknown."""
        return await self._metadata.get_upload(repository, upload)

    async def append(
        self, repository: RepositoryName, upload: UploadId, chunk: Chunk
    ) -> UploadSession:
        """Append a chunk to a session (end-5); return the session at its new offset.

        If the body is cut off, what arrived is kept. Any other error leaves the session unchanged.

        Raises BlobUploadUnknown, UploadBusy, OperationDisallowed, OffsetMismatch, SizeInvalid,
        BlobTooLarge, QuotaExceeded, BodyIncomplete and BodyTimeout.
        """
        async with self._blobs.hold(upload) as staging:
            session, received = await self._continue(repository, upload, staging, chunk)
            return await self._advance(session, staging, received)

    async def finish(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunk: Chunk,
        *,
        by: Actor = NOBODY,
    ) -> None:
        """Append the last chunk, if there is one, and commit the blob (end-6).

        A client whose answer was lost may repeat its request: it is finished already. To everybody
        but the identity that opened it, the session has ended.

        Raises what `append` raises, and DigestInvalid, which leaves the session as it was.
        """
        try:
            async with self._blobs.hold(upload) as staging:
                session, received = await self._continue(repository, upload, staging, chunk, digest)
                size = session.offset + received
                await self._commit(repository, digest, size, staging, session=session, by=by)
                await self._discard(upload)
        except BlobUploadUnknown as unknown:
            if not await self._metadata.was_finished(repository, upload, digest, owner=by.name):
                raise
            await self._pass_over(chunk)
            try:
                await self._metadata.confirm_blob(repository, digest)
            except BlobUnknown:
                # It was removed while the body arrived. A client pushes it again after this error.
                raise unknown from None

    async def cancel(self, repository: RepositoryName, upload: UploadId) -> None:
        """Cancel a session (end-14); raises BlobUploadUnknown and UploadBusy."""
        async with self._blobs.hold(upload):
            session = await self._metadata.get_upload(repository, upload)
            await self._metadata.close_upload(session)
            await self._discard(upload)

    async def _continue(
        self,
        repository: RepositoryName,
        upload: UploadId,
        staging: Staging,
        chunk: Chunk,
        digest: Digest | None = None,
    ) -> tuple[UploadSession, int]:
        """Receive a chunk at the offset; return the session before it, and the chunk's size.

        Nothing is received for a repository that was locked after the session was opened. `digest`
        is that of the blob, if it is known by now.
        """
        session = await self._metadata.get_upload(repository, upload, writable=True)
        session.check_chunk(chunk.range)
        # A session that is finished with this request leaves nothing behind.
        upload_left = upload if digest is None else None
        room = await self._measure_room(repository, digest, upload=upload_left)
        await staging.resume(session.offset, session.algorithm)
        try:
            received = await self._receive(staging, chunk, session.offset, room)
        except (BodyIncomplete, BodyTimeout):
            await self._advance(session, staging, None)
            raise
        return session, received

    async def _receive(
        self, staging: Staging, chunk: Chunk, offset: int, room: _Room | None
    ) -> int:
        """Write a body to the store; return the number of bytes."""
        announced = chunk.announced
        if chunk.length is not None and chunk.length != announced:
            differ = f"Content-Range spans {announced} bytes, but Content-Length is {chunk.length}"
            raise SizeInvalid(differ)
        await self._check_whole(offset + (announced or 0), room)
        received = 0
        async for piece in chunk.body:
            received += len(piece)
            await self._check_whole(offset + received, room)
            await staging.write(piece)
        if announced is not None and received != announced:
            differ = f"{announced} bytes were announced, but {received} arrived"
            raise SizeInvalid(differ)
        return received

    async def _pass_over(self, chunk: Chunk) -> None:
        """Read a body whose bytes are in the registry already, so that the answer arrives."""
        self._check_size(chunk.announced or 0)
        received = 0
        async for piece in chunk.body:
            received += len(piece)
            self._check_size(received)

    async def _measure_room(
        self,
        repository: RepositoryName,
        digest: Digest | None = None,
        *,
        upload: UploadId | None = None,
    ) -> _Room | None:
        """Return what is left of a quota; None where there is none, or the blob is there."""
        quota = self._admission.rules_of(repository).quota
        if quota is None:
            return None
        left = await self._metadata.measure_room(repository, quota, digest, upload=upload)
        return _Room(repository, quota, left) if left is not None else None

    async def _explain_quota(self, room: _Room, size: int) -> QuotaExceeded:
        return await self._metadata.explain_quota(room.repository, room.quota, size)

    async def _check_whole(self, size: int, room: _Room | None) -> None:
        """Raise BlobTooLarge or QuotaExceeded if a blob has too many bytes by now."""
        self._check_size(size)
        if room is not None and size > room.left:
            raise await self._explain_quota(room, size)

    def _check_size(self, size: int) -> None:
        if self._max_blob_bytes and size > self._max_blob_bytes:
            large = f"a blob may have at most {self._max_blob_bytes} bytes"
            raise BlobTooLarge(large)

    async def _advance(
        self, session: UploadSession, staging: Staging, received: int | None
    ) -> UploadSession:
        """Make what arrived durable, and then advance the offset, so that it never exceeds it."""
        if received == 0:
            return session
        advanced = session.at(await staging.flush())
        quota = self._admission.rules_of(session.repository).quota
        try:
            await self._metadata.advance_upload(advanced, origin=session.offset, quota=quota)
        except (StorageFull, QuotaExceeded):
            staging.forget(session.offset)
            raise
        staging.keep()
        return advanced

    async def _commit(
        self,
        repository: RepositoryName,
        digest: Digest,
        size: int,
        staging: Staging,
        *,
        session: UploadSession | None,
        by: Actor,
    ) -> None:
        found = await staging.finish(digest.algorithm)
        if found != digest:
            differ = f"the {size} bytes that arrived have the digest {found}, not {digest}"
            raise DigestInvalid(differ)
        place = await staging.place(digest)
        quota = self._admission.rules_of(repository).quota
        await self._metadata.commit_blob(
            repository, digest, size, session=session, place=place, by=by, quota=quota
        )

    async def _discard(self, upload: UploadId) -> None:
        """Discard staged bytes; if that fails, they are removed when they are stale."""
        with suppress(Unavailable):
            await self._blobs.discard(upload)


async def _empty_layer() -> AsyncIterator[bytes]:
    yield EMPTY_LAYER
