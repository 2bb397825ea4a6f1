"""A request that was routed: what its path, query and headers say, parsed when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import QueryParams
from starlette.types import Scope

from portside.api.auth import Permit
from portside.api.bodies import Body
from portside.api.registry import Registry
from portside.operations.push import Chunk
from portside.spec.actions import Action
from portside.spec.digests import Digest
from portside.spec.endpoints import Endpoint
from portside.spec.errors import (
    DigestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    SizeInvalid,
    TagInvalid,
)
from portside.spec.names import Reference, RepositoryName, parse_reference
from portside.spec.pagination import PageRequest, parse_page
from portside.spec.ranges import parse_chunk
from portside.spec.routes import Match
from portside.spec.uploads import UploadId

_MAX_LENGTH_DIGITS = 19


class Call:
    """One request to one endpoint.

    The path, the query and the headers are parsed when a handler asks for them.
    """

    __slots__ = (
        "_body",
        "_headers",
        "_last",
        "_name",
        "_parameters",
        "_repository",
        "_scope",
        "endpoint",
        "permit",
        "registry",
    )

    def __init__(
        self, registry: Registry, endpoint: Endpoint, scope: Scope, body: Body, found: Match
    ) -> None:
        self.registry = registry
        self.endpoint = endpoint
        self._scope = scope
        self._body = body
        self._name = found.name
        self._last = found.last
        self._headers: dict[bytes, bytes] | None = None
        self._parameters: QueryParams | None = None
        self._repository: RepositoryName | None = None
        self.permit: Permit | None = None

    @property
    def status(self) -> int:
        """The status of a success in the dialect that is spoken."""
        return self.endpoint.success(self.registry.dialect)

    @property
    def repository(self) -> RepositoryName:
        """The repository; raises NameInvalid."""
        if self._repository is None:
            self._repository = RepositoryName.parse(self._name)
        return self._repository

    async def authorise(self) -> None:
        """Let the call through as far as the row of the table asks for it.

        Nothing of the stores is looked at before, so that nothing can be told from the answer.

        Raises NameInvalid, Unauthorized, Denied and TooManyRequests.
        """
        gate = self.registry.gate
        if gate is None:
            return
        self.permit = permit = await gate.admit(self._scope, self.header)
        if permit is None:
            return
        match self.endpoint.action:
            case Action.NONE:
                permit.check_identity()
            case Action.CATALOG:
                permit.check_catalog()
            case action:
                permit.check(action, self.repository, self.endpoint.operation)

    @property
    def _query(self) -> QueryParams:
        if self._parameters is None:
            self._parameters = QueryParams(self._scope["query_string"])
        return self._parameters

    @property
    def digest(self) -> Digest:
        """The digest that ends the path; raises DigestInvalid."""
        return Digest.parse(self._last)

    @property
    def upload(self) -> UploadId:
        """The session that ends the path; raises BlobUploadUnknown."""
        return UploadId.parse(self._last)

    @property
    def new_reference(self) -> Reference:
        """The reference to push to; raises DigestInvalid or TagInvalid."""
        return parse_reference(self._last)

    @property
    def known_reference(self) -> Reference:
        """The reference to look up; raises DigestInvalid, or ManifestUnknown for what is no tag."""
        try:
            return parse_reference(self._last)
        except TagInvalid as error:
            raise ManifestUnknown(*error.details) from error

    def header(self, name: str) -> str | None:
        """Give a header, or None; several of one name are one list (RFC 9110, section 5.3)."""
        if self._headers is None:
            self._headers = _by_name(self._scope["headers"])
        value = self._headers.get(name.encode("latin-1"))
        return value.decode("latin-1") if value is not None else None

    def query(self, name: str) -> str | None:
        """Give a parameter of the query, or None."""
        return self._query.get(name)

    def query_list(self, name: str) -> list[str]:
        """Give every value of a parameter of the query."""
        return self._query.getlist(name)

    def query_beside(self, *names: str) -> list[tuple[str, str]]:
        """Give all parameters of the query but those named."""
        return [(name, value) for name, value in self._query.multi_items() if name not in names]

    def query_digest(self) -> Digest:
        """Give the parameter `digest`, which has to be there; raises DigestInvalid."""
        text = self.query("digest")
        if text is None:
            missing = "the query has to say digest=…, the digest of the whole blob"
            raise DigestInvalid(missing)
        return Digest.parse(text)

    def page(self) -> PageRequest:
        """Give the page that is asked for; raises PaginationNumberInvalid."""
        limit = self.registry.limits.page_limit
        return parse_page(self.query("n"), self.query("last"), limit=limit)

    def chunk(self) -> Chunk:
        """Give the body of an upload request, with what its headers announce.

        Raises RangeInvalid and SizeInvalid.
        """
        content_range = self.header("content-range")
        return Chunk(
            body=self._body.pieces(self.registry.limits.body_timeout),
            range=parse_chunk(content_range) if content_range is not None else None,
            length=self._content_length(),
        )

    async def manifest_payload(self) -> bytes:
        """Read the body of a manifest push.

        Raises ManifestTooLarge, SizeInvalid, BodyTimeout and BodyIncomplete.
        """
        limits = self.registry.limits
        most = limits.max_manifest_bytes
        too_large = ManifestTooLarge(f"a manifest may have {most} bytes at most")
        if (self._content_length() or 0) > most:
            raise too_large
        return await self._body.read(most, limits.body_timeout, too_large)

    def _content_length(self) -> int | None:
        """Give the announced length of the body in bytes; raises SizeInvalid."""
        text = self.header("content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
            absurd = f"Content-Length {text[:40]!r} is no number of bytes"
            raise SizeInvalid(absurd)
        return int(text)


def _by_name(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found = dict(fields)
    if len(found) != len(fields):
        values: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            values.setdefault(name, []).append(value)
        found = {name: b", ".join(several) for name, several in values.items()}
    return found
