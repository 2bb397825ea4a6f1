"""The table of endpoints: what `/v2` offers, with the ids of the distribution-spec.

Routing, the statuses of both dialects, the OpenAPI description, the reference documentation and the
tests are all made from these rows. An endpoint that is not here does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from portside.spec import errors
from portside.spec.actions import Action
from portside.spec.dialects import Dialect
from portside.spec.parameters import (
    ARTIFACT_TYPE,
    DIGEST,
    DIGEST_ALGORITHM,
    DIGEST_AT_ONCE,
    FROM,
    LAST,
    MOUNT,
    TAG,
    N,
    QueryParameter,
)

ERRORS_OF_ALL: tuple[type[errors.RegistryError], ...] = (
    errors.NameInvalid,
    errors.Unauthorized,
    errors.Denied,
    errors.TooManyRequests,
    errors.HeadersTooLarge,
    errors.HostInvalid,
    errors.TransferEncodingUnsupported,
    errors.Unknown,
    errors.Unavailable,
)
"""What any endpoint can answer."""

_WRITES = (errors.StorageFull,)
_BODY = (errors.BodyTimeout, errors.BodyIncomplete, errors.ContentEncodingUnsupported)
_FIND_BLOB = (errors.DigestInvalid, errors.BlobUnknown, errors.PreconditionFailed)
_FIND_MANIFEST = (errors.DigestInvalid, errors.ManifestUnknown, errors.PreconditionFailed)
_SESSION = (errors.BlobUploadUnknown, errors.UploadBusy)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: a method on a path.

    `path` holds `{name}` for the repository and at most one other variable, which stands last.
    `status` is the one success of the `oci` dialect; `acr_status` is that of `acr-2017` where it
    differs. `other_statuses` are further answers that are no errors. `described` holds the statuses
    that the 2017 description lists, and is None where it does not know the endpoint.
    """

    id: str
    method: str
    path: str
    operation: str
    action: Action
    summary: str
    status: int = 200
    acr_status: int | None = None
    other_statuses: tuple[int, ...] = ()
    query: tuple[QueryParameter, ...] = ()
    errors: tuple[type[errors.RegistryError], ...] = ()
    described: frozenset[int] | None = None

    def success(self, dialect: Dialect) -> int:
        """Give the status of a success in a dialect."""
        if dialect is Dialect.ACR_2017 and self.acr_status is not None:
            return self.acr_status
        return self.status

    def failure(self, status: int, dialect: Dialect) -> int:
        """Give the status of an error in a dialect.

        A client generated from the 2017 description knows only the statuses listed there: what is
        denied to an identity becomes 401, another 4xx 400, or 404 where 400 is not listed either.
        """
        if dialect is Dialect.OCI or self.described is None or status in self.described:
            return status
        if status >= 500:  # noqa: PLR2004  # a server error is outside every description
            return status
        if status == errors.Denied.status:
            return errors.Unauthorized.status
        return 400 if 400 in self.described else 404  # noqa: PLR2004


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "end-1",
        "GET",
        "/v2/",
        "ping",
        Action.NONE,
        "Tell that this is a registry.",
        described=frozenset({200, 401, 404}),
    ),
    Endpoint(
        "end-2",
        "GET",
        "/v2/{name}/blobs/{digest}",
        "get_blob",
        Action.PULL,
        "Pull a blob, or a part of it.",
        other_statuses=(206, 304, 307),
        errors=(*_FIND_BLOB, errors.RangeNotSatisfiable),
        described=frozenset({200, 206, 307, 400, 401, 404, 416}),
    ),
    Endpoint(
        "end-2",
        "HEAD",
        "/v2/{name}/blobs/{digest}",
        "head_blob",
        Action.PULL,
        "Tell whether a blob is there, and its size.",
        other_statuses=(304,),
        errors=_FIND_BLOB,
        described=frozenset({200, 206, 307, 400, 401, 404, 416}),
    ),
    Endpoint(
        "end-3",
        "GET",
        "/v2/{name}/manifests/{reference}",
        "get_manifest",
        Action.PULL,
        "Pull a manifest by tag or by digest.",
        other_statuses=(304,),
        errors=_FIND_MANIFEST,
        described=frozenset({200, 400, 401, 404}),
    ),
    Endpoint(
        "end-3",
        "HEAD",
        "/v2/{name}/manifests/{reference}",
        "head_manifest",
        Action.PULL,
        "Tell whether a manifest is there, its digest, type and size.",
        other_statuses=(304,),
        errors=_FIND_MANIFEST,
    ),
    Endpoint(
        "end-4",
        "POST",
        "/v2/{name}/blobs/uploads/",
        "start_upload",
        Action.PUSH,
        "Open an upload session, push a blob in one request, or mount one.",
        status=202,
        other_statuses=(201,),
        query=(DIGEST_AT_ONCE, DIGEST_ALGORITHM, MOUNT, FROM),
        errors=(
            errors.DigestInvalid,
            errors.SizeInvalid,
            errors.BlobTooLarge,
            errors.RangeInvalid,
            *_BODY,
            *_WRITES,
        ),
        described=frozenset({201, 202, 400, 401}),
    ),
    Endpoint(
        "end-5",
        "PATCH",
        "/v2/{name}/blobs/uploads/{session}",
        "append_upload",
        Action.PUSH,
        "Append the body to an upload session.",
        status=202,
        acr_status=204,
        errors=(
            *_SESSION,
            errors.SizeInvalid,
            errors.BlobTooLarge,
            errors.OffsetMismatch,
            *_BODY,
            *_WRITES,
        ),
        described=frozenset({204, 400, 401, 404, 416}),
    ),
    Endpoint(
        "end-6",
        "PUT",
        "/v2/{name}/blobs/uploads/{session}",
        "finish_upload",
        Action.PUSH,
        "Append the body, if there is one, and end the session with the blob's digest.",
        status=201,
        acr_status=204,
        query=(DIGEST,),
        errors=(
            *_SESSION,
            errors.DigestInvalid,
            errors.SizeInvalid,
            errors.BlobTooLarge,
            errors.OffsetMismatch,
            *_BODY,
            *_WRITES,
        ),
        described=frozenset({204, 400, 401, 404}),
    ),
    Endpoint(
        "end-7",
        "PUT",
        "/v2/{name}/manifests/{reference}",
        "put_manifest",
        Action.PUSH,
        "Push a manifest under a tag, or under its digest and any number of tags.",
        status=201,
        acr_status=202,
        query=(TAG,),
        errors=(
            errors.DigestInvalid,
            errors.TagInvalid,
            errors.ManifestInvalid,
            errors.ManifestBlobUnknown,
            errors.PreconditionFailed,
            errors.ManifestTooLarge,
            errors.TooManyTags,
            *_BODY,
            *_WRITES,
        ),
        described=frozenset({202, 400, 401}),
    ),
    Endpoint(
        "end-8",
        "GET",
        "/v2/{name}/tags/list",
        "list_tags",
        Action.PULL,
        "List the tags of a repository, in ASCII order.",
        query=(N, LAST),
        errors=(errors.PaginationNumberInvalid, errors.NameUnknown),
        described=frozenset({200, 401, 404}),
    ),
    Endpoint(
        "end-9",
        "DELETE",
        "/v2/{name}/manifests/{reference}",
        "delete_manifest",
        Action.DELETE,
        "Delete a manifest with its tags by digest, or one tag.",
        status=202,
        errors=(
            errors.DigestInvalid,
            errors.ManifestUnknown,
            errors.DeleteDisabled,
            errors.ManifestInUse,
            errors.PreconditionFailed,
            *_WRITES,
        ),
        described=frozenset({202, 400, 401, 404}),
    ),
    Endpoint(
        "end-10",
        "DELETE",
        "/v2/{name}/blobs/{digest}",
        "delete_blob",
        Action.DELETE,
        "Delete a blob from a repository.",
        status=202,
        errors=(
            errors.DigestInvalid,
            errors.BlobUnknown,
            errors.DeleteDisabled,
            errors.BlobInUse,
            *_WRITES,
        ),
    ),
    Endpoint(
        "end-12",
        "GET",
        "/v2/{name}/referrers/{digest}",
        "list_referrers",
        Action.PULL,
        "List the manifests whose subject is this digest.",
        query=(ARTIFACT_TYPE, N, LAST),
        errors=(errors.DigestInvalid, errors.PaginationNumberInvalid),
    ),
    Endpoint(
        "end-13",
        "GET",
        "/v2/{name}/blobs/uploads/{session}",
        "get_upload",
        Action.PUSH,
        "Tell how much of an upload the registry holds.",
        status=204,
        errors=_SESSION[:1],
        described=frozenset({204, 400, 401, 404}),
    ),
    Endpoint(
        "end-14",
        "DELETE",
        "/v2/{name}/blobs/uploads/{session}",
        "cancel_upload",
        Action.PUSH,
        "Give up an upload session.",
        status=204,
        errors=(*_SESSION, *_WRITES),
        described=frozenset({204, 400, 401, 404}),
    ),
    Endpoint(
        "catalog",
        "GET",
        "/v2/_catalog",
        "list_repositories",
        Action.CATALOG,
        "List the repositories that hold a manifest, in ASCII order.",
        query=(N, LAST),
        errors=(errors.PaginationNumberInvalid,),
    ),
)
