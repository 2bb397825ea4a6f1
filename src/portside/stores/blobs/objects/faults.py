"""What an object store says of a request, in the registry's words."""

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


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what obstore raises while `doing` something into StorageFull or Unavailable.

    That an object is not there is a FileNotFoundError; whoever can answer that catches it first.
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
    """Keep the first line, for the rest is Rust's, and of an XML document its code.

    The query of a URL may hold a signature, and goes.
    """
    whole = str(error).strip()
    code = _CODE.search(whole)
    said = _DOCUMENT.sub("", _QUERY.sub(r"\1", whole.partition("\n")[0]))
    return f"{doing}: {said} ({code[1]})" if code else f"{doing}: {said}"
