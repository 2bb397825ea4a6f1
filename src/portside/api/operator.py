"""Endpoints for operators and tools: the root, health, readiness, and the OpenAPI document."""

from __future__ import annotations

from msgspec import UNSET
from starlette.responses import Response

from portside import __version__
from portside.api.openapi import describe
from portside.api.requests import Request
from portside.api.responses import json_response
from portside.spec.endpoints import Links, Root, Status

LINKS = Links(api="/v2/", description="/openapi.json")


async def root(request: Request) -> Response:
    """Say what this server is, and its version to those who have proved who they are."""
    version = __version__ if await request.is_identified() else UNSET
    return json_response(200, Root("Portside", LINKS, version))


async def healthz(request: Request) -> Response:
    """Answer 200 as long as the process runs."""
    del request
    return json_response(200, Status("alive"))


async def readyz(request: Request) -> Response:
    """Answer 200 if both stores can be read."""
    await request.registry.readiness.check_reads()
    return json_response(200, Status("ready"))


async def readyz_writes(request: Request) -> Response:
    """Answer 200 if both stores can be read and written to."""
    await request.registry.readiness.check_writes()
    return json_response(200, Status("ready"))


async def openapi(request: Request) -> Response:
    """Send the description of the API."""
    version = __version__ if await request.is_identified() else None
    return json_response(200, describe(request.registry.dialect, version))
