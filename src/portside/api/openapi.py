"""The OpenAPI 3.1 description of the API, made from the endpoint table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from portside import __version__
from portside.api.paths import OperatorPath
from portside.spec import media_types
from portside.spec.dialects import Dialect
from portside.spec.endpoints import ENDPOINTS, ERRORS_OF_ALL, Endpoint

JsonObject = dict[str, Any]

_VARIABLES: dict[str, JsonObject] = {
    "name": {
        "description": "name of the repository; its slashes may be percent-encoded",
        "schema": {
            "type": "string",
            "maxLength": 255,
            "pattern": r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
        },
    },
    "reference": {
        "description": "a tag or a digest",
        "schema": {
            "type": "string",
            "maxLength": 135,
            "pattern": r"^[a-zA-Z0-9_][a-zA-Z0-9._:-]*$",
        },
    },
    "digest": {
        "description": "a digest",
        "schema": {
            "type": "string",
            "pattern": r"^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$",
        },
    },
    "session": {
        "description": "id of an upload session",
        "schema": {"type": "string", "pattern": r"^[a-f0-9]{32}$"},
    },
}

_TEXT: JsonObject = {"type": "string"}
_ANY: JsonObject = {}

_SCHEMAS: dict[str, JsonObject] = {
    "Error": {
        "type": "object",
        "required": ["errors"],
        "properties": {
            "errors": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["code", "message", "detail"],
                    "properties": {"code": _TEXT, "message": _TEXT, "detail": _TEXT},
                },
            },
        },
    },
    "Tags": {
        "type": "object",
        "required": ["name", "tags"],
        "properties": {"name": _TEXT, "tags": {"type": "array", "items": _TEXT}},
    },
    "Repositories": {
        "type": "object",
        "required": ["repositories"],
        "properties": {"repositories": {"type": "array", "items": _TEXT}},
    },
    "Index": {
        "type": "object",
        "required": ["schemaVersion", "mediaType", "manifests"],
        "properties": {
            "schemaVersion": {"const": 2},
            "mediaType": {"const": media_types.OCI_INDEX},
            "manifests": {"type": "array", "items": {"type": "object"}},
        },
    },
    "Object": {"type": "object"},
}

_SECURITY: dict[str, JsonObject] = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}

_RESULTS: dict[str, tuple[str, JsonObject]] = {
    "ping": (media_types.JSON, {"$ref": "#/components/schemas/Object"}),
    "get_blob": (media_types.OCTET_STREAM, _ANY),
    "get_manifest": ("*/*", {"$ref": "#/components/schemas/Object"}),
    "list_tags": (media_types.JSON, {"$ref": "#/components/schemas/Tags"}),
    "list_repositories": (media_types.JSON, {"$ref": "#/components/schemas/Repositories"}),
    "list_referrers": (media_types.OCI_INDEX, {"$ref": "#/components/schemas/Index"}),
}
"""The content of a success, where there is any."""

_BODIES: dict[str, str] = {
    "put_manifest": media_types.OCI_MANIFEST,
    "start_upload": media_types.OCTET_STREAM,
    "append_upload": media_types.OCTET_STREAM,
    "finish_upload": media_types.OCTET_STREAM,
}
"""The media type of what a request may carry."""


def describe(dialect: Dialect, operator_paths: Iterable[OperatorPath]) -> JsonObject:
    """Write the document for a registry that speaks `dialect`."""
    paths: dict[str, JsonObject] = {}
    for endpoint in ENDPOINTS:
        path = paths.setdefault(endpoint.path, _path_item(endpoint))
        path[endpoint.method.lower()] = _operation(endpoint, dialect)
    for item in operator_paths:
        paths.setdefault(item.path, {})[item.method.lower()] = _operator_operation(item)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Portside",
            "summary": "A container registry: Docker Registry HTTP API V2, OCI distribution-spec",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": _SECURITY},
        "security": [{}, {"basic": []}, {"bearer": []}],
    }


def _path_item(endpoint: Endpoint) -> JsonObject:
    parameters = [
        {"name": name, "in": "path", "required": True, **variable}
        for name, variable in _VARIABLES.items()
        if f"{{{name}}}" in endpoint.path
    ]
    return {"parameters": parameters} if parameters else {}


def _operation(endpoint: Endpoint, dialect: Dialect) -> JsonObject:
    operation: JsonObject = {
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "description": f"{endpoint.id}; needs the action {endpoint.action!s}",
        "responses": _responses(endpoint, dialect),
    }
    if endpoint.query:
        operation["parameters"] = [
            {
                "name": parameter.name,
                "in": "query",
                "description": parameter.meaning,
                "required": parameter.required,
                "schema": {"type": "array", "items": _TEXT} if parameter.repeated else _TEXT,
            }
            for parameter in endpoint.query
        ]
    if endpoint.operation in _BODIES:
        content = {_BODIES[endpoint.operation]: {"schema": _ANY}}
        operation["requestBody"] = {"required": False, "content": content}
    return operation


def _responses(endpoint: Endpoint, dialect: Dialect) -> JsonObject:
    responses: JsonObject = {}
    for status in (endpoint.success(dialect), *endpoint.other_statuses):
        responses[str(status)] = {"description": endpoint.summary}
    result = _RESULTS.get(endpoint.operation)
    if result is not None:
        media_type, schema = result
        responses[str(endpoint.success(dialect))]["content"] = {media_type: {"schema": schema}}
    for error in (*endpoint.errors, *ERRORS_OF_ALL):
        status = endpoint.failure(error.status, dialect)
        response = responses.setdefault(str(status), {"description": ""})
        codes = {code for code in response["description"].split(", ") if code} | {error.code}
        response["description"] = ", ".join(sorted(codes))
        if endpoint.method != "HEAD":
            schema = {"$ref": "#/components/schemas/Error"}
            response["content"] = {media_types.JSON: {"schema": schema}}
    return dict(sorted(responses.items()))


def _operator_operation(item: OperatorPath) -> JsonObject:
    schema = {"$ref": "#/components/schemas/Object"}
    content = {media_types.JSON: {"schema": schema}}
    responses: JsonObject = {"200": {"description": item.summary, "content": content}}
    error = {media_types.JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in item.failures:
        responses[str(status)] = {"description": "an error", "content": error}
    name = re.sub(r"\W+", "_", item.path.strip("/."))
    return {
        "operationId": name if item.method == "GET" else f"{item.method.lower()}_{name}",
        "summary": item.summary,
        "responses": responses,
    }
