"""From a URL to an object store.

Credentials, regions and endpoints come from where each cloud's own tools look for them: the
environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AZURE_STORAGE_ACCOUNT_NAME`,
`GOOGLE_APPLICATION_CREDENTIALS`…) and the identity of the machine. obstore reads them; here, the
environment is looked at only for an endpoint without TLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SCHEMES = ("s3", "az", "gs", "file", "memory")

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
}
_EMULATOR = "AZURE_STORAGE_USE_EMULATOR"

_RETRY: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    },
}
"""A store that fails for longer than this is down, and the client hears so while it waits."""

_CONNECT = timedelta(seconds=5)
_STALL = timedelta(seconds=60)
"""Of silence, whether a request carries a part or a copy is made; a slow client is no silence."""
_WHOLE = timedelta(days=1)
"""One response carries a whole blob, at the pace of a client that may be slow."""


class StorageUrlInvalid(ValueError):
    """The URL names no object store that Portside can use; says why in one line."""


def open_store(
    url: str, *, environment: Mapping[str, str], allow_http: bool = False
) -> ObjectStore:
    """Make the store of a URL; nothing is read or written yet.

    `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`, `file:///path` and
    `memory:///` are known. An endpoint without TLS has to be on the loopback, unless `allow_http`:
    credentials and content would travel in the clear. Raises StorageUrlInvalid.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise StorageUrlInvalid(f"{url!r} names no object store; it has to begin with {known}")
    if parts.query or parts.fragment or parts.username is not None:
        raise StorageUrlInvalid(
            f"{url!r} says more than where the blobs are; credentials and endpoints come from the"
            " environment"
        )
    if parts.scheme in ("memory", "file"):
        return _open_here(url, parts)
    plain = _plain_endpoint(parts.scheme, environment)
    if plain is not None and not allow_http and not _is_loopback(plain):
        raise StorageUrlInvalid(
            f"the endpoint {plain} has no TLS and is not on this machine; use https://, or allow it"
        )
    try:
        return _open_cloud(url, parts, {**_CLIENT, "allow_http": plain is not None})
    except (BaseError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise StorageUrlInvalid(f"{url}: {said}") from error


_CLIENT: ClientConfig = {
    "connect_timeout": _CONNECT,
    "read_timeout": _STALL,
    "timeout": _WHOLE,
    "user_agent": "portside",
}


def _open_here(url: str, parts: SplitResult) -> ObjectStore:
    if parts.netloc:
        raise StorageUrlInvalid(f"{url!r} needs a third slash before the path")
    if parts.scheme == "memory":
        return MemoryStore()
    if not parts.path.strip("/"):
        raise StorageUrlInvalid(f"{url!r} names no directory")
    try:
        return LocalStore(parts.path, mkdir=True)
    except (BaseError, OSError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise StorageUrlInvalid(f"{url}: {said}") from error


def _open_cloud(url: str, parts: SplitResult, client: ClientConfig) -> ObjectStore:
    container, prefix = parts.netloc, parts.path.strip("/") or None
    if not container:
        raise StorageUrlInvalid(f"{url!r} names no bucket or container")
    if parts.scheme == "s3":
        return S3Store(container, prefix=prefix, client_options=client, retry_config=_RETRY)
    if parts.scheme == "az":
        return AzureStore(container, prefix=prefix, client_options=client, retry_config=_RETRY)
    return GCSStore(container, prefix=prefix, client_options=client, retry_config=_RETRY)


def _plain_endpoint(scheme: str, environment: Mapping[str, str]) -> str | None:
    """Give the endpoint that the environment names if it has no TLS."""
    named = (environment.get(name, "") for name in _ENDPOINTS[scheme])
    endpoint = next((value for value in named if value), "")
    if endpoint.lower().startswith("http://"):
        return endpoint
    if scheme == "az" and environment.get(_EMULATOR, "").lower() in ("1", "true"):
        return "http://127.0.0.1:10000"
    return None


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
