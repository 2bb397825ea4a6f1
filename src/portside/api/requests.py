"""Requests: the limits of their headers, their bodies, and what path, query and headers say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.types import Receive
from starlette.types import Scope as AsgiScope

from portside.api.actors import client_actor
from portside.api.auth import Permit
from portside.api.body_memory import BodyMemory, Taken
from portside.api.queries import Fields, FieldsExceeded
from portside.api.records import RECORD, RequestRecord
from portside.api.registry import Limits, Registry
from portside.operations.push import Chunk
from portside.spec.conditions import TagCondition, allows_range
from portside.spec.digests import Digest
from portside.spec.endpoints import Endpoint
from portside.spec.errors import (
    BodyIncomplete,
    BodyTimeout,
    ContentEncodingUnsupported,
    DigestInvalid,
    FormTooLarge,
    HeadersTooLarge,
    HostInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    PreconditionFailed,
    RegistryError,
    SizeInvalid,
    TagInvalid,
    TagUnknown,
    TooManyFields,
    TooManyTags,
    TransferEncodingUnsupported,
)
from portside.spec.mounts import MountRequest
from portside.spec.names import Reference, RepositoryName, Tag, parse_reference
from portside.spec.pagination import PageRequest, parse_page
from portside.spec.ranges import ByteRange, parse_chunk, parse_range
from portside.spec.routes import Match
from portside.spec.schema1 import is_wanted
from portside.spec.uploads import UploadId
from portside.stores.actors import Actor

_MAX_LENGTH_DIGITS = 19

_PLAIN = {b"content-encoding": b"identity", b"transfer-encoding": b"chunked"}


ASKING = ("/v2", "/acr/v1", "/events")
"""The starts of the paths that ask who the caller is."""

Headers = dict[bytes, bytes]
"""The headers of a request by name; several of one name are one list (RFC 9110, section 5.3)."""


def read_headers(scope: AsgiScope, limits: Limits) -> Headers:
    """Return the headers, unless the head is over the limits, or has a second Host or an encoding.

    A missing Host is refused as well, but for probes of load balancers, which may send none.

    Raises HeadersTooLarge, TooManyFields, HostInvalid, ContentEncodingUnsupported and
    TransferEncodingUnsupported.
    """
    path, query, fields = scope["path"], scope["query_string"], scope["headers"]
    size = len(path) + len(query)
    headers: Headers = {}
    for name, value in fields:
        size += len(name) + len(value)
        headers[name] = value
    hosts = 1 if headers.get(b"host") else 0
    if len(headers) != len(fields):
        headers = _joined(fields)
        hosts = sum(1 for name, value in fields if name == b"host" and value)
    if b"transfer-encoding" in headers or b"content-encoding" in headers:
        _refuse_encodings(fields)
    if size > limits.max_header_bytes:
        most = f"at most {limits.max_header_bytes} bytes together"
        raise HeadersTooLarge(f"path, query and header fields may have {most}")
    if query and query.count(b"&") >= limits.max_fields:
        raise TooManyFields(f"a query may have at most {limits.max_fields} parameters")
    if hosts != 1 and scope["http_version"] == "1.1" and (hosts or path.startswith(ASKING)):
        raise HostInvalid(f"{hosts} Host headers were sent")
    return headers


def _joined(fields: Sequence[tuple[bytes, bytes]]) -> Headers:
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def _refuse_encodings(fields: Sequence[tuple[bytes, bytes]]) -> None:
    encodings = 0
    for name, value in fields:
        if name in _PLAIN:
            encodings += name == b"transfer-encoding"
            if value.strip().lower() != _PLAIN[name] or encodings > 1:
                raise _not_plain(name, value)


def _not_plain(
    name: bytes, value: bytes
) -> ContentEncodingUnsupported | TransferEncodingUnsupported:
    written = repr(value[:40].decode("latin-1"))
    if name == b"content-encoding":
        return ContentEncodingUnsupported(f"{written}: send the body without an encoding")
    return TransferEncodingUnsupported(written)


LITTLE_BYTES = 64 * 1024
LITTLE_PATIENCE = 0.5
"""Bytes and seconds of a refused body that are read before the response, to keep the connection."""

DRAIN_PATIENCE = 10.0
DRAIN_SILENCE = 1.0
"""Seconds for which more of the body is read after the response, so that the client receives the
response; and seconds of silence after which the client is taken to be gone."""


class Body:
    """The body of one request; it can be read once."""

    __slots__ = ("_is_read", "_receive", "_scope")

    def __init__(self, scope: AsgiScope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._is_read = False

    async def pieces(self, patience: float) -> AsyncGenerator[bytes, None]:
        """Yield the pieces as they arrive, each within `patience` seconds of the one before.

        Raises BodyTimeout, and BodyIncomplete if the connection ends before the body does.
        """
        while not self._is_read:
            try:
                async with asyncio.timeout(patience):
                    piece = await self._next()
            except TimeoutError as error:
                silent = (
                    f"nothing arrived for {patience:g} s; get the offset and continue from there"
                )
                raise BodyTimeout(silent) from error
            if piece:
                yield piece

    async def _next(self) -> bytes:
        """Return the next piece, which may be empty; raises BodyIncomplete."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete("the connection was closed before the end of the body")
        self._is_read = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def read(
        self, limit: int, patience: float, too_large: RegistryError, memory: BodyMemory
    ) -> bytes:
        """Return the whole body, which must arrive within `patience` seconds.

        Raises `too_large` above `limit` bytes, TooManyRequests if there is no memory for it,
        BodyTimeout and BodyIncomplete.
        """
        payload = bytearray()
        taken = Taken(memory)
        try:
            async with asyncio.timeout(patience):
                while not self._is_read:
                    payload += await self._next()
                    if len(payload) > limit:
                        raise too_large
                    taken.grow_to(len(payload))
        except TimeoutError as error:
            raise BodyTimeout(f"not all of it arrived within {patience:g} s") from error
        finally:
            taken.give_back()
        return bytes(payload)

    async def drain_little(self) -> bool:
        """Read the rest of a refused body if it is short; return whether all of it was read.

        A client that waits for "100 Continue" is answered before it sends anything.
        """
        return self._is_absent() or (
            not self._is_awaited()
            and await self._drain(LITTLE_BYTES, LITTLE_PATIENCE, LITTLE_PATIENCE)
        )

    async def drain(self) -> None:
        """Read and discard the rest of a refused body, for a limited time."""
        if not self._is_awaited():
            await self._drain(sys.maxsize, DRAIN_PATIENCE, DRAIN_SILENCE)

    def _is_absent(self) -> bool:
        names = {name for name, _ in self._scope["headers"]}
        return self._is_read or names.isdisjoint({b"content-length", b"transfer-encoding"})

    def _is_awaited(self) -> bool:
        return any(name == b"expect" for name, _ in self._scope["headers"])

    async def _drain(self, most: int, patience: float, silence: float) -> bool:
        left = most
        try:
            async with asyncio.timeout(patience), aclosing(self.pieces(silence)) as arriving:
                async for piece in arriving:
                    left -= len(piece)
                    if left < 0:
                        return False
        except (TimeoutError, BodyTimeout, BodyIncomplete):
            return False
        return True


class Request:
    """A request to an endpoint.

    `status` is that of a success; `name` is as it was sent. Path, query and headers are parsed when
    a handler asks for them.
    """

    __slots__ = (
        "_last",
        "_parameters",
        "_repository",
        "_scope",
        "body",
        "endpoint",
        "headers",
        "name",
        "permit",
        "registry",
        "status",
    )

    def __init__(
        self,
        registry: Registry,
        endpoint: Endpoint,
        status: int,
        scope: AsgiScope,
        headers: Headers,
        body: Body,
        found: Match,
    ) -> None:
        self.registry = registry
        self.endpoint = endpoint
        self.status = status
        self.body = body
        self.permit: Permit | None = None
        self._scope = scope
        self.headers = headers
        self.name = found.name
        self._last = found.last
        self._parameters: Fields | None = None
        self._repository: RepositoryName | None = None

    @property
    def scope(self) -> AsgiScope:
        """The ASGI scope."""
        return self._scope

    @property
    def record(self) -> RequestRecord:
        """What logs tell of the request."""
        record: RequestRecord = self._scope[RECORD]
        return record

    @property
    def id(self) -> str:
        """The id of the request, by which logs know it."""
        return self.record.id

    @property
    def identity(self) -> str:
        """The name of the caller; empty for anonymous ones, and while the registry is open."""
        return self.permit.name if self.permit is not None else ""

    @property
    def reader(self) -> str:
        """Who is counted as one reader: an identity, or the address of anonymous callers."""
        if self.identity:
            return f"identity {self.identity}"
        return self.registry.addresses.client(self._scope)

    @property
    def may_see_identities(self) -> bool:
        """Whether the caller may learn who made a change: only those who have a name themselves."""
        return bool(self.identity)

    @property
    def actor(self) -> Actor:
        """Who makes the request, as its events record it."""
        return client_actor(self.registry.addresses, self._scope, self.identity)

    @property
    def repository(self) -> RepositoryName:
        """The repository; raises NameInvalid."""
        if self._repository is None:
            self._repository = RepositoryName.parse(self.name)
        return self._repository

    async def is_identified(self) -> bool:
        """Whether the caller is known, or needs not be; for endpoints that ask for nothing."""
        gate = self.registry.gate
        return await gate.identifies(self._scope, self.header(b"authorization"))

    @property
    def fields(self) -> Fields:
        """The parameters of the query; raises TooManyFields."""
        if self._parameters is None:
            text = self._scope["query_string"].decode("latin-1")
            try:
                self._parameters = Fields.parse(text, limit=self.registry.limits.max_fields)
            except FieldsExceeded as error:
                raise TooManyFields(str(error)) from error
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
        """The reference to look up; raises DigestInvalid, or ManifestUnknown if it is not a tag."""
        try:
            return parse_reference(self._last)
        except TagInvalid as error:
            raise ManifestUnknown(*error.details) from error

    @property
    def known_tag(self) -> Tag:
        """The tag to look up; raises TagUnknown if it cannot be one."""
        try:
            return Tag.parse(self._last)
        except TagInvalid as error:
            raise TagUnknown(*error.details) from error

    @property
    def known_digest(self) -> Digest:
        """The digest of a manifest to look up; raises ManifestUnknown if it cannot be one."""
        try:
            return Digest.parse(self._last)
        except DigestInvalid as error:
            raise ManifestUnknown(*error.details) from error

    @property
    def host(self) -> str:
        """The host, with its port, by which the client knows the registry."""
        return self.registry.addresses.authority(self._scope)

    def header(self, name: bytes) -> str | None:
        """Return a header, or None."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    def query(self, name: str) -> str | None:
        """Return a parameter of the query, or None."""
        return self.fields.last(name)

    def query_beside(self, *names: str) -> list[tuple[str, str]]:
        """Return all parameters of the query except those named."""
        return [(name, value) for name, value in self.fields.items if name not in names]

    def query_digest(self) -> Digest:
        """Return the required parameter `digest`; raises DigestInvalid."""
        text = self.query("digest")
        if text is None:
            missing = "the query parameter digest is required: the digest of the whole blob"
            raise DigestInvalid(missing)
        return Digest.parse(text)

    def mount(self) -> MountRequest | None:
        """Return what is to be mounted (end-11), or None if nothing can be."""
        return MountRequest.parse(self.query("mount") or "", self.query("from"))

    def page(self) -> PageRequest:
        """Return the requested page; raises PaginationNumberInvalid."""
        limit = self.registry.limits.page_limit
        return parse_page(self.query("n"), self.query("last"), limit=limit)

    def check_match(self, digest: str) -> None:
        """Check If-Match against existing content; raises PreconditionFailed."""
        header = self.header(b"if-match")
        if header is not None and not TagCondition.parse(header, None).holds(digest):
            raise PreconditionFailed(f"{digest} is not one of the entity tags of If-Match")

    def is_not_modified(self, digest: str) -> bool:
        """Whether the client already has this content, by If-None-Match."""
        header = self.header(b"if-none-match")
        return header is not None and not TagCondition.parse(None, header).holds(digest)

    def wants_schema_1(self, media_type: str) -> bool:
        """Whether a manifest of this type is to be converted, by Accept and the dialect."""
        by_default = self.registry.dialect.prefers_schema_1
        return is_wanted(self.header(b"accept"), media_type, by_default=by_default)

    def tag_condition(self) -> TagCondition | None:
        """Return the condition on the reference of a push or a delete, or None."""
        match, none_match = self.header(b"if-match"), self.header(b"if-none-match")
        if match is None and none_match is None:
            return None
        return TagCondition.parse(match, none_match)

    def ranges(self, digest: str, size: int) -> list[ByteRange]:
        """Return the requested parts; an empty list means the whole blob.

        Raises RangeNotSatisfiable.
        """
        wanted = self.header(b"range")
        if wanted is None or not allows_range(self.header(b"if-range"), digest):
            return []
        return parse_range(wanted, size=size, max_ranges=self.registry.limits.max_ranges)

    def range_count(self) -> int:
        """Return the number of ranges in the header as it was sent, before any are coalesced."""
        return (self.header(b"range") or "").count(",") + 1

    def extra_tags(self, reference: Reference) -> list[Tag]:
        """Return the tags in the query (end-7b), which only a push by digest may have.

        Raises TagInvalid and TooManyTags.
        """
        texts = self.fields.all("tag")
        if texts and not isinstance(reference, Digest):
            where = "the query parameter tag is only allowed in a push by digest"
            raise TagInvalid(where)
        most = self.registry.limits.max_tags_per_push
        if len(texts) > most:
            many = f"{len(texts)} tags; at most {most} are accepted in one push"
            raise TooManyTags(many)
        return list(dict.fromkeys(Tag.parse(text) for text in texts))

    def chunk(self) -> Chunk:
        """Return the body of an upload request, and what its headers announce.

        Raises RangeInvalid and SizeInvalid.
        """
        content_range = self.header(b"content-range")
        return Chunk(
            body=self.body.pieces(self.registry.limits.body_timeout),
            range=parse_chunk(content_range) if content_range is not None else None,
            length=self._content_length(),
        )

    async def manifest_payload(self) -> bytes:
        """Return the body of a manifest push.

        Raises ManifestTooLarge, SizeInvalid, TooManyRequests, BodyTimeout and BodyIncomplete.
        """
        limits, memory = self.registry.limits, self.registry.body_memory
        most = limits.max_manifest_bytes
        too_large = ManifestTooLarge(f"a manifest may have at most {most} bytes")
        if (self._content_length() or 0) > most:
            raise too_large
        return await self.body.read(most, limits.manifest_timeout, too_large, memory)

    async def form_payload(self) -> bytes:
        """Return the body of a form.

        Raises FormTooLarge, TooManyRequests, BodyTimeout and BodyIncomplete.
        """
        limits, memory = self.registry.limits, self.registry.form_memory
        most = limits.max_form_bytes
        too_large = FormTooLarge(f"a form may have at most {most} bytes")
        return await self.body.read(most, limits.form_timeout, too_large, memory)

    async def document_payload(self, invalid: type[RegistryError]) -> bytes:
        """Return the body of a small document.

        Raises `invalid` if it is large, TooManyRequests, BodyTimeout and BodyIncomplete.
        """
        limits, memory = self.registry.limits, self.registry.form_memory
        most = limits.max_form_bytes
        too_large = invalid(f"the body may have at most {most} bytes")
        return await self.body.read(most, limits.form_timeout, too_large, memory)

    def _content_length(self) -> int | None:
        """Return the announced length of the body in bytes; raises SizeInvalid."""
        text = self.header(b"content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
            absurd = f"invalid Content-Length {text[:40]!r}: expected a number of bytes"
            raise SizeInvalid(absurd)
        return int(text)
