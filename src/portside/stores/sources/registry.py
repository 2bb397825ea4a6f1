"""Another registry as a source, over the distribution-spec's API.

The client blocks, and is called in threads: a repair reads one blob at a time. It follows redirects
to object stores, without the credentials, and repeats requests that fail.
"""

from __future__ import annotations

import asyncio
import logging
import re
import urllib.request
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from portside.spec import media_types
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, ManifestUnknown, Unavailable

PIECE = 1024 * 1024
"""Bytes that are read at once."""

MAX_MANIFEST = 64 * 1024 * 1024
"""Bytes of the largest manifest that is read: no registry takes larger ones."""

TIMEOUT = urllib3.Timeout(connect=10, read=60)
"""Seconds to wait for a connection, and for each piece."""

RETRIES = urllib3.Retry(
    total=5,
    connect=2,
    backoff_factor=0.5,
    status_forcelist={429, 502, 503, 504},
    raise_on_status=False,
    respect_retry_after_header=False,
)
"""How often a request is sent again. A registry could ask for a pause of hours: after seconds, its
answer counts."""

_MANIFESTS = (
    media_types.OCI_MANIFEST,
    media_types.OCI_INDEX,
    media_types.DOCKER_MANIFEST,
    media_types.DOCKER_LIST,
    "*/*;q=0.1",
)
_PORTS = {"http": 80, "https": 443}
_NOT_CONNECTED = (NewConnectionError, ConnectTimeoutError)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class UrlInvalid(ValueError):
    """The URL is not one of a registry, or its use would give the password away."""


class _Token(msgspec.Struct):
    """The answer of a token server; the two names mean the same."""

    token: str = ""
    access_token: str = ""


class RegistrySource:
    """A registry that has the same repositories, below the path of the URL if it has one.

    `login` is the name and the password of an account; without it, only public content is read. A
    password is sent without TLS only on the loopback interface, unless `allow_http` is set. Raises
    UrlInvalid.
    """

    def __init__(
        self, url: str, login: tuple[str, str] | None = None, *, allow_http: bool = False
    ) -> None:
        parts = urlsplit(url)
        if parts.username is not None or parts.query or parts.fragment:
            # What is shown here could be a secret.
            raise UrlInvalid("the URL of a registry has no credentials and no query")
        if not parts.hostname:
            raise UrlInvalid(f"{url} is not the URL of a registry: expected https://HOST")
        is_clear = parts.scheme == "http" and not _is_loopback(parts.hostname)
        if login is not None and is_clear and not allow_http:
            raise UrlInvalid(f"{url} has no TLS, and would give the password away")
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._prefix = f"{path}/" if (path := parts.path.strip("/")) else ""
        self._login = login
        self._authorizations: dict[str, str] = {}
        self._pool = _open_pool(parts.scheme, parts.hostname)

    @property
    def name(self) -> str:
        """The URL."""
        return f"{self._base}/{self._prefix}".rstrip("/")

    async def require(self) -> None:
        """Ask whether it is a registry (end-1)."""
        answer = await asyncio.to_thread(self._send, f"{self._base}/v2/", {})
        answer.close()
        if answer.status not in {HTTPStatus.OK, *_DENIED}:
            raise Unavailable(f"{self.name} is not a registry: /v2/ answers {answer.status}")

    async def read_blob(
        self, digest: Digest, repositories: Sequence[str]
    ) -> AsyncGenerator[bytes, None]:
        """Read a blob from the first repository that has it (end-2)."""
        answer = await self._find(f"blobs/{digest}", repositories)
        if answer is None:
            raise BlobUnknown(f"{digest} is not in {self.name}")
        try:
            while piece := await asyncio.to_thread(self._read, answer, PIECE):
                yield piece
        finally:
            answer.close()

    async def read_manifest(self, digest: Digest, repositories: Sequence[str]) -> bytes:
        """Read a manifest from the first repository that has it (end-3)."""
        answer = await self._find(f"manifests/{digest}", repositories)
        if answer is None:
            raise ManifestUnknown(f"{digest} is not in {self.name}")
        try:
            return await asyncio.to_thread(self._read, answer, MAX_MANIFEST)
        finally:
            answer.close()

    async def _find(
        self, path: str, repositories: Sequence[str]
    ) -> urllib3.BaseHTTPResponse | None:
        """Ask each repository; return an answer with content, or None if there is none.

        Raises Unavailable if the registry denies access to one of them, or fails.
        """
        denied = ""
        for repository in repositories:
            answer = await asyncio.to_thread(self._get, path, f"{self._prefix}{repository}")
            if answer.status == HTTPStatus.OK:
                return answer
            answer.close()
            if answer.status in _DENIED:
                denied = denied or f"access to {repository} is denied"
            elif answer.status != HTTPStatus.NOT_FOUND:
                raise Unavailable(f"it answers {answer.status} for {repository}")
        if denied:
            raise Unavailable(denied)
        return None

    def _get(self, path: str, repository: str) -> urllib3.BaseHTTPResponse:
        """Send a request; if the registry asks for credentials, send it again with them."""
        url = f"{self._base}/v2/{repository}/{path}"
        known = self._authorizations.get(repository)
        answer = self._send(url, {"Authorization": known} if known else {})
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return answer
        authorization = self._answer_challenge(
            answer.headers.get("WWW-Authenticate", ""), repository
        )
        if authorization is None:
            return answer
        answer.close()
        self._authorizations[repository] = authorization
        return self._send(url, {"Authorization": authorization})

    def _answer_challenge(self, challenge: str, repository: str) -> str | None:
        """Return the value of an Authorization header; None if there are no credentials for it."""
        scheme, _, rest = challenge.partition(" ")
        basic = _basic(*self._login) if self._login is not None else None
        if scheme.lower() != "bearer":
            return basic
        given = dict(_PARAMETER.findall(rest))
        realm = given.get("realm", "")
        if not realm.startswith("https:" if self._base.startswith("https:") else "http"):
            raise Unavailable(f"its token server {realm!r} has no TLS")
        query = {"scope": f"repository:{repository}:pull"}
        if "service" in given:
            query["service"] = given["service"]
        joint = "&" if "?" in realm else "?"
        headers = {"Authorization": basic} if basic else {}
        answer = self._send(f"{realm}{joint}{urlencode(query)}", headers)
        try:
            if answer.status != HTTPStatus.OK:
                return None
            token = msgspec.json.decode(self._read(answer, PIECE), type=_Token)
        except msgspec.DecodeError as error:
            raise Unavailable(f"its token server {realm} does not answer with a token") from error
        finally:
            answer.close()
        return f"Bearer {token.token or token.access_token}"

    def _send(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Send a GET request, and follow redirects."""
        sent = {"Accept": ", ".join(_MANIFESTS), "Accept-Encoding": "identity", **headers}
        try:
            return self._pool.request(
                "GET", url, headers=sent, preload_content=False, retries=RETRIES, timeout=TIMEOUT
            )
        except (HTTPError, ValueError) as error:
            raise Unavailable(_explain_sending(url, error)) from error

    def _read(self, answer: urllib3.BaseHTTPResponse, most: int) -> bytes:
        try:
            return answer.read(most)
        except HTTPError as error:
            raise Unavailable(_explain(error)) from error


def _open_pool(scheme: str, host: str) -> urllib3.PoolManager:
    """Return the connections; they go through the proxy that the environment names."""
    # urllib3 logs each attempt in words of its own; the last one ends with an error.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy)
    return urllib3.PoolManager()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _basic(name: str, password: str) -> str:
    encoded = b64encode(f"{name}:{password}".encode()).decode("ascii")
    return f"Basic {encoded}"


def _explain_sending(url: str, error: Exception) -> str:
    parts = urlsplit(url)
    reason = getattr(error, "reason", None)
    if not isinstance(reason, _NOT_CONNECTED):
        return f"{parts.netloc}: {_explain(error)}"
    # What urllib3 says begins with the representation of a connection; the system's error does not.
    cause = reason.__cause__
    said = getattr(cause, "strerror", None) or cause or reason
    place = parts.netloc if parts.port else f"{parts.netloc}:{_PORTS[parts.scheme]}"
    return f"cannot connect to {place}: {said}"


def _explain(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).partition("\n")[0]
