"""Errors of an object store, translated to those of the registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from portside.spec.errors import StorageFull, Unavailable
from portside.stores.blobs import faults

_FULL = re.compile(
    # The system's ENOSPC and EDQUOT under a directory; MinIO's, Ceph's and Azure's codes; and HTTP.
    r"os error 28\b|os error 122\b|XMinioStorageFull|QuotaExceeded|InsufficientStorage"
    r"|AccountQuotaExceeded|507 Insufficient Storage"
)
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S+")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_DOCUMENT = re.compile(r": <.*")

_SERVER = re.compile(r"https?://[^\s/?]+")
_CAUSE = re.compile(r"Connection refused|failed to lookup address|invalid peer certificate: \w+")

_NO_CREDENTIALS = (
    "found no credentials for the object store, neither in the environment nor from the metadata"
    " service of this machine; set"
)
_KEY = "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"

_REMEDIES = {
    # Where virtual machines ask for credentials, when the environment has none.
    "/latest/(api/token|meta-data)": (
        f"{_NO_CREDENTIALS} AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ),
    "/metadata/identity/": f"{_NO_CREDENTIALS} {_KEY}",
    "computeMetadata": f"{_NO_CREDENTIALS} GOOGLE_APPLICATION_CREDENTIALS",
    # What S3 and its like, and Azure, say of a request.
    "<Code>(NoSuchBucket|ContainerNotFound)<": (
        "{server} has no such bucket or container; create it, or correct the name in --storage"
    ),
    "<Code>InvalidAccessKeyId<": "{server} does not know the key; check AWS_ACCESS_KEY_ID",
    "<Code>SignatureDoesNotMatch<": "{server} refuses the key; check AWS_SECRET_ACCESS_KEY",
    "<Code>(Expired|Invalid)Token<": "{server} refuses the session; renew AWS_SESSION_TOKEN",
    "<Code>Auth(entication|orization)(Failed|Failure)<": (
        f"{{server}} refuses the credentials; check {_KEY}, and the networks that may connect"
    ),
    "<Code>RequestTimeTooSkewed<": (
        "the clock of this machine differs from that of {server}; synchronize it, such as by NTP"
    ),
    "<Code>(PermanentRedirect|AuthorizationHeaderMalformed)<|incorrectly configured region": (
        "the bucket is in another region; set AWS_REGION"
    ),
    "<Code>AccessDenied<|<Code>AuthorizationPermissionMismatch<|403 Forbidden": (
        "{server} denies access; allow to list, read, write and delete objects there"
    ),
    "error sending request": (
        "{server} cannot be reached; check the network and the endpoint in the environment"
    ),
}
"""What to do about what is said, most specific first."""


def is_of_the_store(error: FileNotFoundError) -> bool:
    """Whether the bucket or the container is missing, and not an object."""
    code = _CODE.search(str(error))
    return code is not None and code[1] in {"NoSuchBucket", "ContainerNotFound"}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what obstore raises while `doing` something into StorageFull or Unavailable.

    A missing object is a FileNotFoundError; a caller that can handle it catches it first.
    """
    try:
        with faults.translated(doing):
            try:
                yield
            except FileNotFoundError as error:
                raise Unavailable(_reason(doing, error)) from error
    except BaseError as error:
        is_full = _FULL.search(str(error)) is not None
        raise (StorageFull if is_full else Unavailable)(_reason(doing, error)) from error


def _reason(doing: str, error: Exception) -> str:
    """Return what to do, or the first line (the rest is Rust's); and the code of an XML document.

    The query of a URL may hold a signature, and is left out.
    """
    whole = str(error).strip()
    code = _CODE.search(whole)
    remedy = next((text for sign, text in _REMEDIES.items() if re.search(sign, whole)), None)
    if remedy is not None:
        server = _SERVER.search(whole)
        cause = code[1] if code else next(iter(_CAUSE.findall(whole)), "")
        shown = f" ({cause})" if cause else ""
        return f"{doing}: {remedy.format(server=server[0] if server else 'the store')}{shown}"
    said = _DOCUMENT.sub("", _QUERY.sub(r"\1", whole.partition("\n")[0]))
    return f"{doing}: {said} ({code[1]})" if code else f"{doing}: {said}"
