"""Check: compare everything that the metadata records with everything that is stored.

A check only reads, and a registry may run beside it. Whatever looks wrong is looked up once more
before it is reported: a blob while no request can change it, a manifest in one snapshot, an
orphaned file at the end of the check, when the request that made it would be done with it. What
cannot be read is reported, and the check goes on with what comes after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator
from typing import TypeVar

from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.manifests import Manifest, read_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.uploads import UploadId
from portside.stores.inspection import BlobRecord, InspectableMetadata, ManifestRecord
from portside.stores.interfaces import InspectableBlobs, OrphanedFile

Item = TypeVar("Item")

LOOKS = 5
"""Attempts to look at a blob that is removed and pushed again while it is read."""


class Tally:
    """How much a check has seen."""

    def __init__(self) -> None:
        self.manifests = 0
        self.blobs = 0
        self.bytes = 0
        self.uploads = 0


async def check(
    metadata: InspectableMetadata,
    blobs: InspectableBlobs,
    tally: Tally,
    *,
    pause: float,
    sound: Container[Digest] = frozenset(),
) -> AsyncIterator[str]:
    """Yield a line for each thing that is wrong; count what was seen in `tally`.

    `pause` is the time, in seconds, in which a running registry removes what it has finished with.
    Blobs in `sound` were read to their end before, and are not read again.
    """
    for directory in await blobs.missing_directories():
        yield f"directory {directory} is missing: restore it, or start the registry to create it"
    unclear: list[str] = []
    loose = [
        upload
        async for upload, _ in _as_far(blobs.staged_uploads(), "uploads", unclear)
        if not await _is_session(metadata, upload, unclear)
    ]
    orphaned = [file async for file in _as_far(blobs.orphaned_files(), "files", unclear)]
    for problem in unclear:
        yield problem
    for problems, what in (
        (metadata.integrity_problems(), "the database"),
        (_check_repositories(metadata), "names"),
        (_check_manifests(metadata, tally), "manifests"),
        (_check_blobs(metadata, blobs, tally, sound), "blobs"),
        (_find_orphaned_blobs(metadata, blobs), "stored blobs"),
        (_check_uploads(metadata, blobs, tally), "upload sessions"),
    ):
        async for problem in _guarded(problems, what):
            yield problem
    if [problem async for problem in _name_orphaned(metadata, blobs, loose, orphaned)]:
        await asyncio.sleep(pause)
        async for problem in _name_orphaned(metadata, blobs, loose, orphaned):
            yield problem


async def _is_session(metadata: InspectableMetadata, upload: UploadId, unclear: list[str]) -> bool:
    """Look up a session; one that cannot be looked up is not reported as missing."""
    try:
        return await metadata.upload_record(upload) is not None
    except RegistryError as error:
        _note(unclear, "upload sessions", error)
        return True


async def _as_far(items: AsyncIterator[Item], what: str, unclear: list[str]) -> AsyncIterator[Item]:
    """Yield items up to the first that cannot be read, and note why."""
    try:
        async for item in items:
            yield item
    except RegistryError as error:
        _note(unclear, what, error)


async def _guarded(problems: AsyncIterator[str], what: str) -> AsyncIterator[str]:
    """Yield problems up to the first that cannot be read, and then why."""
    unclear: list[str] = []
    async for problem in _as_far(problems, what, unclear):
        yield problem
    for line in unclear:
        yield line


def _note(unclear: list[str], what: str, error: RegistryError) -> None:
    line = f"{what} cannot be read to the end: {_explain(error)}"
    if line not in unclear:
        unclear.append(line)


def _explain(error: RegistryError) -> str:
    return "; ".join(error.details)


async def _check_repositories(metadata: InspectableMetadata) -> AsyncIterator[str]:
    async for record in metadata.repository_records():
        if not _is_valid(RepositoryName.parse, record.name):
            yield f"invalid repository name {record.name!r}"
        for kind, recorded, found in (
            ("manifests", record.manifest_count, record.manifests),
            ("tags", record.tag_count, record.tags),
        ):
            if recorded != found:
                yield f"repository {record.name} records {recorded} {kind}, but has {found}"
    async for repository, tag in metadata.tag_names():
        if not _is_valid(Tag.parse, tag):
            yield f"invalid tag name {tag!r} in repository {repository!r}"


def _is_valid(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except RegistryError:
        return False
    return True


async def _check_manifests(metadata: InspectableMetadata, tally: Tally) -> AsyncIterator[str]:
    async for record in metadata.manifest_records():
        tally.manifests += 1
        name = f"manifest {record.repository}@{record.digest}"
        for problem in _check_manifest(record):
            yield f"{name} {problem}"


def _check_manifest(record: ManifestRecord) -> Iterator[str]:
    if len(record.payload) != record.size:
        yield f"has {len(record.payload)} bytes, but {record.size} are recorded"
    for reference in record.references:
        if reference.required and not reference.present:
            yield f"refers to the missing {reference.kind} {reference.digest}"
    try:
        read = read_manifest(
            record.payload, media_type=record.media_type, expected=Digest.parse(record.digest)
        )
    except RegistryError as error:
        yield f"is damaged: {error}"
    else:
        yield from _compare(record, read)


def _compare(record: ManifestRecord, read: Manifest) -> Iterator[str]:
    """Compare what the payload says with what is noted of it.

    Whether a reference is required is not compared: a registry may be served with sparse indexes.
    """
    if not _matches(record, read):
        yield "does not match its recorded references"
    if read.subject != record.subject:
        yield f"has the subject {read.subject}, but {record.subject} is recorded"
    if read.artifact_type != record.artifact_type:
        yield f"has the artifact type {read.artifact_type}, but {record.artifact_type} is recorded"
    if read.annotations != record.annotations:
        yield "does not match its recorded annotations"


def _matches(record: ManifestRecord, read: Manifest) -> bool:
    """Whether the recorded references are those of the payload; a child may be of either kind."""
    weak = {reference.digest for reference in record.references if reference.weak}
    if record.described and weak != {item.digest for item in read.references if item.is_weak}:
        return False
    named = [item for item in read.references if not item.is_weak]
    recorded = {(item.kind, item.digest) for item in record.references if not item.weak}
    children = {str(item.digest) for item in named if item.is_child}
    others = {(str(item.kind), str(item.digest)) for item in named if not item.is_child}
    of_children = {(kind, digest) for kind, digest in recorded if digest in children}
    return recorded - of_children <= others <= recorded and children == {
        digest for _, digest in of_children
    }


async def _check_blobs(
    metadata: InspectableMetadata, blobs: InspectableBlobs, tally: Tally, sound: Container[Digest]
) -> AsyncIterator[str]:
    async for record in metadata.blob_records():
        tally.blobs += 1
        try:
            digest = Digest.parse(record.digest)
        except RegistryError as error:
            yield f"invalid blob digest {record.digest!r}: {_explain(error)}"
            continue
        try:
            problem = (
                None if digest in sound else await _check_blob(metadata, blobs, record, digest)
            )
        except RegistryError as error:
            problem = f"cannot be read: {_explain(error)}"
        if problem is None:
            tally.bytes += record.size
        else:
            yield f"blob {digest} {problem}"


async def _check_blob(
    metadata: InspectableMetadata, blobs: InspectableBlobs, known: BlobRecord, digest: Digest
) -> str | None:
    """Read a blob; if that does not show it to be sound, look again at what should be there."""
    if await blobs.stat(digest) == known.size and await blobs.verify(digest):
        return None
    for _ in range(LOOKS):
        async with metadata.hold_blob(digest):
            record = await metadata.blob_record(digest)
            size = await blobs.stat(digest)
        if record is None:
            return None
        if size is None:
            return "is missing"
        if size != record.size:
            return f"has {size} bytes, but should have {record.size}"
        is_sound = await blobs.verify(digest)
        if is_sound is not None:
            return None if is_sound else "is damaged: its content has another digest"
    return None


async def _find_orphaned_blobs(
    metadata: InspectableMetadata, blobs: InspectableBlobs
) -> AsyncIterator[str]:
    async for digest, _ in blobs.stored_blobs():
        if await metadata.blob_record(digest) is not None:
            continue
        async with metadata.hold_blob(digest):
            is_known = await metadata.blob_record(digest) is not None
            is_orphaned = not is_known and await blobs.stat(digest) is not None
        if is_orphaned:
            yield f"orphaned blob: {digest} is stored, but not in the database"


async def _check_uploads(
    metadata: InspectableMetadata, blobs: InspectableBlobs, tally: Tally
) -> AsyncIterator[str]:
    async for session in metadata.upload_records():
        tally.uploads += 1
        if not _is_valid(UploadId.parse, session.id):
            yield f"invalid upload id {session.id!r}"
            continue
        if not _is_valid(RepositoryName.parse, session.repository):
            yield f"upload {session.id} has the invalid repository name {session.repository!r}"
        held = await blobs.staged_size(UploadId.parse(session.id)) or 0
        # A session that has ended since took its bytes with it.
        if held < session.offset and await metadata.upload_record(session.id) == session:
            yield f"upload {session.id} holds {held} bytes, but should hold {session.offset}"


async def _name_orphaned(
    metadata: InspectableMetadata,
    blobs: InspectableBlobs,
    loose: Iterable[UploadId],
    orphaned: Iterable[OrphanedFile],
) -> AsyncIterator[str]:
    """Name what was there when the check began, and is still there and not in use."""
    async for problem in _guarded(_look_again(metadata, blobs, loose, orphaned), "orphaned files"):
        yield problem


async def _look_again(
    metadata: InspectableMetadata,
    blobs: InspectableBlobs,
    loose: Iterable[UploadId],
    orphaned: Iterable[OrphanedFile],
) -> AsyncIterator[str]:
    for upload in loose:
        size = await blobs.staged_size(upload)
        in_use = size is None or await blobs.is_held(upload)
        if not in_use and await metadata.upload_record(upload) is None:
            yield f"orphaned upload: {upload} has {size} bytes and no session"
    for file in orphaned:
        if await blobs.is_orphaned(file):
            yield f"orphaned file: {file.path}; {file.advice}"
