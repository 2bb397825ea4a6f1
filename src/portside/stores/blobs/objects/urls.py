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
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from portside.stores.blobs.objects.profiles import find_profile

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SCHEMES = ("s3", "az", "gs")

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
}
_EMULATOR = "AZURE_STORAGE_USE_EMULATOR"


class Patience(NamedTuple):
    """How long to wait for a store, in seconds.

    `connect` for a connection, `silence` for the next byte of an answer, whether a request carries
    a part or a copy is made (a slow client is no silence), `whole` for all of an answer, and
    `retries` for one that is no error: a store that fails for longer is down, and the client hears
    so while it waits.
    """

    connect: float = 5
    silence: float = 60
    whole: float = 24 * 3600
    retries: float = 15


BRIEF = Patience(silence=15, whole=20)
"""For requests that carry next to nothing: with their retries, they end within 40 seconds."""


class StorageUrlInvalid(ValueError):
    """The URL names no object store that Portside can use; says why in one line."""


def open_store(
    url: str,
    *,
    environment: Mapping[str, str],
    allow_http: bool = False,
    patience: Patience | None = None,
) -> ObjectStore:
    """Make the store of a URL; nothing is read or written yet.

    `s3://bucket/prefix`, `az://container/prefix` and `gs://bucket/prefix` are known. An endpoint
    without TLS has to be on the loopback, unless `allow_http`: credentials and content would travel
    in the clear. Raises StorageUrlInvalid.
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
    plain = _plain_endpoint(parts.scheme, environment)
    if plain is not None and not allow_http and not _is_loopback(plain):
        raise StorageUrlInvalid(
            f"the endpoint {plain} has no TLS and is not on this machine; use https://, or allow it"
        )
    try:
        client = _client(patience or Patience(), is_plain=plain is not None)
        retry = _retry(patience or Patience())
        return _open_cloud(url, parts, environment, client, retry)
    except (BaseError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise StorageUrlInvalid(f"{url}: {said}") from error


def _open_cloud(
    url: str,
    parts: SplitResult,
    environment: Mapping[str, str],
    client: ClientConfig,
    retry: RetryConfig,
) -> ObjectStore:
    container, prefix = parts.netloc, parts.path.strip("/") or None
    if not container:
        raise StorageUrlInvalid(f"{url!r} names no bucket or container")
    if parts.scheme == "s3":
        return S3Store(
            container,
            prefix=prefix,
            client_options=client,
            retry_config=retry,
            credential_provider=find_profile(environment),
        )
    if parts.scheme == "az":
        return AzureStore(container, prefix=prefix, client_options=client, retry_config=retry)
    return GCSStore(container, prefix=prefix, client_options=client, retry_config=retry)


def _client(patience: Patience, *, is_plain: bool) -> ClientConfig:
    return {
        "connect_timeout": timedelta(seconds=patience.connect),
        "read_timeout": timedelta(seconds=patience.silence),
        "timeout": timedelta(seconds=patience.whole),
        "user_agent": "portside",
        "allow_http": is_plain,
    }


def _retry(patience: Patience) -> RetryConfig:
    return {
        "max_retries": 4,
        "retry_timeout": timedelta(seconds=patience.retries),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=3),
            "base": 2,
        },
    }


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
