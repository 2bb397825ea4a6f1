"""Check: compare everything that is known with everything that is stored.

The store is only read. A registry that runs meanwhile goes on: what it adds or deletes during the
check is looked up once more before it is called a problem.
"""

from __future__ import annotations

from collections.abc import Iterator

from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.manifests import Manifest, parse_manifest
from portside.spec.names import RepositoryName
from portside.stores.inspection import CheckableBlobs, CheckableMetadata


class Tally:
    """How much a check has seen."""

    def __init__(self) -> None:
        self.manifests = 0
        self.blobs = 0
        self.bytes = 0
        self.uploads = 0


def check(metadata: CheckableMetadata, blobs: CheckableBlobs, tally: Tally) -> Iterator[str]:
    """Give one line for each thing that is wrong; counts what it saw in `tally`."""
    yield from metadata.integrity_problems()
    for repository, manifest, size in metadata.manifest_facts():
        tally.manifests += 1
        yield from _check_manifest(repository, manifest, size)
    yield from _check_blobs(metadata, blobs, tally)
    yield from _check_uploads(metadata, blobs, tally)
    for stray in blobs.strays():
        yield f"stray file: {stray}"


def _check_manifest(repository: RepositoryName, manifest: Manifest, size: int) -> Iterator[str]:
    name = f"manifest {repository}@{manifest.digest}"
    if manifest.size != size:
        yield f"{name} has {manifest.size} bytes, and {size} are noted"
    try:
        read = parse_manifest(
            manifest.payload, content_type=manifest.media_type, expected=manifest.digest
        )
    except RegistryError as error:
        yield f"{name} is damaged: {error}"
        return
    if read.references != manifest.references:
        yield f"{name} refers to other content than is noted for it"
    if read.subject != manifest.subject:
        yield f"{name} has the subject {read.subject}, and {manifest.subject} is noted"


def _check_blobs(metadata: CheckableMetadata, blobs: CheckableBlobs, tally: Tally) -> Iterator[str]:
    stored = dict(blobs.objects())
    for fact in metadata.blob_facts():
        tally.blobs += 1
        size = stored.pop(fact.digest, None)
        if size is None:
            yield f"blob {fact.digest} is missing"
            continue
        tally.bytes += size
        if size != fact.size:
            yield f"blob {fact.digest} has {size} bytes, and should have {fact.size}"
        elif not blobs.verify(fact.digest):
            yield f"blob {fact.digest} is damaged: its content has another digest"
    for digest in sorted(stored):
        yield from _stray_blob(digest)


def _stray_blob(digest: Digest) -> Iterator[str]:
    yield f"stray blob: {digest} is stored, and nothing refers to it"


def _check_uploads(
    metadata: CheckableMetadata, blobs: CheckableBlobs, tally: Tally
) -> Iterator[str]:
    staged = dict(blobs.staged())
    for session in metadata.upload_facts():
        tally.uploads += 1
        held = staged.pop(session.id, 0)
        if held < session.offset:
            yield f"upload {session.id} holds {held} bytes, and should hold {session.offset}"
    for upload, size in sorted(staged.items()):
        yield f"stray upload: {upload} has {size} bytes and no session"
