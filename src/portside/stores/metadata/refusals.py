"""Errors that the store raises, with their texts."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    BlobUploadUnknown,
    ManifestBlobUnknown,
    ManifestInUse,
    ManifestUnknown,
    NameUnknown,
    OperationDisallowed,
    PreconditionFailed,
    QuotaExceeded,
    ReadOnly,
    TagImmutable,
    TagUnknown,
    TooManyRequests,
    Unavailable,
    UploadBusy,
)
from portside.spec.locks import ATTRIBUTES, Lock
from portside.spec.manifests import ManifestReference
from portside.spec.names import Reference, RepositoryName, Tag
from portside.spec.quantities import format_size
from portside.spec.uploads import UploadId
from portside.stores.copying import NotItsCopy

MAX_NAMED = 1000
"""Missing digests that an error names: few enough for an answer that every client reads."""

_UNTIL_UPLOADS_END = 60
"""Seconds after which a client may look whether sessions have ended."""


def blob_unknown(repository: RepositoryName | None, digest: Digest) -> BlobUnknown:
    """Return the error for a blob that is not in a repository, or in any."""
    where = f"repository {repository}" if repository else "any repository"
    return BlobUnknown(f"{digest} is not in {where}")


def blob_in_use(digest: Digest, manifest: str) -> BlobInUse:
    """Return the error for a blob that a manifest needs."""
    return BlobInUse(f"{digest} belongs to the manifest {manifest}; delete that one first")


def manifest_unknown(repository: RepositoryName, reference: Reference) -> ManifestUnknown:
    """Return the error for a manifest or tag that is not in a repository."""
    kind = "digest" if isinstance(reference, Digest) else "tag"
    return ManifestUnknown(f"repository {repository} has no manifest with the {kind} {reference}")


def manifest_incomplete(digest: str, lacked: str) -> ManifestUnknown:
    """Return the error for a deleted manifest that needs what is gone for good."""
    return ManifestUnknown(f"{digest} cannot be restored: it needs {lacked}, which is gone")


def tag_unknown(repository: RepositoryName, tag: Tag) -> TagUnknown:
    """Return the error for a tag that is not in a repository."""
    return TagUnknown(f"repository {repository} has no tag {tag}")


_TRASH = "list the trash to see what can be restored"


def not_in_trash(repository: RepositoryName, digest: Digest) -> ManifestUnknown:
    """Return the error for a manifest that was not deleted, or not kept long enough."""
    return ManifestUnknown(f"repository {repository} has no deleted manifest {digest}; {_TRASH}")


def nothing_in_trash(repository: RepositoryName) -> NameUnknown:
    """Return the error for a repository in which nothing can be restored."""
    return NameUnknown(f"nothing of repository {repository} is in the trash")


def refuse_locked(locks: int, forbidding: Lock, what: str) -> None:
    """Raise OperationDisallowed if one of the `forbidding` locks is set on what is named."""
    if not locks:
        return
    found = [name for lock, name in ATTRIBUTES.items() if locks & lock & forbidding]
    if found:
        verb = "is" if len(found) == 1 else "are"
        raise OperationDisallowed(f"{what} is locked: {' and '.join(found)} {verb} false")


class Remedy(enum.StrEnum):
    """What to do about an immutable tag that would be moved by a push, deleted or moved back."""

    PUSH = "push under another tag"
    DELETE = "to delete it, change the rules, or use `portside tag delete`"
    RESTORE = "to move it back, change the rules, or use `portside tag restore` without --rules"


def refuse_immutable(
    tags: Iterable[str],
    condition: TagCondition | None,
    repository: RepositoryName,
    remedy: Remedy,
) -> None:
    """Raise TagImmutable if one of the tags that would move or go is immutable."""
    patterns = condition.immutable if condition is not None else ()
    for tag in tags:
        for pattern in patterns:
            if pattern.matches(tag):
                raise TagImmutable(
                    f"tag {tag} of repository {repository} is immutable (by the rule {pattern});"
                    f" {remedy}"
                )


def manifest_in_use(digest: Digest, index: str) -> ManifestInUse:
    """Return the error for a manifest that an index lists."""
    return ManifestInUse(f"{digest} is listed by the index {index}; delete that one first")


def references_missing(missing: Sequence[ManifestReference]) -> ManifestBlobUnknown:
    """Return the error for a manifest that refers to what is not in its repository."""
    named = [f"{item.kind} {item.digest}" for item in missing[:MAX_NAMED]]
    if len(missing) > MAX_NAMED:
        named.append(f"and {len(missing) - MAX_NAMED} more")
    return ManifestBlobUnknown(*named)


def name_unknown(repository: RepositoryName) -> NameUnknown:
    """Return the error for a repository that does not exist."""
    return NameUnknown(f"nothing has been pushed to {repository}")


def upload_unknown(upload: UploadId) -> BlobUploadUnknown:
    """Return the error for an upload session that does not exist."""
    return BlobUploadUnknown(f"upload session {upload} does not exist; it may have ended")


def quota_exceeded(
    repository: RepositoryName, quota: int, taken: int, size: int, deleted: int, unreferenced: int
) -> QuotaExceeded:
    """Return the error for bytes that do not fit into what a repository may take."""
    if size > quota:
        return QuotaExceeded(
            f"{format_size(size)} are more than the whole quota of repository {repository},"
            f" {format_size(quota)}; push smaller layers, or raise the quota"
        )
    more = f", and {format_size(size)} more do not fit" if size else ""
    return QuotaExceeded(
        f"repository {repository} takes {format_size(taken)} of its quota of"
        f" {format_size(quota)}{more}; to free space, delete old images (`portside purge`), empty"
        f" the trash ({format_size(deleted)}, `portside trash empty`), and collect what no manifest"
        f" needs ({format_size(unreferenced)}, `portside collect --grace 0`)"
    )


def uploads_exceed_quota(repository: RepositoryName, quota: int, staged: int) -> QuotaExceeded:
    """Return the error for bytes of an upload session that do not fit beside those of others."""
    return QuotaExceeded(
        f"open upload sessions of repository {repository} have received {format_size(staged)}, and"
        f" together they may have {format_size(quota)}, its quota; finish or cancel some, or wait"
        " until they expire"
    )


def too_many_uploads(repository: RepositoryName, most: int) -> TooManyRequests:
    """Return the error for one session more than an identity may have open in a repository."""
    return TooManyRequests(
        _UNTIL_UPLOADS_END,
        f"{most} upload sessions are open in {repository}; finish or cancel some",
    )


def upload_moved(upload: UploadId) -> UploadBusy:
    """Return the error for an upload session that another request has moved."""
    return UploadBusy(
        f"another request has changed upload session {upload}; ask for its offset, and continue"
        " from there"
    )


def read_only() -> ReadOnly:
    """Return the error for a change while the registry is read-only."""
    return ReadOnly(
        "the registry is read-only while it is moved or maintained; pulls still work; try again"
        " later"
    )


def not_its_copy() -> NotItsCopy:
    """Return the error for a store that is not a copy of the source."""
    return NotItsCopy(
        "the target is independent now, or a copy of another registry; nothing was changed"
    )


def being_copied() -> Unavailable:
    """Return the error for a store that a copy or a backup is reading or writing."""
    return Unavailable(
        "another `portside copy-store`, `backup` or `restore` is running on this registry; wait for"
        " it"
    )


def not_empty() -> NotItsCopy:
    """Return the error for a target that holds another registry."""
    return NotItsCopy(
        "the target holds a registry that is not a copy of this one; choose an empty target"
    )


def refuse_unmet(condition: TagCondition | None, reference: Reference, current: str | None) -> None:
    """Raise PreconditionFailed unless a condition holds for what a reference points to."""
    if condition is not None and not condition.holds(current):
        state = f"points at {current}" if current else "does not exist"
        raise PreconditionFailed(f"{reference} {state}")
