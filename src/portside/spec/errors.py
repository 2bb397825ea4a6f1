"""Every error that Portside answers with, as one tree.

The leaves bear the wire code of the distribution-spec ("Error Codes") in CamelCase; codes that the
specification does not know are distribution's (RANGE_INVALID, TAG_INVALID,
PAGINATION_NUMBER_INVALID, UNAVAILABLE, UNKNOWN) or HTTP's own word (PRECONDITION_FAILED).

    RegistryError
     +-- NameInvalid, NameUnknown
     +-- DigestInvalid
     +-- TagInvalid
     |    +-- TooManyTags
     +-- TagUnknown, TagExists
     +-- ManifestUnknown, ManifestBlobUnknown
     +-- ManifestInvalid
     |    +-- ManifestTooLarge, ManifestNotConvertible
     +-- BlobUnknown
     +-- BlobUploadUnknown
     +-- BlobUploadInvalid
     |    +-- UploadBusy, BodyTimeout, BodyIncomplete
     +-- SizeInvalid
     |    +-- BlobTooLarge, FormTooLarge
     +-- RangeInvalid
     |    +-- RangeNotSatisfiable, OffsetMismatch
     +-- PaginationNumberInvalid
     +-- PreconditionFailed
     +-- Unsupported
     |    +-- DeleteDisabled, BlobInUse, ManifestInUse
     |    +-- EndpointUnknown, MethodNotAllowed
     |    +-- HeadersTooLarge, HostInvalid, HostNotServed
     |    +-- ContentEncodingUnsupported, TransferEncodingUnsupported
     |    +-- GrantTypeUnsupported, ParameterInvalid, AttributesInvalid
     |    +-- RestoreInvalid
     +-- Unauthorized, Denied, CrossSiteRefused, QuotaExceeded, TooManyRequests
     +-- Unavailable
     |    +-- StorageFull, ReadOnly, NotReady
     +-- Unknown
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from portside.spec.uploads import UploadSession


class RegistryError(Exception):
    """A request that cannot be answered as asked; the root of the tree.

    `details` explains the case at hand, one entry for each error of the body: names, digests and
    offsets, and what the client can do. A class without a `message` is a family, and never raised.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    message: ClassVar[str]
    is_private: ClassVar[bool] = False
    """Whether the details are for the log only: paths, hosts, buckets, what another server said."""

    def __init__(self, *details: str) -> None:
        super().__init__(*details)
        self.details: tuple[str, ...] = details or ("",)

    def __str__(self) -> str:
        """Return the message and the details as one line, for logs and the command line."""
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
    """The tag does not follow the grammar, or is not allowed here."""

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


class TagImmutable(RegistryError):
    """The rules of the registry forbid moving and deleting the tag.

    Docker does not repeat what is DENIED, and skopeo prints the message. It would try other media
    types after TAG_INVALID, and prints `unknown` for codes of ACR.
    """

    code = "DENIED"
    status = 409
    message = "an immutable tag cannot be moved or deleted"


class TagUnknown(RegistryError):
    """The repository has no such tag; ACR's code, which `/v2` does not use."""

    code = "TAG_UNKNOWN"
    status = 404
    message = "tag unknown to the repository"


class TagExists(RegistryError):
    """A tag that is to be restored points to another manifest; of `/acr/v1` alone."""

    code = "TAG_EXISTS"
    status = 409
    message = "the tag exists and points to another manifest"


class ManifestInvalid(RegistryError):
    """The manifest cannot be stored as it was sent (code-6)."""

    code = "MANIFEST_INVALID"
    status = 400
    message = "manifest invalid"


class ManifestTooLarge(ManifestInvalid):
    """The manifest is larger than the registry's limit ("Pushing Manifests": 413)."""

    status = 413
    message = "manifest is larger than the registry accepts"


class ManifestNotConvertible(ManifestInvalid):
    """A client asked for schema 1, which cannot express the manifest; distribution's answer."""

    message = "manifest cannot be converted to schema 1; accept its own media type to get it"


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
    """The upload session does not exist, or has ended (code-3)."""

    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404
    message = "upload session not known to registry"


class BlobUploadInvalid(RegistryError):
    """A request that an upload session cannot take (code-2); a family."""

    code = "BLOB_UPLOAD_INVALID"
    status = 400


class UploadBusy(BlobUploadInvalid):
    """Another request writes to the same upload session, and did not finish in time."""

    status = 409
    message = "another request is writing to this upload session"


class BodyTimeout(BlobUploadInvalid):
    """The client stopped sending its body; what arrived is kept."""

    status = 408
    message = "the request body stopped arriving"


class BodyIncomplete(BlobUploadInvalid):
    """The connection ended within the body; what arrived is kept."""

    message = "the request body was cut off"


class SizeInvalid(RegistryError):
    """The announced length and the content differ (code-10)."""

    code = "SIZE_INVALID"
    status = 400
    message = "provided length did not match content length"


class BlobTooLarge(SizeInvalid):
    """The blob is larger than the registry's limit."""

    status = 413
    message = "blob is larger than the registry accepts"


class FormTooLarge(SizeInvalid):
    """A form sent to the token server is too large."""

    status = 413
    message = "the form is larger than the token server accepts"


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
    """The chunk does not start at the offset of the upload session, which stays open.

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
    """An operation that is not supported here (code-13); a family."""

    code = "UNSUPPORTED"
    status = 405


class DeleteDisabled(Unsupported):
    """The registry is configured to keep everything."""

    message = "deleting is disabled in this registry"


class BlobInUse(Unsupported):
    """A manifest of the repository refers to the blob, so it cannot be deleted."""

    message = "blob is referenced by a manifest of the repository"


class ManifestInUse(Unsupported):
    """An index of the repository lists the manifest, so it cannot be deleted."""

    message = "manifest is listed by an index of the repository"


class OperationDisallowed(RegistryError):
    """A lock forbids the operation; code and status are ACR's."""

    code = "REGISTRY_DISALLOWED_OPERATION"
    status = 405
    message = "operation is disallowed on this registry, repository or image"


class MethodNotAllowed(Unsupported):
    """The endpoint exists, but not with this method."""

    message = "the endpoint does not support this method"


class EndpointUnknown(Unsupported):
    """No endpoint has this path."""

    status = 404
    message = "the registry has no such endpoint"


class HeadersTooLarge(Unsupported):
    """The request's header fields are larger than the limit (RFC 6585, section 5)."""

    status = 431
    message = "request header fields are too large"


class TooManyFields(Unsupported):
    """The query of the request has more parameters than the limit (RFC 9110, section 15.5.15)."""

    status = 414
    message = "too many query parameters"


class HostInvalid(Unsupported):
    """The request does not name one host (RFC 9112, section 3.2)."""

    status = 400
    message = "a request must have one Host header"


class HostNotServed(Unsupported):
    """An open registry on loopback is addressed by another name (RFC 9110, section 15.5.20)."""

    status = 421
    message = "the registry is not served under this host"


class ContentEncodingUnsupported(Unsupported):
    """The body is encoded; its digest is that of the bytes as they are (RFC 9110, 15.5.16)."""

    status = 415
    message = "content encodings are not supported"


class TransferEncodingUnsupported(Unsupported):
    """The registry does not know the transfer encoding of the body (RFC 9112, 6.1)."""

    status = 501
    message = "transfer encodings other than chunked are not supported"


class GrantTypeUnsupported(Unsupported):
    """The token server does not know the grant type of a request (RFC 6749, 5.2)."""

    status = 400
    message = "the grant type is not supported"


class ParameterInvalid(Unsupported):
    """A query parameter has a value that the endpoint does not know."""

    status = 400
    message = "invalid query parameter"


class AttributesInvalid(Unsupported):
    """A PATCH of `/acr/v1` does not hold attributes that can be changed."""

    status = 400
    message = "invalid changeable attributes"


class RestoreInvalid(Unsupported):
    """A request to restore does not hold what it may."""

    status = 400
    message = "invalid request to restore"


class Unauthorized(RegistryError):
    """The request needs credentials, or other ones (code-11).

    `challenge` is the WWW-Authenticate header that tells the client how to get them.
    """

    code = "UNAUTHORIZED"
    status = 401
    message = "authentication required"

    def __init__(self, challenge: str, *details: str) -> None:
        super().__init__(*details)
        self.challenge = challenge


class Denied(RegistryError):
    """The identity is not allowed to do this (code-12).

    `challenge` is for dialects that know no status but 401 for this.
    """

    code = "DENIED"
    status = 403
    message = "requested access to the resource is denied"

    def __init__(self, challenge: str, *details: str) -> None:
        super().__init__(*details)
        self.challenge = challenge


class CrossSiteRefused(RegistryError):
    """A web page of another site sent the request to an open registry on loopback."""

    code = "DENIED"
    status = 403
    message = "requests from web pages of other sites are refused"


class QuotaExceeded(RegistryError):
    """The repository would take more than its quota.

    Docker does not repeat what is DENIED, and clients print the message.
    """

    code = "DENIED"
    status = 403
    message = "the push would exceed the quota of the repository"


class TooManyRequests(RegistryError):
    """The client asks for too much at once; `seconds` is how long to wait (code-14)."""

    code = "TOOMANYREQUESTS"
    status = 429
    message = "too many requests"

    def __init__(self, seconds: int, *details: str) -> None:
        super().__init__(*details)
        self.seconds = seconds


class Unavailable(RegistryError):
    """The database or the blob store does not work now; the client may try again."""

    code = "UNAVAILABLE"
    status = 503
    message = "the registry cannot serve this request now"
    is_private = True


class StorageFull(Unavailable):
    """No space is left for the content (RFC 4918, section 11.5)."""

    status = 507
    message = "the registry has no storage space left"


class ReadOnly(Unavailable):
    """The registry is in read-only mode; `seconds` is when to try again."""

    message = "the registry is in read-only mode"
    is_private = False
    seconds = 10


class NotReady(Unavailable):
    """A probe has found that a store fails; the details say which, and not why."""

    message = "the registry is not ready"
    is_private = False


class Unknown(RegistryError):
    """A fault of the registry itself; the log has the details."""

    code = "UNKNOWN"
    status = 500
    message = "internal error of the registry"
    is_private = True
