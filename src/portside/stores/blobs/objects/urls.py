"""From a URL to an object store.

Credentials, regions and endpoints come from where each cloud's own tools look for them: the
environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AZURE_STORAGE_ACCOUNT_NAME`,
`GOOGLE_APPLICATION_CREDENTIALS`…) and the identity of the machine. obstore reads them; here, the
environment is looked at only for an endpoint without TLS, and for a profile of AWS. Profiles name
roles, logins and programs to run: boto3 reads them, which is an extra of Portside.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from portside.spec.media_types import OCTET_STREAM

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SCHEMES = ("s3", "az", "gs")

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
}
_MISSING = {
    "Missing SecretAccessKey": "AWS_ACCESS_KEY_ID is set; set AWS_SECRET_ACCESS_KEY as well",
    "Missing AccessKeyId": "AWS_SECRET_ACCESS_KEY is set; set AWS_ACCESS_KEY_ID as well",
    "Account must be specified": (
        "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or another credential"
    ),
    "Invalid Access Key": "AZURE_STORAGE_ACCOUNT_KEY is not a key in base64; copy it again",
}
"""What to do about what obstore says of the environment."""

_EMULATOR = "AZURE_STORAGE_USE_EMULATOR"
_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}


class Patience(NamedTuple):
    """How long to wait for a store, in seconds.

    `connect` for a connection, `silence` for the next byte of an answer, whether a request carries
    a part or a copy is made (a slow client does not count), `whole` for all of an answer, and
    `retries` for one that is no error: a store that fails for longer is down, and the client hears
    so while it waits.
    """

    connect: float = 5
    silence: float = 60
    whole: float = 24 * 3600
    retries: float = 15


BRIEF = Patience(silence=15, whole=20)
"""For requests with small bodies: they end within 40 seconds, retries included."""


class StorageUrlInvalid(ValueError):
    """The URL does not name an object store that Portside can use; says why in one line."""


def split_url(url: str) -> SplitResult:
    """Split a URL; raises StorageUrlInvalid."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise StorageUrlInvalid(f"the URL cannot be read: {error}") from error


def open_store(
    url: str,
    *,
    environment: Mapping[str, str],
    allow_http: bool = False,
    patience: Patience | None = None,
) -> ObjectStore:
    """Open the store of a URL; nothing is read or written yet.

    Schemes are `s3://bucket/prefix`, `az://container/prefix` and `gs://bucket/prefix`. An endpoint
    without TLS has to be on the loopback interface unless `allow_http` is set: credentials and
    content would travel in the clear. Raises StorageUrlInvalid.
    """
    parts = split_url(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        # What is shown here could be a secret.
        raise StorageUrlInvalid(
            f"the {parts.scheme}:// URL says more than where the blobs are; credentials and"
            " endpoints come from the environment"
        )
    if parts.scheme not in SCHEMES:
        raise StorageUrlInvalid(_explain_scheme(url, parts.scheme))
    plain = _plain_endpoint(parts.scheme, environment)
    if plain is not None and not allow_http and not _is_loopback(plain):
        shown = plain.rpartition("@")[2]
        raise StorageUrlInvalid(
            f"the endpoint {shown} has no TLS and is not on this machine; use https://, or set"
            " --storage-http"
        )
    try:
        client = _client(patience or Patience(), is_plain=plain is not None)
        retry = _retry(patience or Patience())
        return _open_cloud(url, parts, environment, client, retry)
    except (BaseError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        missing = next((text for sign, text in _MISSING.items() if sign in said), said)
        raise StorageUrlInvalid(f"{url}: {missing}") from error


def _explain_scheme(url: str, scheme: str) -> str:
    """Return what to write for a URL that is not one of an object store."""
    if scheme in {"http", "https"}:
        return (
            f"{url!r} is an address; name the bucket, such as s3://BUCKET/PREFIX, and set"
            " AWS_ENDPOINT_URL or AZURE_STORAGE_ENDPOINT to the address"
        )
    if "://" not in url:
        directory = Path(url).expanduser().absolute().as_uri()
        return f"{url!r} is not a URL; write {directory} for the directory"
    known = ", ".join(f"{known}://" for known in SCHEMES)
    return f"{url!r} names no object store; it has to begin with {known}, or file:///"


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
        # Clients fetch blobs by signed URLs, and a store may guess at a type that it was not told.
        "default_content_type": OCTET_STREAM,
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
    """Return the endpoint that the environment names if it has no TLS."""
    named = (environment.get(name, "") for name in _ENDPOINTS[scheme])
    endpoint = next((value for value in named if value), "")
    if endpoint.lower().startswith("http://"):
        return endpoint
    if scheme == "az" and environment.get(_EMULATOR, "").lower() in ("1", "true"):
        return "http://127.0.0.1:10000"
    return None


def _is_loopback(endpoint: str) -> bool:
    host = split_url(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class ProfileInvalid(ValueError):
    """The profile of AWS that the environment names cannot be used; says why in one line."""


def find_profile(environment: Mapping[str, str]) -> Boto3CredentialProvider | None:
    """Return the credentials of the profile in force; None if there is no profile.

    The profile that AWS_PROFILE names comes first, then a key in the environment, then the default
    profile. Raises ProfileInvalid.
    """
    name = environment.get("AWS_PROFILE") or None
    if name is None and ("AWS_ACCESS_KEY_ID" in environment or not _has_files(environment)):
        return None
    try:
        from boto3.session import Session  # noqa: PLC0415  # an extra, and slow to import
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    except ImportError as error:
        if name is None:
            return None
        missing = f"AWS_PROFILE is {name}, and profiles need boto3: pip install 'portside[aws]'"
        raise ProfileInvalid(missing) from error
    try:
        session = Session(profile_name=name)
        if name is None and session.get_credentials() is None:
            return None
        return Boto3CredentialProvider(session)
    except (BotoCoreError, ValueError) as error:
        raise ProfileInvalid(f"the profile {name or 'default'}: {error}") from error


def _has_files(environment: Mapping[str, str]) -> bool:
    home = Path(environment.get("HOME", "/")) / ".aws"
    return any(
        Path(environment.get(variable) or home / file).expanduser().is_file()
        for variable, file in _FILES.items()
    )
