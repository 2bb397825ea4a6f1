"""Check: compare everything that the metadata records with everything that is stored.

A check only reads, and a registry may run beside it. Whatever looks wrong is looked up once more
before it is reported: a blob while no request can change it, a manifest in one snapshot, an
orphaned file at the end of the check, when the request that made it would be done with it. What
cannot be read is reported, and the check goes on with what comes after it.

What a crash leaves is found as well, but is no damage: nothing that was acknowledged is concerned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator
from typing import TypeVar

from portside.operations.findings import Finding, Kind
from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.manifests import Manifest, ReferenceKind, read_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.uploads import UploadId
from portside.stores.inspection import BlobRecord, InspectableMetadata, ManifestRecord
from portside.stores.interfaces import InspectableBlobs, OrphanedFile

Item = TypeVar("Item")

NAMED = 10
"""Images that are named for each finding; of more, the number is given."""

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
) -> AsyncIterator[Finding]:
    """Yield what is wrong, and then what is orphaned; count what was seen in `tally`.

    `pause` is the time, in seconds, in which a running registry removes what it has finished with.
    Blobs in `sound` were read to their end before, and are not read again.
    """
    unclear: list[Finding] = []
    loose = [
        upload
        async for upload, _ in _as_far(blobs.staged_uploads(), "uploads", unclear)
        if not await _is_session(metadata, upload, unclear)
    ]
    orphaned = [file async for file in _as_far(blobs.orphaned_files(), "files", unclear)]
    for finding in unclear:
        yield finding
    async for finding in find_damage(metadata, blobs, tally, sound=sound):
        yield finding
    async for finding in _guarded(_find_orphaned_blobs(metadata, blobs), "stored blobs"):
        yield finding
    if [finding async for finding in _name_orphaned(metadata, blobs, loose, orphaned)]:
        await asyncio.sleep(pause)
        async for finding in _name_orphaned(metadata, blobs, loose, orphaned):
            yield finding


async def find_damage(
    metadata: InspectableMetadata,
    blobs: InspectableBlobs,
    tally: Tally,
    *,
    sound: Container[Digest] = frozenset(),
) -> AsyncIterator[Finding]:
    """Yield what is wrong, as `check` does, and nothing that is orphaned."""
    for directory in await blobs.missing_directories():
        advice = "restore it, or start the registry to create it"
        yield Finding(Kind.STORE, f"directory {directory} is missing: {advice}")
    for findings, what in (
        (_check_database(metadata), "the database"),
        (_check_repositories(metadata), "names"),
        (_check_manifests(metadata, tally), "manifests"),
        (_check_blobs(metadata, blobs, tally, sound), "blobs"),
        (_check_links(metadata), "links"),
        (_check_uploads(metadata, blobs, tally), "upload sessions"),
    ):
        async for finding in _guarded(findings, what):
            yield finding


async def _is_session(
    metadata: InspectableMetadata, upload: UploadId, unclear: list[Finding]
) -> bool:
    """Look up a session; one that cannot be looked up is not reported as missing."""
    try:
        return await metadata.upload_record(upload) is not None
    except RegistryError as error:
        _note(unclear, "upload sessions", error)
        return True


async def _as_far(
    items: AsyncIterator[Item], what: str, unclear: list[Finding]
) -> AsyncIterator[Item]:
    """Yield items up to the first that cannot be read, and note why."""
    try:
        async for item in items:
            yield item
    except RegistryError as error:
        _note(unclear, what, error)


async def _guarded(findings: AsyncIterator[Finding], what: str) -> AsyncIterator[Finding]:
    """Yield findings up to the first that cannot be read, and then why."""
    unclear: list[Finding] = []
    async for finding in _as_far(findings, what, unclear):
        yield finding
    for finding in unclear:
        yield finding


def _note(unclear: list[Finding], what: str, error: RegistryError) -> None:
    found = Finding(Kind.STORE, f"{what} cannot be read to the end: {_explain(error)}")
    if found not in unclear:
        unclear.append(found)


def _explain(error: RegistryError) -> str:
    return "; ".join(error.details)


async def _check_database(metadata: InspectableMetadata) -> AsyncIterator[Finding]:
    async for problem in metadata.integrity_problems():
        yield Finding(Kind.RECORD, problem)


async def _check_links(metadata: InspectableMetadata) -> AsyncIterator[Finding]:
    async for digest in metadata.unlinked_blobs():
        yield Finding(Kind.UNLINKED, f"blob {digest} has no link from any repository", digest)
    async for repository, digest in metadata.uncollected_links():
        forgotten = f"blob {digest} of repository {repository} would never be collected"
        yield Finding(Kind.UNCOLLECTED, forgotten, digest, repository)


async def _check_repositories(metadata: InspectableMetadata) -> AsyncIterator[Finding]:
    async for record in metadata.repository_records():
        if not _is_valid(RepositoryName.parse, record.name):
            yield Finding(Kind.RECORD, f"invalid repository name {record.name!r}")
        for kind, recorded, found in (
            ("manifests", record.manifest_count, record.manifests),
            ("tags", record.tag_count, record.tags),
            ("bytes", record.recorded_bytes, record.bytes),
        ):
            if recorded != found:
                wrong = f"repository {record.name} records {recorded} {kind}, but has {found}"
                yield Finding(Kind.COUNT, wrong, repository=record.name)
    async for repository, tag in metadata.tag_names():
        if not _is_valid(Tag.parse, tag):
            wrong = f"invalid tag name {tag!r} in repository {repository!r}"
            yield Finding(Kind.RECORD, wrong, repository=repository)


def _is_valid(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except RegistryError:
        return False
    return True


async def _check_manifests(metadata: InspectableMetadata, tally: Tally) -> AsyncIterator[Finding]:
    async for record in metadata.manifest_records():
        tally.manifests += 1
        name = f"{record.repository}@{record.digest}"
        found = list(_check_manifest(record))
        if not found:
            continue
        images = await metadata.images_with_manifest(record.repository, record.digest, NAMED)
        # Without a tag, its own name says it all, and the line begins with it.
        shown = images if images.names != (name,) else None
        for kind, problem, digest in found:
            yield Finding(
                kind, f"manifest {name} {problem}", digest, record.repository, images=shown
            )


def _check_manifest(record: ManifestRecord) -> Iterator[tuple[Kind, str, str]]:
    """Yield the kind of each problem, the problem, and the digest of what is damaged or missing."""
    if len(record.payload) != record.size:
        differ = f"has {len(record.payload)} bytes, but {record.size} are recorded"
        yield Kind.RECORD, differ, record.digest
    for reference in record.references:
        if reference.required and not reference.present:
            missing = f"refers to the missing {reference.kind} {reference.digest}"
            is_blob = reference.kind == ReferenceKind.BLOB
            yield Kind.MISSING_BLOB if is_blob else Kind.MISSING_MANIFEST, missing, reference.digest
    try:
        read = read_manifest(
            record.payload, media_type=record.media_type, expected=Digest.parse(record.digest)
        )
    except RegistryError as error:
        yield Kind.MANIFEST, f"is damaged: {error}", record.digest
    else:
        for problem in _compare(record, read):
            yield Kind.RECORD, problem, record.digest


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
) -> AsyncIterator[Finding]:
    async for record in metadata.blob_records():
        tally.blobs += 1
        try:
            digest = Digest.parse(record.digest)
        except RegistryError as error:
            wrong = f"invalid blob digest {record.digest!r}: {_explain(error)}"
            yield Finding(Kind.RECORD, wrong)
            continue
        kind = Kind.BLOB
        try:
            problem = (
                None if digest in sound else await _check_blob(metadata, blobs, record, digest)
            )
        except RegistryError as error:
            kind, problem = Kind.UNREADABLE, f"cannot be read: {_explain(error)}"
        if problem is None:
            tally.bytes += record.size
        else:
            images = await metadata.images_with_blob(digest, NAMED)
            yield Finding(kind, f"blob {digest} {problem}", digest, images=images)


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
) -> AsyncIterator[Finding]:
    async for digest, _ in blobs.stored_blobs():
        if await metadata.blob_record(digest) is not None:
            continue
        async with metadata.hold_blob(digest):
            is_known = await metadata.blob_record(digest) is not None
            is_orphaned = not is_known and await blobs.stat(digest) is not None
        if is_orphaned:
            orphaned = f"orphaned blob: {digest} is stored, but not in the database"
            yield Finding(Kind.ORPHANED, orphaned, digest)


async def _check_uploads(
    metadata: InspectableMetadata, blobs: InspectableBlobs, tally: Tally
) -> AsyncIterator[Finding]:
    async for session in metadata.upload_records():
        tally.uploads += 1
        if not _is_valid(UploadId.parse, session.id):
            yield Finding(Kind.RECORD, f"invalid upload id {session.id!r}")
            continue
        if not _is_valid(RepositoryName.parse, session.repository):
            wrong = f"upload {session.id} has the invalid repository name {session.repository!r}"
            yield Finding(Kind.RECORD, wrong)
        held = await blobs.staged_size(UploadId.parse(session.id)) or 0
        # A session that has ended since took its bytes with it.
        if held < session.offset and await metadata.upload_record(session.id) == session:
            lost = f"upload {session.id} holds {held} bytes, but should hold {session.offset}"
            yield Finding(Kind.UPLOAD, lost, repository=session.repository, upload=session.id)


async def _name_orphaned(
    metadata: InspectableMetadata,
    blobs: InspectableBlobs,
    loose: Iterable[UploadId],
    orphaned: Iterable[OrphanedFile],
) -> AsyncIterator[Finding]:
    """Name what was there when the check began, and is still there and not in use."""
    findings = _look_again(metadata, blobs, loose, orphaned)
    async for finding in _guarded(findings, "orphaned files"):
        yield finding


async def _look_again(
    metadata: InspectableMetadata,
    blobs: InspectableBlobs,
    loose: Iterable[UploadId],
    orphaned: Iterable[OrphanedFile],
) -> AsyncIterator[Finding]:
    for upload in loose:
        size = await blobs.staged_size(upload)
        in_use = size is None or await blobs.is_held(upload)
        if not in_use and await metadata.upload_record(upload) is None:
            kept = f"orphaned upload: {upload} has {size} bytes and no session"
            yield Finding(Kind.ORPHANED, kept)
    for file in orphaned:
        if await blobs.is_orphaned(file):
            yield Finding(Kind.ORPHANED, f"orphaned file: {file.path}; {file.advice}")
