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

_METADATA_SERVICE = re.compile("/latest/(api/token|meta-data)|/metadata/identity/|computeMetadata")
"""Where virtual machines ask for credentials, when the environment has none."""

_NO_CREDENTIALS = (
    "found no credentials for the object store, neither in the environment nor from the metadata"
    " service of this machine; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
    " AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or GOOGLE_APPLICATION_CREDENTIALS"
)


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
    """Return the first line (the rest is Rust's) and the code of an XML document.

    The query of a URL may hold a signature, and is left out.
    """
    whole = str(error).strip()
    if _METADATA_SERVICE.search(whole):
        return f"{doing}: {_NO_CREDENTIALS}"
    code = _CODE.search(whole)
    said = _DOCUMENT.sub("", _QUERY.sub(r"\1", whole.partition("\n")[0]))
    return f"{doing}: {said} ({code[1]})" if code else f"{doing}: {said}"
