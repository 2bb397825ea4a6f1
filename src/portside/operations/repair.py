"""Repair: restore what a check found damaged or missing, or drop it, so that a push heals it.

Bytes that are sound are never removed. What cannot be restored is left in the state that heals by
itself: damaged bytes go, so that a client which asks for the blob is told to push it, while the
manifests that need it stay, and their links with them. One push makes it whole everywhere.

A registry may run beside a repair, and a repair can be interrupted, and be run again.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import NamedTuple

from portside.operations.check import LOOKS
from portside.operations.findings import Finding, Kind
from portside.operations.staging import stage
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    ManifestUnknown,
    RegistryError,
    Unavailable,
)
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId
from portside.stores.actors import NOBODY, Actor
from portside.stores.repairing import (
    BytesReplaced,
    ContentSource,
    RepairableBlobs,
    RepairableMetadata,
)

MOST_REPOSITORIES = 100
"""Repositories in which a source is asked for a blob."""


NOT_AUTOMATIC = "cannot be repaired automatically"
PUSH_AGAIN = "push it again"


class Outcome(enum.StrEnum):
    """What became of a problem."""

    REPAIRED = "repaired"
    WAITING = "waiting"
    """Everything is ready for a push of what is missing."""
    LEFT = "left"
    """Nothing was changed."""


class Repair(NamedTuple):
    """What was done about a problem, in words."""

    outcome: Outcome
    note: str


class _SourceFailed(Exception):
    """A source does not have a blob, or what it has is not the blob."""


class Repairer:
    """Repairs the stores of a registry; what is missing is looked for in the `sources` in turn.

    `by` is who repairs it, as the events of its changes record it.
    """

    def __init__(
        self,
        metadata: RepairableMetadata,
        blobs: RepairableBlobs,
        sources: Sequence[ContentSource] = (),
        *,
        by: Actor = NOBODY,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._sources = sources
        self._by = by
        self._ways: dict[Kind, Callable[[Finding], Awaitable[Repair]]] = {
            Kind.BLOB: self._repair_bytes,
            Kind.MISSING_BLOB: self._repair_bytes,
            Kind.MANIFEST: self._restore_manifest,
            Kind.UNREADABLE: self._replace_unreadable,
            Kind.UNLINKED: self._forget_unlinked,
            Kind.UNCOLLECTED: self._begin_grace,
            Kind.COUNT: self._recount,
            Kind.UPLOAD: self._end_upload,
        }

    async def require_ready(self) -> None:
        """Refuse sources that cannot be read, and a store of which a part is missing.

        It may be a disk that is not mounted. Raises Unavailable.
        """
        missing = await self._blobs.missing_directories()
        if missing:
            raise Unavailable(
                f"directory {missing[0]} is missing, and nothing was repaired: restore it, or start"
                " the registry to create it"
            )
        for source in self._sources:
            await source.require()

    async def repair(self, finding: Finding) -> Repair:
        """Repair one thing that a check found."""
        way = self._ways.get(finding.kind)
        if way is None:
            return Repair(Outcome.LEFT, NOT_AUTOMATIC)
        try:
            return await way(finding)
        except RegistryError as error:
            return Repair(Outcome.LEFT, f"not repaired: {'; '.join(error.details)}")

    async def _repair_bytes(self, finding: Finding) -> Repair:
        """Repair a blob as it is now; look again if it is pushed or deleted at the same time."""
        for _ in range(LOOKS):
            with suppress(BytesReplaced):
                return await self._repair_blob(Digest.parse(finding.digest), finding.repository)
        return Repair(Outcome.LEFT, "not repaired: it is being pushed; check again")

    async def _restore_manifest(self, finding: Finding) -> Repair:
        """Fetch the payload of a manifest, which is its only copy here; a push replaces it, too."""
        digest, notes = Digest.parse(finding.digest), list[str]()
        for source in self._sources:
            try:
                payload = await source.read_manifest(digest, [finding.repository])
            except ManifestUnknown:
                notes.append(f"{source.name} does not have it")
            except RegistryError as error:
                notes.append(f"{source.name} cannot be read: {'; '.join(error.details)}")
            else:
                if Digest.of(payload, digest.algorithm) == digest:
                    await self._metadata.replace_payload(
                        finding.repository, digest, payload, by=self._by
                    )
                    return Repair(Outcome.REPAIRED, f"fetched from {source.name}")
                notes.append(f"{source.name} has other bytes")
        return Repair(Outcome.WAITING, "; ".join([*notes, PUSH_AGAIN]))

    async def _forget_unlinked(self, finding: Finding) -> Repair:
        await self._metadata.drop_unlinked_blob(finding.digest, by=self._by)
        return Repair(Outcome.REPAIRED, "dropped")

    async def _begin_grace(self, finding: Finding) -> Repair:
        await self._metadata.begin_grace(finding.repository, finding.digest, by=self._by)
        return Repair(Outcome.REPAIRED, "its grace period begins now")

    async def _recount(self, finding: Finding) -> Repair:
        await self._metadata.recount(finding.repository, by=self._by)
        return Repair(Outcome.REPAIRED, "counted again")

    async def _replace_unreadable(self, finding: Finding) -> Repair:
        """Place a blob anew; what cannot be read may be sound, and is not dropped."""
        notes: list[str] = []
        name = await self._fetch_from_any(Digest.parse(finding.digest), "", notes)
        if name is not None:
            return Repair(Outcome.REPAIRED, f"fetched from {name}")
        return Repair(Outcome.LEFT, "; ".join([*notes, "not dropped, as it may be sound"]))

    async def _repair_blob(self, digest: Digest, repository: str) -> Repair:
        """Repair a blob, or its link from a repository; raises BytesReplaced."""
        version = await self._blobs.version(digest)
        size = await self._sound_size(digest) if version is not None else None
        if size is not None:
            is_needed = await self._metadata.restore_blob(
                digest,
                size,
                repository=repository or None,
                place=self._blobs.require_version(digest, version),
                by=self._by,
            )
            done = "its bytes are sound, and were recorded again" if is_needed else "deleted since"
            return Repair(Outcome.REPAIRED, done)
        notes: list[str] = []
        name = await self._fetch_from_any(digest, repository, notes)
        if name is not None:
            return Repair(Outcome.REPAIRED, f"fetched from {name}")
        if not repository:
            await self._drop(digest, version)
            if await self._metadata.blob_record(digest) is None:
                return Repair(Outcome.REPAIRED, "; ".join([*notes, "dropped"]))
            notes += ["its bytes were dropped"] if version is not None else []
        return Repair(Outcome.WAITING, "; ".join([*notes, PUSH_AGAIN]))

    async def _fetch_from_any(
        self, digest: Digest, repository: str, notes: list[str]
    ) -> str | None:
        """Fetch a blob from the first source that has it; return the name of that source."""
        for source in self._sources:
            try:
                await self._fetch(source, digest, repository)
            except _SourceFailed as error:
                notes.append(f"{source.name} {error}")
            else:
                return source.name
        return None

    async def _sound_size(self, digest: Digest) -> int | None:
        """Return the size of bytes that are sound; None if they are damaged or missing."""
        return await self._blobs.stat(digest) if await self._blobs.verify(digest) else None

    async def _drop(self, digest: Digest, version: str | None) -> None:
        """Drop damaged bytes, and links that nothing needs; raises BytesReplaced, Unavailable."""
        await self._metadata.drop_damaged_blob(
            digest,
            confirm=self._blobs.require_version(digest, version),
            remove=self._blobs.remove(digest),
            has_bytes=version is not None,
            by=self._by,
        )
        if version is not None and await self._blobs.version(digest) == version:
            raise Unavailable("its damaged bytes could not be removed")

    async def _fetch(self, source: ContentSource, digest: Digest, repository: str) -> None:
        """Read a blob from a source, and place it if it is sound; raises _SourceFailed."""
        linking = await self._metadata.list_linking(digest, MOST_REPOSITORIES)
        repositories = [repository] if repository else [str(name) for name in linking]
        async with self._blobs.hold(UploadId.fresh(), fresh=True) as staging:
            pieces = _read(source, digest, repositories)
            found, size = await stage(staging, pieces, digest.algorithm)
            if found != digest:
                raise _SourceFailed(f"has other bytes, with the digest {found}")
            place = await staging.place(digest)
            await self._metadata.restore_blob(
                digest, size, repository=repository or None, place=place, by=self._by
            )

    async def _end_upload(self, finding: Finding) -> Repair:
        """End a session that lost bytes, so that its client is told to start again."""
        repository = RepositoryName.parse(finding.repository)
        upload = UploadId.parse(finding.upload)
        with suppress(BlobUploadUnknown):
            async with self._blobs.hold(upload):
                session = await self._metadata.get_upload(repository, upload)
                if (await self._blobs.staged_size(upload) or 0) < session.offset:
                    await self._metadata.close_upload(session)
                    await self._blobs.discard(upload)
        return Repair(Outcome.REPAIRED, "ended; its client has to start again")


async def _read(
    source: ContentSource, digest: Digest, repositories: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    """Read a blob; failures of the source become _SourceFailed, unlike those of the registry."""
    try:
        async with aclosing(source.read_blob(digest, repositories)) as pieces:
            async for piece in pieces:
                yield piece
    except BlobUnknown as error:
        raise _SourceFailed("does not have it") from error
    except RegistryError as error:
        raise _SourceFailed(f"cannot be read: {'; '.join(error.details)}") from error
