"""The OpenAPI 3.1 description of the API, made from the endpoint table."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from portside.spec import media_types
from portside.spec.dialects import Dialect
from portside.spec.endpoints import ENDPOINTS, VARIABLES, Content, Endpoint, Errors

JsonObject = dict[str, Any]
Schemas = dict[int, JsonObject]
"""The JSON Schema of each document, by the identity of its type."""

_ERROR = Content(media_types.JSON, Errors)

_TEXT: JsonObject = {"type": "string"}

_SECURITY: dict[str, JsonObject] = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}

API_VERSION = "2.0"
"""That of the Docker Registry HTTP API, as in `Docker-Distribution-Api-Version: registry/2.0`."""

_REF = "#/components/schemas/{name}"


@cache
def describe(dialect: Dialect, version: str | None = None) -> JsonObject:
    """Return the document for a registry in `dialect`, with the API's version if `version` is None.

    OpenAPI requires one, and the version of the software is not for everybody.
    """
    documents = _documents()
    references, components = msgspec.json.schema_components(documents, ref_template=_REF)
    schemas: Schemas = dict(zip(map(id, documents), references, strict=True))
    names: dict[str, str] = {}
    paths: dict[str, JsonObject] = {}
    for endpoint in ENDPOINTS:
        path = paths.setdefault(endpoint.path, _path_item(endpoint))
        operation = _operation(endpoint, dialect, schemas)
        # Operation ids are unique, and a second path leads to the same operation.
        if names.setdefault(endpoint.operation, endpoint.path) != endpoint.path:
            operation["operationId"] += "_alias"
        path[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Portside",
            "summary": "A container registry: Docker Registry HTTP API V2, OCI distribution-spec",
            "version": version or API_VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
        "security": [{}, {"basic": []}, {"bearer": []}],
    }


def _path_item(endpoint: Endpoint) -> JsonObject:
    parameters = [
        {
            "name": variable.name,
            "in": "path",
            "required": True,
            "description": variable.meaning,
            "schema": variable.schema,
        }
        for variable in VARIABLES
        if f"{{{variable.name}}}" in endpoint.path
    ]
    return {"parameters": parameters} if parameters else {}


def _documents() -> list[Any]:
    """List the types of every document, each once."""
    contents = [part for endpoint in ENDPOINTS for part in (endpoint.body, endpoint.result) if part]
    documents = {id(content.document): content.document for content in contents}
    return [Errors, *documents.values()]


def _operation(endpoint: Endpoint, dialect: Dialect, schemas: Schemas) -> JsonObject:
    operation: JsonObject = {
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "responses": _responses(endpoint, dialect, schemas),
    }
    if endpoint.action is not None:
        operation["description"] = f"{endpoint.id}; needs the action {endpoint.action!s}"
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
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.needs_body,
            "content": _content(endpoint.body, schemas),
        }
    return operation


def _responses(endpoint: Endpoint, dialect: Dialect, schemas: Schemas) -> JsonObject:
    responses: JsonObject = {}
    success = endpoint.success(dialect)
    for status in (success, *endpoint.other_statuses):
        responses[str(status)] = {"description": endpoint.summary}
    if endpoint.result is not None:
        responses[str(success)]["content"] = _content(endpoint.result, schemas)
    for error in endpoint.every_error:
        status = endpoint.failure(error.status, dialect)
        response = responses.setdefault(str(status), {"description": ""})
        codes = {code for code in response["description"].split(", ") if code} | {error.code}
        response["description"] = ", ".join(sorted(codes))
        if endpoint.method != "HEAD":
            response["content"] = _content(_ERROR, schemas)
    return dict(sorted(responses.items()))


def _content(content: Content, schemas: Schemas) -> JsonObject:
    return {content.media_type: {"schema": schemas[id(content.document)]}}
