"""A request that was routed: what its path, query and headers say, parsed when it is asked for."""

from __future__ import annotations

from functools import cached_property

from starlette.requests import Request

from portside.api.registry import Registry
from portside.spec.digests import Digest
from portside.spec.endpoints import Endpoint
from portside.spec.errors import DigestInvalid, ManifestUnknown, SizeInvalid, TagInvalid
from portside.spec.names import Reference, RepositoryName, parse_reference
from portside.spec.pagination import PageRequest, parse_page
from portside.spec.uploads import UploadId

_MAX_LENGTH_DIGITS = 19


class Call:
    """One request to one endpoint.

    `name` and `last` are the decoded texts of the path's variables.
    """

    def __init__(
        self, registry: Registry, endpoint: Endpoint, request: Request, name: str, last: str
    ) -> None:
        self.registry = registry
        self.endpoint = endpoint
        self.request = request
        self._name = name
        self._last = last

    @property
    def status(self) -> int:
        """The status of a success in the dialect that is spoken."""
        return self.endpoint.success(self.registry.dialect)

    @cached_property
    def repository(self) -> RepositoryName:
        """The repository; raises NameInvalid."""
        return RepositoryName.parse(self._name)

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
        wanted = name.encode("latin-1")
        values = [value for key, value in self.request.scope["headers"] if key == wanted]
        return b", ".join(values).decode("latin-1") if values else None

    def query(self, name: str) -> str | None:
        """Give a parameter of the query, or None."""
        return self.request.query_params.get(name)

    def query_list(self, name: str) -> list[str]:
        """Give every value of a parameter of the query."""
        return self.request.query_params.getlist(name)

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

    def content_length(self) -> int | None:
        """Give the announced length of the body in bytes; raises SizeInvalid."""
        text = self.header("content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
            absurd = f"Content-Length {text[:40]!r} is no number of bytes"
            raise SizeInvalid(absurd)
        return int(text)
