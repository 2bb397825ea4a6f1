"""Endpoints for operators and tools: health, readiness, and the OpenAPI document."""

from __future__ import annotations

from starlette.responses import Response

from portside.api.openapi import describe
from portside.api.requests import Request
from portside.api.responses import json_response
from portside.spec.endpoints import Status


async def healthz(request: Request) -> Response:
    """Answer 200 as long as the process runs."""
    del request
    return json_response(200, Status("alive"))


async def readyz(request: Request) -> Response:
    """Answer 200 if both stores work."""
    await request.registry.readiness.check()
    return json_response(200, Status("ready"))


async def openapi(request: Request) -> Response:
    """Send the description of the API."""
    return json_response(200, describe(request.registry.dialect))
