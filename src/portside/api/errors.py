"""Turn errors into responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from portside.api.responses import PreparedResponse, headers, upload_location
from portside.spec import errors
from portside.spec.dialects import Dialect
from portside.spec.endpoints import Endpoint, Error, Errors
from portside.spec.media_types import JSON


def error_response(
    error: errors.RegistryError,
    *,
    endpoint: Endpoint | None,
    dialect: Dialect,
    allowed: Callable[[], Sequence[str]],
    is_head: bool,
    request_id: str,
    is_of_acr: bool = False,
) -> PreparedResponse:
    """Return the response of an error ("Error Codes").

    `endpoint` is None for a request that reached none. `allowed` returns the other methods of the
    path, which a 405 names (RFC 9110, section 15.5.6). `request_id` is in the headers and in each
    detail; ACR's clients print it from a header of their own, which responses of ACR's API have.
    """
    status = endpoint.failure(error.status, dialect) if endpoint else error.status
    body = error_body(error, request_id)
    fields = headers(
        content_type=JSON,
        content_length=str(len(body)),
        allow=", ".join(allowed()) if status == errors.Unsupported.status else None,
        x_request_id=request_id,
        x_ms_correlation_request_id=request_id if is_of_acr else None,
        **_explaining_headers(error, status),
    )
    return PreparedResponse(status, fields, b"" if is_head else body)


def error_body(error: errors.RegistryError, request_id: str) -> bytes:
    """Return the JSON body: one entry for each detail."""
    entries = [
        Error(error.code, error.message, f"{detail} (request {request_id})".lstrip())
        for detail in error.details
    ]
    return msgspec.json.encode(Errors(entries))


def _explaining_headers(error: errors.RegistryError, status: int) -> dict[str, str]:
    """Return the headers that tell a client how to continue."""
    match error:
        case errors.RangeNotSatisfiable(size=size):
            return {"content_range": f"bytes */{size}"}
        case errors.OffsetMismatch(session=session):
            return {
                "location": upload_location(session),
                "range": session.received,
                "docker_upload_uuid": session.id,
            }
        case errors.Unauthorized() | errors.Denied() if status == errors.Unauthorized.status:
            return {"www_authenticate": error.challenge}
        case errors.TooManyRequests() | errors.Unavailable() | errors.UploadBusy():
            return {"retry_after": str(getattr(error, "seconds", 1))}
        case _:
            return {}
