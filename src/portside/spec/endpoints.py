"""The table of endpoints, with the ids of the distribution-spec.

Routing, the statuses of both dialects, the OpenAPI description, the reference documentation and the
tests are all made from these rows. An endpoint that is not here does not exist. A new one takes a
row, a handler in `api` of the name in the column `operation`, and what the handler calls in
`operations`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from portside.spec import acr, errors, media_types
from portside.spec.actions import Action
from portside.spec.dialects import Dialect
from portside.spec.errors import RegistryError


@dataclass(frozen=True, slots=True)
class PathVariable:
    """A variable in a path, and the JSON Schema of its texts."""

    name: str
    meaning: str
    schema: dict[str, Any]


VARIABLES: tuple[PathVariable, ...] = (
    PathVariable(
        "name",
        "name of the repository; its slashes may be percent-encoded",
        {
            "type": "string",
            "maxLength": 255,
            "pattern": r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
        },
    ),
    PathVariable(
        "reference",
        "a tag or a digest",
        {"type": "string", "maxLength": 135, "pattern": r"^[a-zA-Z0-9_][a-zA-Z0-9._:-]*$"},
    ),
    PathVariable(
        "digest",
        "a digest",
        {"type": "string", "pattern": r"^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$"},
    ),
    PathVariable(
        "tag",
        "a tag",
        {"type": "string", "maxLength": 128, "pattern": r"^[a-zA-Z0-9_][a-zA-Z0-9._-]*$"},
    ),
    PathVariable(
        "session",
        "id of an upload session",
        {"type": "string", "pattern": r"^[a-f0-9]{32}$"},
    ),
)
"""Every variable that a path may hold."""


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter in the query of a request."""

    name: str
    meaning: str
    required: bool = False
    repeated: bool = False


DIGEST = QueryParameter("digest", "digest of the blob", required=True)
DIGEST_AT_ONCE = QueryParameter("digest", "digest of the blob in the body of this request")
DIGEST_ALGORITHM = QueryParameter(
    "digest-algorithm", "digest algorithm with which the upload will be committed"
)
MOUNT = QueryParameter("mount", "digest of a blob to mount from another repository")
FROM = QueryParameter("from", "repository that holds the blob to mount")
TAG = QueryParameter("tag", "tag to point at the manifest; may be repeated", repeated=True)
N = QueryParameter("n", "maximum number of results, zero or more")
LAST = QueryParameter("last", "list the entries after this one")
ORDER_BY = QueryParameter(
    "orderby", "order of the results: `timeasc`, `timedesc`, or by name (`none`, the default)"
)
OF_MANIFEST = QueryParameter("digest", "list only the tags of this manifest")
LAST_CHANGE = QueryParameter("last", "list the changes before this time")
TO_DIGEST = QueryParameter("digest", "manifest to point the tag to; this or `at` is required")
AT = QueryParameter("at", "time (ISO 8601): point the tag to what it pointed to then")
FORCE = QueryParameter("force", "`true` moves the tag if it points to another manifest")
REPOSITORIES = QueryParameter(
    "repository",
    "send only events of this repository, or of a pattern such as `team/*`",
    repeated=True,
)
ACTION = QueryParameter("action", "send only this action, such as `tag.set`, or `tag.*`")
AFTER = QueryParameter("after", "send the events after this id, as the header Last-Event-ID does")
FOLLOW = QueryParameter("follow", "`false` ends the response after the events that there are")
ARTIFACT_TYPE = QueryParameter("artifactType", "list only referrers of this artifact type")


class Error(msgspec.Struct, frozen=True):
    """One entry of an error's body."""

    code: str
    message: str
    detail: str


class Errors(msgspec.Struct, frozen=True):
    """The body of every error ("Error Codes")."""

    errors: Annotated[list[Error], Meta(min_length=1)]


class Tags(msgspec.Struct, frozen=True):
    """A list of tags (end-8)."""

    name: str
    tags: list[str]


class TagChange(msgspec.Struct, frozen=True):
    """A change of a tag.

    `digest` is what the tag pointed to from then on, or until then if it was deleted. `identity` is
    null for anonymous clients, for anonymous readers, and where it is not known. `manifest` says
    whether the manifest is still in the repository, was deleted and can be restored, or is gone.
    """

    time: str
    action: Literal["set", "deleted", "restored"]
    digest: str
    identity: str | None
    manifest: Literal["present", "deleted", "purged"]


class TagChanges(msgspec.Struct, frozen=True):
    """The history of a tag, newest first."""

    name: str
    tag: str
    changes: list[TagChange]


class EventDocument(msgspec.Struct, frozen=True):
    """A change of content, in the field `data` of each event of the stream.

    `reference` is a tag, `identity` is null for anonymous clients, and `request` is the id of the
    request that made the change, null if none did. Both are null to anonymous readers. The page
    "See who did what" lists the actions and their details.
    """

    id: int
    time: str
    action: str
    repository: str
    reference: str | None
    digest: str | None
    media_type: str | None
    size: int | None
    identity: str | None
    request: str | None
    details: dict[str, Any]


class PointedBack(msgspec.Struct, frozen=True):
    """What a tag points to after it was restored.

    `before` is what it pointed to, null if it did not exist; `manifests` are the digests of what
    was restored with it.
    """

    name: str
    tag: str
    digest: str
    before: str | None
    manifests: list[str]


class Repositories(msgspec.Struct, frozen=True):
    """A list of repositories."""

    repositories: list[str]


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """A list of referrers, which is an image index (end-12)."""

    schema_version: Literal[2]
    media_type: Annotated[str, Meta(extra_json_schema={"const": media_types.OCI_INDEX})]
    manifests: list[dict[str, Any]]


class Extension(msgspec.Struct, frozen=True):
    """An extension of the distribution-spec that the registry offers ("_oci Extension Endpoints").

    `url` leads to its documentation.
    """

    name: str
    url: str
    description: str
    endpoints: list[str]


class Extensions(msgspec.Struct, frozen=True):
    """The extensions that the registry offers."""

    extensions: list[Extension]


class Links(msgspec.Struct, frozen=True):
    """Paths of this registry: the API, and its description."""

    api: str
    description: str


class Root(msgspec.Struct, frozen=True):
    """What this server is; the version is only for those who have proved who they are."""

    name: str
    links: Links
    version: str | msgspec.UnsetType = msgspec.UNSET


class Status(msgspec.Struct, frozen=True):
    """The result of a probe."""

    status: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a request or an answer carries: its media type, and the document that it holds.

    `document` is a type that msgspec knows; bytes that the registry does not look into are `Any`.
    """

    media_type: str
    document: Any = Any


_OCTETS = Content(media_types.OCTET_STREAM)
_OBJECT = Content(media_types.JSON, dict)
_CHANGE = Content(media_types.JSON, acr.AttributesChange)

_HEAD = (
    errors.HeadersTooLarge,
    errors.TooManyFields,
    errors.HostInvalid,
    errors.TransferEncodingUnsupported,
)
"""The errors of every endpoint: what is wrong with the head of a request."""

ERRORS_OF_ALL: tuple[type[RegistryError], ...] = (
    errors.NameInvalid,
    errors.Unauthorized,
    errors.Denied,
    errors.TooManyRequests,
    *_HEAD,
    errors.HostNotServed,
    errors.CrossSiteRefused,
    errors.Unknown,
    errors.Unavailable,
)
"""The errors of every endpoint under `/v2` and `/acr/v1`."""

_WRITES = (errors.StorageFull,)
_BODY = (errors.BodyTimeout, errors.BodyIncomplete, errors.ContentEncodingUnsupported)
_FIND_BLOB = (
    errors.DigestInvalid,
    errors.BlobUnknown,
    errors.PreconditionFailed,
    errors.OperationDisallowed,
)
_FIND_MANIFEST = (
    errors.DigestInvalid,
    errors.ManifestUnknown,
    errors.ManifestNotConvertible,
    errors.PreconditionFailed,
    errors.OperationDisallowed,
)
_SESSION = (errors.BlobUploadUnknown, errors.UploadBusy)
_PAGES = (errors.PaginationNumberInvalid, errors.ParameterInvalid, errors.NameUnknown)
_ATTRIBUTES = (errors.AttributesInvalid, *_BODY, *_WRITES)
_DELETE = (errors.DeleteDisabled, errors.OperationDisallowed, errors.TagImmutable, *_WRITES)


_TOKENS = (
    errors.Unauthorized,
    errors.TooManyRequests,
    errors.EndpointUnknown,
    errors.Unavailable,
)
_FORM = (
    errors.GrantTypeUnsupported,
    errors.FormTooLarge,
    errors.BodyTimeout,
    errors.BodyIncomplete,
)

_TO_PUSH = (Action.PULL, Action.PUSH)
"""What a challenge names for a push: a client that pushes also looks for what is there already.

HEAD of a blob is what a push begins with, and oras for Python pushes with the token that it got for
its first request (oras-py#187). A client that may not push gets a token to pull all the same.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One row: a method on a path.

    `path` holds `{name}` for the repository and at most one other variable, which is last.
    `status` is the one success of the `oci` dialect; `acr_status` is that of `acr-2017` where it
    differs. `other_statuses` are further statuses that are not errors. `described` holds the
    statuses that the 2017 description lists, or is None if it does not know the endpoint.

    `action` is None if the endpoint asks for no credentials. `challenge` lists the actions that a
    challenge names; empty, it is the action alone. `body` is what a request may carry, or must if
    `needs_body`; `result` is what a success carries. `is_of_acr` says that the endpoint is part of
    ACR's own API, whose clients wait for a challenge.
    """

    id: str
    method: str
    path: str
    operation: str
    action: Action | None
    summary: str
    status: int = 200
    acr_status: int | None = None
    other_statuses: tuple[int, ...] = ()
    challenge: tuple[Action, ...] = ()
    query: tuple[QueryParameter, ...] = ()
    body: Content | None = None
    needs_body: bool = False
    result: Content | None = None
    errors: tuple[type[RegistryError], ...] = ()
    described: frozenset[int] | None = None

    is_of_acr: bool = field(init=False)

    def __post_init__(self) -> None:
        """Note what every request asks for."""
        object.__setattr__(self, "is_of_acr", self.path.startswith("/acr/"))

    @property
    def every_error(self) -> tuple[type[RegistryError], ...]:
        """The endpoint's own errors, and those of all that ask who the caller is."""
        return (*self.errors, *(_HEAD if self.action is None else ERRORS_OF_ALL))

    def success(self, dialect: Dialect) -> int:
        """Return the status of a success in a dialect."""
        if dialect is Dialect.ACR_2017 and self.acr_status is not None:
            return self.acr_status
        return self.status

    def failure(self, status: int, dialect: Dialect) -> int:
        """Return the status of an error in a dialect.

        A client generated from the 2017 description knows only the statuses listed there: 403
        becomes 401, any other 4xx becomes 400, or 404 if 400 is not listed either.
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
        "Check that this is a registry.",
        result=_OBJECT,
        described=frozenset({200, 401, 404}),
    ),
    Endpoint(
        "end-2",
        "GET",
        "/v2/{name}/blobs/{digest}",
        "get_blob",
        Action.PULL,
        "Pull a blob or a part of it.",
        other_statuses=(206, 304, 307),
        result=_OCTETS,
        errors=(*_FIND_BLOB, errors.RangeNotSatisfiable),
        described=frozenset({200, 206, 307, 400, 401, 404, 416}),
    ),
    Endpoint(
        "end-2",
        "HEAD",
        "/v2/{name}/blobs/{digest}",
        "head_blob",
        Action.PULL,
        "Check whether a blob exists, and get its size.",
        other_statuses=(304,),
        challenge=_TO_PUSH,
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
        result=Content("*/*", dict),
        errors=_FIND_MANIFEST,
        described=frozenset({200, 400, 401, 404}),
    ),
    Endpoint(
        "end-3",
        "HEAD",
        "/v2/{name}/manifests/{reference}",
        "head_manifest",
        Action.PULL,
        "Check whether a manifest exists, and get its digest, type and size.",
        other_statuses=(304,),
        errors=_FIND_MANIFEST,
    ),
    Endpoint(
        "end-4",
        "POST",
        "/v2/{name}/blobs/uploads/",
        "start_upload",
        Action.PUSH,
        "Open an upload session, push a blob in one request, or mount a blob.",
        status=202,
        other_statuses=(201,),
        challenge=_TO_PUSH,
        query=(DIGEST_AT_ONCE, DIGEST_ALGORITHM, MOUNT, FROM),
        body=_OCTETS,
        errors=(
            errors.DigestInvalid,
            errors.SizeInvalid,
            errors.BlobTooLarge,
            errors.RangeInvalid,
            errors.OperationDisallowed,
            errors.QuotaExceeded,
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
        challenge=_TO_PUSH,
        body=_OCTETS,
        errors=(
            *_SESSION,
            errors.OperationDisallowed,
            errors.SizeInvalid,
            errors.BlobTooLarge,
            errors.OffsetMismatch,
            errors.QuotaExceeded,
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
        "Append the body, if there is one, and commit the blob under its digest.",
        status=201,
        acr_status=204,
        challenge=_TO_PUSH,
        query=(DIGEST,),
        body=_OCTETS,
        errors=(
            *_SESSION,
            errors.DigestInvalid,
            errors.OperationDisallowed,
            errors.SizeInvalid,
            errors.BlobTooLarge,
            errors.OffsetMismatch,
            errors.QuotaExceeded,
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
        challenge=_TO_PUSH,
        query=(TAG,),
        body=Content(media_types.OCI_MANIFEST),
        needs_body=True,
        errors=(
            errors.DigestInvalid,
            errors.TagInvalid,
            errors.ManifestInvalid,
            errors.ManifestBlobUnknown,
            errors.PreconditionFailed,
            errors.ManifestTooLarge,
            errors.TooManyTags,
            errors.TagImmutable,
            errors.OperationDisallowed,
            errors.QuotaExceeded,
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
        result=Content(media_types.JSON, Tags),
        errors=(errors.PaginationNumberInvalid, errors.NameUnknown),
        described=frozenset({200, 401, 404}),
    ),
    Endpoint(
        "end-9",
        "DELETE",
        "/v2/{name}/manifests/{reference}",
        "delete_manifest",
        Action.DELETE,
        "Delete a manifest and its tags by digest, or delete one tag.",
        status=202,
        errors=(
            errors.DigestInvalid,
            errors.ManifestUnknown,
            errors.DeleteDisabled,
            errors.ManifestInUse,
            errors.TagImmutable,
            errors.OperationDisallowed,
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
            errors.OperationDisallowed,
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
        result=Content(media_types.OCI_INDEX, Index),
        errors=(errors.DigestInvalid, errors.PaginationNumberInvalid),
    ),
    Endpoint(
        "end-13",
        "GET",
        "/v2/{name}/blobs/uploads/{session}",
        "get_upload",
        Action.PUSH,
        "Get the offset of an upload session.",
        status=204,
        challenge=_TO_PUSH,
        errors=_SESSION[:1],
        described=frozenset({204, 400, 401, 404}),
    ),
    Endpoint(
        "end-14",
        "DELETE",
        "/v2/{name}/blobs/uploads/{session}",
        "cancel_upload",
        Action.PUSH,
        "Cancel an upload session.",
        status=204,
        challenge=_TO_PUSH,
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
        result=Content(media_types.JSON, Repositories),
        errors=(errors.PaginationNumberInvalid,),
    ),
    Endpoint(
        "extension",
        "GET",
        "/v2/_oci/ext/discover",
        "list_extensions",
        Action.NONE,
        "List the extensions of the distribution-spec that the registry offers.",
        result=Content(media_types.JSON, Extensions),
    ),
    Endpoint(
        "extension",
        "GET",
        "/v2/{name}/_portside/tags/history/{tag}",
        "list_tag_changes",
        Action.METADATA_READ,
        "List what a tag pointed to, from when on, and who changed it, newest first.",
        query=(N, LAST_CHANGE),
        result=Content(media_types.JSON, TagChanges),
        errors=(errors.PaginationNumberInvalid, errors.ParameterInvalid, errors.TagUnknown),
    ),
    Endpoint(
        "extension",
        "POST",
        "/v2/{name}/_portside/tags/restore/{tag}",
        "restore_tag",
        Action.PUSH,
        "Point a tag back, and restore the manifest if it was deleted.",
        challenge=_TO_PUSH,
        query=(TO_DIGEST, AT),
        result=Content(media_types.JSON, PointedBack),
        errors=(
            errors.ParameterInvalid,
            errors.DigestInvalid,
            errors.TagUnknown,
            errors.ManifestUnknown,
            errors.OperationDisallowed,
            errors.TagImmutable,
            errors.PreconditionFailed,
            *_WRITES,
        ),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/_catalog",
        "list_acr_repositories",
        Action.CATALOG,
        "List the repositories that hold a manifest, in ASCII order.",
        query=(N, LAST),
        result=Content(media_types.JSON, Repositories),
        errors=(errors.PaginationNumberInvalid,),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/{name}",
        "get_repository",
        Action.METADATA_READ,
        "Get the properties of a repository.",
        result=Content(media_types.JSON, acr.RepositoryAttributes),
        errors=(errors.NameUnknown,),
    ),
    Endpoint(
        "acr",
        "PATCH",
        "/acr/v1/{name}",
        "change_repository",
        Action.METADATA_WRITE,
        "Lock or unlock a repository.",
        body=_CHANGE,
        result=Content(media_types.JSON, acr.RepositoryAttributes),
        errors=(errors.NameUnknown, *_ATTRIBUTES),
    ),
    Endpoint(
        "acr",
        "DELETE",
        "/acr/v1/{name}",
        "delete_repository",
        Action.DELETE,
        "Delete a repository with all its manifests and tags.",
        status=202,
        result=Content(media_types.JSON, acr.DeletedRepository),
        errors=(errors.NameUnknown, *_DELETE),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/{name}/_tags",
        "list_tag_properties",
        Action.METADATA_READ,
        "List the tags of a repository with their properties.",
        query=(N, LAST, ORDER_BY, OF_MANIFEST),
        result=Content(media_types.JSON, acr.TagList),
        errors=(*_PAGES, errors.DigestInvalid),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/{name}/_tags/{tag}",
        "get_tag",
        Action.METADATA_READ,
        "Get the properties of a tag.",
        result=Content(media_types.JSON, acr.TagAttributes),
        errors=(errors.TagUnknown,),
    ),
    Endpoint(
        "acr",
        "PATCH",
        "/acr/v1/{name}/_tags/{tag}",
        "change_tag",
        Action.METADATA_WRITE,
        "Lock or unlock a tag.",
        body=_CHANGE,
        result=Content(media_types.JSON, acr.TagAttributes),
        errors=(errors.TagUnknown, *_ATTRIBUTES),
    ),
    Endpoint(
        "acr",
        "DELETE",
        "/acr/v1/{name}/_tags/{tag}",
        "delete_tag",
        Action.DELETE,
        "Delete a tag; its manifest stays.",
        status=202,
        errors=(errors.TagUnknown, *_DELETE),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/{name}/_manifests",
        "list_manifest_properties",
        Action.METADATA_READ,
        "List the manifests of a repository with their properties.",
        query=(N, LAST, ORDER_BY),
        result=Content(media_types.JSON, acr.ManifestList),
        errors=_PAGES,
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/{name}/_manifests/{digest}",
        "get_manifest_properties",
        Action.METADATA_READ,
        "Get the properties of a manifest.",
        result=Content(media_types.JSON, acr.ManifestAttributes),
        errors=(errors.ManifestUnknown,),
    ),
    Endpoint(
        "acr",
        "PATCH",
        "/acr/v1/{name}/_manifests/{digest}",
        "change_manifest",
        Action.METADATA_WRITE,
        "Lock or unlock a manifest.",
        body=_CHANGE,
        result=Content(media_types.JSON, acr.ManifestAttributes),
        errors=(errors.ManifestUnknown, *_ATTRIBUTES),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/_deleted/_catalog",
        "list_deleted_repositories",
        Action.CATALOG,
        "List deleted repositories that can be restored, in ASCII order.",
        query=(N, LAST),
        result=Content(media_types.JSON, acr.DeletedRepositoryList),
        errors=(errors.PaginationNumberInvalid,),
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/_deleted/{name}/_manifests",
        "list_deleted_manifests",
        Action.METADATA_READ,
        "List deleted manifests that can be restored, the longest deleted first.",
        query=(N, LAST),
        result=Content(media_types.JSON, acr.DeletedManifestList),
        errors=_PAGES,
    ),
    Endpoint(
        "acr",
        "GET",
        "/acr/v1/_deleted/{name}/_tags",
        "list_deleted_tags",
        Action.METADATA_READ,
        "List deleted tags that can be restored, the longest deleted first.",
        query=(N, LAST),
        result=Content(media_types.JSON, acr.DeletedTagList),
        errors=_PAGES,
    ),
    Endpoint(
        "acr",
        "POST",
        "/acr/v1/_deleted/{name}/_manifests/{digest}",
        "restore_deleted_manifest",
        Action.PUSH,
        "Restore a deleted manifest, or a deleted tag of a manifest that is still there.",
        challenge=_TO_PUSH,
        query=(FORCE,),
        body=Content(media_types.JSON, acr.RestoreRequest),
        result=Content(media_types.JSON, acr.RestoredArtifact),
        errors=(
            errors.ManifestUnknown,
            errors.TagInvalid,
            errors.TagExists,
            errors.TagImmutable,
            errors.PreconditionFailed,
            errors.OperationDisallowed,
            errors.ParameterInvalid,
            errors.RestoreInvalid,
            *_BODY,
            *_WRITES,
        ),
    ),
    Endpoint(
        "root",
        "GET",
        "/",
        "root",
        None,
        "Names the server and links to the API, for people and for the checks of load balancers.",
        result=Content(media_types.JSON, Root),
    ),
    Endpoint(
        "probe",
        "GET",
        "/healthz",
        "healthz",
        None,
        "Answers 200 while the process runs.",
        result=Content(media_types.JSON, Status),
    ),
    Endpoint(
        "probe",
        "GET",
        "/readyz",
        "readyz",
        None,
        "Answers 200 while the database and the blob store can be read, so that pulls work, 503"
        " otherwise.",
        result=Content(media_types.JSON, Status),
        errors=(errors.NotReady,),
    ),
    Endpoint(
        "probe",
        "GET",
        "/readyz/writes",
        "readyz_writes",
        None,
        "Answers 200 while both can also be written to and have space, so that pushes work, 503"
        " otherwise.",
        result=Content(media_types.JSON, Status),
        errors=(errors.NotReady,),
    ),
    Endpoint(
        "events",
        "GET",
        "/events",
        "stream_events",
        Action.CATALOG,
        "Stream the changes of the repositories that the caller may pull from, as server-sent"
        " events.",
        query=(REPOSITORIES, ACTION, AFTER, FOLLOW),
        result=Content(media_types.EVENT_STREAM, EventDocument),
        errors=(errors.ParameterInvalid,),
    ),
    Endpoint(
        "openapi",
        "GET",
        "/openapi.json",
        "openapi",
        None,
        "Describes the API (OpenAPI 3.1).",
        result=_OBJECT,
    ),
    Endpoint(
        "token",
        "GET",
        "/oauth2/token",
        "get_token",
        None,
        "Issues an access token for Basic credentials.",
        result=_OBJECT,
        errors=_TOKENS,
    ),
    Endpoint(
        "token",
        "POST",
        "/oauth2/token",
        "post_token",
        None,
        "Issues an access token for a password or a refresh token.",
        result=_OBJECT,
        errors=(*_TOKENS, *_FORM),
    ),
    Endpoint(
        "token",
        "GET",
        "/token",
        "get_token",
        None,
        "Alias of `/oauth2/token`.",
        result=_OBJECT,
        errors=_TOKENS,
    ),
    Endpoint(
        "token",
        "POST",
        "/token",
        "post_token",
        None,
        "Alias of `/oauth2/token`.",
        result=_OBJECT,
        errors=(*_TOKENS, *_FORM),
    ),
    Endpoint(
        "token",
        "POST",
        "/oauth2/exchange",
        "post_exchange",
        None,
        "Issues a refresh token for another credential.",
        result=_OBJECT,
        errors=(*_TOKENS, *_FORM),
    ),
    Endpoint(
        "token",
        "GET",
        "/.well-known/jwks.json",
        "get_keys",
        None,
        "Publishes the keys that verify access tokens.",
        result=_OBJECT,
        errors=(errors.EndpointUnknown, errors.Unavailable),
    ),
)
"""Every endpoint: those of the registry, under `/v2`; of ACR's own API, under `/acr/v1`; of
operators; of the token server."""
