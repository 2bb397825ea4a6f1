"""What a store refuses, and in which words: the same ones whichever engine it is on."""

from __future__ import annotations

from collections.abc import Iterable

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    BlobUploadUnknown,
    ManifestBlobUnknown,
    ManifestInUse,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    PreconditionFailed,
    ReadOnly,
    UploadBusy,
)
from portside.spec.manifests import Manifest, ManifestReference, ReferenceKind
from portside.spec.names import Reference, RepositoryName
from portside.spec.uploads import UploadId
from portside.stores.copying import NotItsCopy

MAX_NAMED = 1000
"""Missing digests that an error names; so many fit into an answer that every client reads."""


def blob_unknown(repository: RepositoryName | None, digest: Digest) -> BlobUnknown:
    """Say that a blob is not in a repository, or in any."""
    where = f"repository {repository}" if repository else "any repository"
    return BlobUnknown(f"{digest} is not in {where}")


def blob_in_use(digest: Digest, manifest: str) -> BlobInUse:
    """Say which manifest needs a blob."""
    return BlobInUse(f"{digest} belongs to the manifest {manifest}; delete that one first")


def manifest_unknown(repository: RepositoryName, reference: Reference) -> ManifestUnknown:
    """Say that there is no such manifest."""
    kind = "digest" if isinstance(reference, Digest) else "tag"
    return ManifestUnknown(f"repository {repository} has no manifest with the {kind} {reference}")


def manifest_in_use(digest: Digest, index: str) -> ManifestInUse:
    """Say which index lists a manifest."""
    return ManifestInUse(f"{digest} is listed by the index {index}; delete that one first")


def name_unknown(repository: RepositoryName) -> NameUnknown:
    """Say that there is no such repository."""
    return NameUnknown(f"nothing has been pushed to {repository}")


def upload_unknown(upload: UploadId) -> BlobUploadUnknown:
    """Say that there is no such session."""
    return BlobUploadUnknown(f"upload session {upload} does not exist; it may have ended")


def upload_moved(upload: UploadId) -> UploadBusy:
    """Say that a session stands elsewhere than where the request resumed it."""
    return UploadBusy(
        f"another request moved upload session {upload} meanwhile; ask for its offset, and go on"
        " from there"
    )


def read_only() -> ReadOnly:
    """Say that nothing may change, and what goes on."""
    return ReadOnly("it is being moved or looked after; pulls go on, and pushes will: try again")


def not_its_copy() -> NotItsCopy:
    """Say that a store is no copy of the registry that is to be copied into it."""
    return NotItsCopy(
        "the target stands for itself now, or is a copy of another registry; nothing was changed"
    )


def not_empty() -> NotItsCopy:
    """Say that a store holds another registry already."""
    return NotItsCopy(
        "the target holds a registry, and not a copy of this one; name an empty one to copy into"
    )


def judge_condition(
    reference: Reference, current: str | None, condition: TagCondition | None
) -> None:
    """Refuse a change of what has another digest than it must have; raises PreconditionFailed."""
    if condition is not None and not condition.holds(current):
        state = f"points at {current}" if current else "does not exist"
        raise PreconditionFailed(f"{reference} {state}")


def must_be_present(reference: ManifestReference, *, check_children: bool) -> bool:
    """Tell whether a manifest is refused without what it refers to."""
    is_checked = check_children or reference.kind is not ReferenceKind.MANIFEST
    return reference.required and is_checked


def refuse_missing(missing: list[ManifestReference]) -> None:
    """Name what a manifest refers to and is not there; raises ManifestBlobUnknown."""
    if missing:
        named = [f"{item.kind} {item.digest}" for item in missing[:MAX_NAMED]]
        if len(missing) > MAX_NAMED:
            named.append(f"and {len(missing) - MAX_NAMED} more")
        raise ManifestBlobUnknown(*named)


def check_retyping(
    known: Iterable[tuple[str, str]], media_type: str, subject: str | None, manifest: Manifest
) -> None:
    """Let a type be corrected, and not be taken away with everything that it says.

    `known` are the kinds and digests that the stored manifest refers to. Raises ManifestInvalid.
    """
    kept = {(str(reference.kind), str(reference.digest)) for reference in manifest.references}
    if set(known) - kept or (subject is not None and subject != manifest.subject):
        stored = (
            f"{manifest.digest} is stored as {media_type}; as {manifest.media_type} it would no"
            " longer refer to what it needs"
        )
        raise ManifestInvalid(stored)
