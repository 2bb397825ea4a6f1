"""Every error that Portside answers with, as one tree.

The leaves bear the wire code of the distribution-spec ("Error Codes") in CamelCase; codes that the
specification does not know are distribution's (RANGE_INVALID, TAG_INVALID,
PAGINATION_NUMBER_INVALID, UNAVAILABLE, UNKNOWN) or HTTP's own word (PRECONDITION_FAILED).

    RegistryError
     +-- NameInvalid, NameUnknown
     +-- DigestInvalid
     +-- TagInvalid
     |    +-- TooManyTags
     +-- ManifestUnknown, ManifestBlobUnknown
     +-- ManifestInvalid
     |    +-- ManifestTooLarge
     +-- BlobUnknown
     +-- BlobUploadUnknown
     +-- BlobUploadInvalid
     |    +-- UploadBusy, BodyTimeout, BodyIncomplete
     +-- SizeInvalid
     |    +-- BlobTooLarge
     +-- RangeInvalid
     |    +-- RangeNotSatisfiable, OffsetMismatch
     +-- PaginationNumberInvalid
     +-- PreconditionFailed
     +-- Unsupported
     |    +-- DeleteDisabled, BlobInUse, ManifestInUse
     |    +-- those of `http_errors`
     +-- Unavailable
     |    +-- StorageFull, ReadOnly
     +-- Unknown
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from portside.spec.uploads import UploadSession


class RegistryError(Exception):
    """A request that cannot be answered as asked; the root of the tree.

    `details` explains the case at hand, one entry for each error of the body: names, digests and
    offsets, and what the client can do.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    message: ClassVar[str]

    def __init__(self, *details: str) -> None:
        super().__init__(*details)
        self.details: tuple[str, ...] = details or ("",)

    def __str__(self) -> str:
        """Give the message and the details as one line, for logs and the command line."""
        explained = "; ".join(detail for detail in self.details if detail)
        return f"{self.message}: {explained}" if explained else self.message


class NameInvalid(RegistryError):
    """The repository name does not follow the grammar (code-8)."""

    code = "NAME_INVALID"
    status = 400
    message = "invalid repository name"


class NameUnknown(RegistryError):
    """The registry holds no repository of that name (code-9)."""

    code = "NAME_UNKNOWN"
    status = 404
    message = "repository name not known to registry"


class DigestInvalid(RegistryError):
    """The digest is malformed or is not that of the content (code-4)."""

    code = "DIGEST_INVALID"
    status = 400
    message = "provided digest is malformed or did not match the content"


class TagInvalid(RegistryError):
    """The tag does not follow the grammar or stands where none may."""

    code = "TAG_INVALID"
    status = 400
    message = "invalid tag"


class TooManyTags(TagInvalid):
    """A manifest push names more tags than the registry applies at once (end-7b)."""

    status = 414
    message = "too many tags in one request"


class ManifestUnknown(RegistryError):
    """The repository holds no manifest under that tag or digest (code-7)."""

    code = "MANIFEST_UNKNOWN"
    status = 404
    message = "manifest unknown to the repository"


class ManifestInvalid(RegistryError):
    """The manifest cannot be stored as it was sent (code-6)."""

    code = "MANIFEST_INVALID"
    status = 400
    message = "manifest invalid"


class ManifestTooLarge(ManifestInvalid):
    """The manifest is larger than the registry's limit ("Pushing Manifests": 413)."""

    status = 413
    message = "manifest is larger than the registry accepts"


class ManifestBlobUnknown(RegistryError):
    """A manifest refers to content that the repository does not hold (code-5); one detail each."""

    code = "MANIFEST_BLOB_UNKNOWN"
    status = 400
    message = "manifest references a blob or manifest unknown to the repository"


class BlobUnknown(RegistryError):
    """The blob is not linked in the repository (code-1)."""

    code = "BLOB_UNKNOWN"
    status = 404
    message = "blob unknown to the repository"


class BlobUploadUnknown(RegistryError):
    """There is no such upload session, or there is none any more (code-3)."""

    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404
    message = "upload session not known to registry"


class BlobUploadInvalid(RegistryError):
    """The upload session cannot take this request (code-2)."""

    code = "BLOB_UPLOAD_INVALID"
    status = 400
    message = "upload request invalid"


class UploadBusy(BlobUploadInvalid):
    """Another request writes to the same upload session, and did not finish in time."""

    status = 409
    message = "another request is writing to this upload session"


class BodyTimeout(BlobUploadInvalid):
    """The client stopped sending its body; what arrived is kept."""

    status = 408
    message = "the request body stopped arriving"


class BodyIncomplete(BlobUploadInvalid):
    """The connection ended within the body; what arrived is kept, and nobody reads this answer."""

    message = "the request body ended early"


class SizeInvalid(RegistryError):
    """The announced length and the content differ (code-10)."""

    code = "SIZE_INVALID"
    status = 400
    message = "provided length did not match content length"


class BlobTooLarge(SizeInvalid):
    """The blob is larger than the registry's limit."""

    status = 413
    message = "blob is larger than the registry accepts"


class RangeInvalid(RegistryError):
    """The Range or Content-Range header cannot be accepted."""

    code = "RANGE_INVALID"
    status = 416
    message = "invalid content range"


class RangeNotSatisfiable(RangeInvalid):
    """No byte of the blob lies in the requested range (RFC 9110, section 15.5.17).

    `size` is the blob's size in bytes.
    """

    message = "requested range not satisfiable"

    def __init__(self, size: int, *details: str) -> None:
        super().__init__(*details)
        self.size = size


class OffsetMismatch(RangeInvalid):
    """The chunk does not start where the upload session stands; the session stays alive.

    `session` says where that is, so that the client can go on from there.
    """

    message = "chunk does not start at the upload session's offset"

    def __init__(self, session: UploadSession, *details: str) -> None:
        super().__init__(*details)
        self.session = session


class PaginationNumberInvalid(RegistryError):
    """The parameter `n` is not a whole number of zero or more."""

    code = "PAGINATION_NUMBER_INVALID"
    status = 400
    message = "invalid number of results requested"


class PreconditionFailed(RegistryError):
    """If-Match or If-None-Match do not hold for the tag (RFC 9110, section 13.1)."""

    code = "PRECONDITION_FAILED"
    status = 412
    message = "the tag is not in the state that the request requires"


class Unsupported(RegistryError):
    """The operation is not supported here (code-13)."""

    code = "UNSUPPORTED"
    status = 405
    message = "the operation is unsupported"


class DeleteDisabled(Unsupported):
    """The registry is configured to keep everything."""

    message = "deleting is disabled in this registry"


class BlobInUse(Unsupported):
    """A manifest of the repository needs the blob, so that it may not be deleted."""

    message = "blob is referenced by a manifest of the repository"


class ManifestInUse(Unsupported):
    """An index of the repository lists the manifest, so that it may not be deleted."""

    message = "manifest is listed by an index of the repository"


class Unavailable(RegistryError):
    """The database or the blob store cannot do its part; the client may try again."""

    code = "UNAVAILABLE"
    status = 503
    message = "the registry cannot serve this request now"


class StorageFull(Unavailable):
    """There is no room left for the content (RFC 4918, section 11.5)."""

    status = 507
    message = "the registry has no storage space left"


class ReadOnly(Unavailable):
    """The registry may not change now, as at the end of a move; `seconds` is when to try again."""

    message = "the registry is read-only now"
    seconds = 10


class Unknown(RegistryError):
    """A fault of the registry itself; the log says more."""

    code = "UNKNOWN"
    status = 500
    message = "internal error of the registry"
