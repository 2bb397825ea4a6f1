"""Check: compare everything that is known with everything that is stored.

The store is only read, and a registry may run meanwhile. Whatever looks wrong is looked up once
more before it is named: a blob while all writers wait, a manifest in one view of the database, a
stray file at the end of the check, for what a request makes for itself is gone by then. What cannot
be read is named, and the check goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import TypeVar

from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.manifests import Manifest, parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.uploads import UploadId
from portside.stores.inspection import (
    BlobFact,
    CheckableBlobs,
    CheckableMetadata,
    ManifestFact,
    Stray,
    UploadFact,
)

Item = TypeVar("Item")

LOOKS = 5
"""Times that a blob is looked at which vanishes, and is pushed again, while it is read."""


class Tally:
    """How much a check has seen."""

    def __init__(self) -> None:
        self.manifests = 0
        self.blobs = 0
        self.bytes = 0
        self.uploads = 0


def check(
    metadata: CheckableMetadata,
    blobs: CheckableBlobs,
    tally: Tally,
    *,
    pause: Callable[[], object],
    sound: Container[Digest] = frozenset(),
) -> Iterator[str]:
    """Give one line for each thing that is wrong; counts what it saw in `tally`.

    `pause` waits long enough for a registry that runs to remove what it has no use for any more.
    Blobs that are `sound` were read to their end before, and are not looked at again.
    """
    for directory in blobs.missing():
        yield f"directory {directory} is missing: restore it, or start the registry to make it anew"
    unclear: list[str] = []
    loose = [
        upload
        for upload, _ in _as_far(blobs.staged(), "uploads", unclear)
        if not _is_session(metadata, upload, unclear)
    ]
    strays = list(_as_far(blobs.strays(), "files", unclear))
    yield from unclear
    yield from _guarded(metadata.integrity_problems(), "the database")
    yield from _guarded(_check_names(metadata), "names")
    yield from _guarded(_check_manifests(metadata, tally), "manifests")
    yield from _guarded(_check_blobs(metadata, blobs, tally, sound), "blobs")
    yield from _guarded(_find_stray_blobs(metadata, blobs), "stored blobs")
    yield from _guarded(_check_uploads(metadata, blobs, tally), "upload sessions")
    if any(_guarded(_name_strays(metadata, blobs, loose, strays), "strays")):
        pause()
        yield from _guarded(_name_strays(metadata, blobs, loose, strays), "strays")


def _is_session(metadata: CheckableMetadata, upload: UploadId, unclear: list[str]) -> bool:
    """Look for a session; what cannot be looked up is not called a stray."""
    try:
        return metadata.upload_fact(upload) is not None
    except RegistryError as error:
        _note(unclear, "upload sessions", error)
        return True


def _as_far(items: Iterator[Item], what: str, unclear: list[str]) -> Iterator[Item]:
    """Go through items as far as they can be read; an error is noted, and is the end."""
    try:
        yield from items
    except RegistryError as error:
        _note(unclear, what, error)


def _guarded(problems: Iterator[str], what: str) -> Iterator[str]:
    """Give problems as far as can be, and an error as the last of them."""
    unclear: list[str] = []
    yield from _as_far(problems, what, unclear)
    yield from unclear


def _note(unclear: list[str], what: str, error: RegistryError) -> None:
    line = f"{what} cannot be read to the end: {_explain(error)}"
    if line not in unclear:
        unclear.append(line)


def _explain(error: RegistryError) -> str:
    return "; ".join(error.details)


def _check_names(metadata: CheckableMetadata) -> Iterator[str]:
    for repository in metadata.repository_names():
        if not _is_valid(RepositoryName.parse, repository):
            yield f"repository {repository!r} has a name that no repository can have"
    for repository, tag in metadata.tag_names():
        if not _is_valid(Tag.parse, tag):
            yield f"tag {tag!r} of repository {repository!r} has a name that no tag can have"


def _is_valid(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except RegistryError:
        return False
    return True


def _check_manifests(metadata: CheckableMetadata, tally: Tally) -> Iterator[str]:
    for fact in metadata.manifest_facts():
        tally.manifests += 1
        name = f"manifest {fact.repository}@{fact.digest}"
        for problem in _check_manifest(fact):
            yield f"{name} {problem}"


def _check_manifest(fact: ManifestFact) -> Iterator[str]:
    if len(fact.payload) != fact.size:
        yield f"has {len(fact.payload)} bytes, and {fact.size} are noted"
    for reference in fact.references:
        if reference.required and not reference.present:
            yield f"refers to the missing {reference.kind} {reference.digest}"
    try:
        read = parse_manifest(
            fact.payload, content_type=fact.media_type, expected=Digest.parse(fact.digest)
        )
    except RegistryError as error:
        yield f"is damaged: {error}"
    else:
        yield from _compare(fact, read)


def _compare(fact: ManifestFact, read: Manifest) -> Iterator[str]:
    """Compare what the payload says with what is noted of it.

    Whether a reference is required is not compared: a registry may be served with sparse indexes.
    """
    noted = {(reference.kind, reference.digest) for reference in fact.references}
    if noted != {(str(reference.kind), str(reference.digest)) for reference in read.references}:
        yield "refers to other content than is noted for it"
    if read.subject != fact.subject:
        yield f"has the subject {read.subject}, and {fact.subject} is noted"
    if read.artifact_type != fact.artifact_type:
        yield f"has the artifact type {read.artifact_type}, and {fact.artifact_type} is noted"
    if read.annotations != fact.annotations:
        yield "has other annotations than are noted for it"


def _check_blobs(
    metadata: CheckableMetadata, blobs: CheckableBlobs, tally: Tally, sound: Container[Digest]
) -> Iterator[str]:
    for fact in metadata.blob_facts():
        tally.blobs += 1
        try:
            digest = Digest.parse(fact.digest)
        except RegistryError as error:
            yield f"blob {fact.digest!r} is known by what is no digest: {_explain(error)}"
            continue
        try:
            problem = None if digest in sound else _check_blob(metadata, blobs, fact, digest)
        except RegistryError as error:
            problem = f"cannot be read: {_explain(error)}"
        if problem is None:
            tally.bytes += fact.size
        else:
            yield f"blob {digest} {problem}"


def _check_blob(
    metadata: CheckableMetadata, blobs: CheckableBlobs, known: BlobFact, digest: Digest
) -> str | None:
    """Read a blob; if that does not show it to be sound, look again at what should be there."""
    if blobs.size(digest) == known.size and blobs.verify(digest):
        return None
    for _ in range(LOOKS):
        with metadata.quiet():
            fact = metadata.blob_fact(digest)
            size = blobs.size(digest)
        if fact is None:
            return None
        if size is None:
            return "is missing"
        if size != fact.size:
            return f"has {size} bytes, and should have {fact.size}"
        is_sound = blobs.verify(digest)
        if is_sound is not None:
            return None if is_sound else "is damaged: its content has another digest"
    return None


def _find_stray_blobs(metadata: CheckableMetadata, blobs: CheckableBlobs) -> Iterator[str]:
    for digest, _ in blobs.objects():
        if metadata.blob_fact(digest) is not None:
            continue
        with metadata.quiet():
            is_stray = metadata.blob_fact(digest) is None and blobs.size(digest) is not None
        if is_stray:
            yield f"stray blob: {digest} is stored, and nothing refers to it"


def _check_uploads(
    metadata: CheckableMetadata, blobs: CheckableBlobs, tally: Tally
) -> Iterator[str]:
    for session in metadata.upload_facts():
        tally.uploads += 1
        if not _is_valid(UploadId.parse, session.id):
            yield f"upload {session.id!r} has an id that no upload can have"
            continue
        if not _is_valid(RepositoryName.parse, session.repository):
            yield f"upload {session.id} is for {session.repository!r}, which is no repository name"
        held = _held(blobs, session)
        # A session that ended meanwhile took its bytes with it.
        if held < session.offset and metadata.upload_fact(session.id) == session:
            yield f"upload {session.id} holds {held} bytes, and should hold {session.offset}"


def _held(blobs: CheckableBlobs, session: UploadFact) -> int:
    return blobs.staged_size(UploadId.parse(session.id)) or 0


def _name_strays(
    metadata: CheckableMetadata,
    blobs: CheckableBlobs,
    loose: Iterable[UploadId],
    strays: Iterable[Stray],
) -> Iterator[str]:
    """Name what was there when the check began, and is still there and not in use."""
    for upload in loose:
        size = blobs.staged_size(upload)
        in_use = size is None or blobs.is_held(upload)
        if not in_use and metadata.upload_fact(upload) is None:
            yield f"stray upload: {upload} has {size} bytes and no session"
    for stray in strays:
        if blobs.is_stray(stray):
            yield f"stray file: {stray.path}; {stray.advice}"
