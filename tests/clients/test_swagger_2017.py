"""A client that bravado generates from the description of 2017 does every operation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import httpx
import jsonschema
import pytest
import yaml

from support.content import digest_of, image, make_blob
from support.server import RunningRegistry
from support.waiting import PATIENCE
from support.wire import push, push_blob

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from bravado.client import CallableOperation, SwaggerClient
    from bravado.exception import HTTPError
    from bravado.requests_client import RequestsClient

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DESCRIPTION = Path(__file__).with_name("acr-swagger-2017.yaml")
NONE = "0" * 32


def description(address: str) -> dict[str, Any]:
    """Read the description; only the host, and that it is plain HTTP, is set to the registry's."""
    document: dict[str, Any] = yaml.safe_load(DESCRIPTION.read_text("utf-8"))
    document |= {"host": address, "schemes": ["http"]}
    return cast("dict[str, Any]", _with_text_keys(document))


def _with_text_keys(value: Any) -> Any:
    """Write the statuses, which YAML reads as numbers, as the text that JSON would have."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


class Operations:
    """Calls operations by method and path, and remembers which."""

    def __init__(self, address: str) -> None:
        http = RequestsClient()
        http.set_basic_auth("127.0.0.1", "anyone", "anything")
        self.spec = SwaggerClient.from_spec(
            description(address),
            http_client=http,
            config={"also_return_response": True, "use_models": False},
        )
        self._by_route = {
            (operation.http_method.upper(), operation.path_name): operation
            for resource in self.spec.swagger_spec.resources.values()
            for operation in resource.operations.values()
        }
        self.called: set[tuple[str, str]] = set()

    @property
    def all(self) -> set[tuple[str, str]]:
        """Every operation that the description has."""
        return set(self._by_route)

    def call(self, method: str, path: str, **parameters: str) -> Any:
        """Call an operation; returns the answer, whose status has to be a documented one."""
        operation = self._by_route[method, path]
        self.called.add((method, path))
        try:
            _, answer = CallableOperation(operation, also_return_response=True)(
                **parameters
            ).result(timeout=PATIENCE)
        except HTTPError as error:
            answer = error.response
        documented = operation.op_spec["responses"]
        assert str(answer.status_code) in documented, f"{method} {path}: {answer.status_code}"
        return answer


@pytest.fixture
def operations(acr_registry: RunningRegistry) -> Operations:
    """Generate the client."""
    return Operations(acr_registry.address)


V2 = "/v2"
TAGS = "/v2/{name}/tags/list"
MANIFEST = "/v2/{name}/manifests/{reference}"
BLOB = "/v2/{name}/blobs/{digest}"
UPLOADS = "/v2/{name}/blobs/uploads"
UPLOAD = "/v2/{name}/blobs/uploads/{uuid}"


def test_every_operation(operations: Operations, acr_client: httpx.Client, repository: str) -> None:
    """Each operation succeeds with the status that the description has for it."""
    content = image(repository)
    push(acr_client, repository, content, "v1")
    digest = push_blob(acr_client, repository, make_blob(10, repository))
    empty = digest_of(b"")

    def call(method: str, path: str, expected: int, **parameters: str) -> Any:
        answer = operations.call(method, path, **parameters)
        assert answer.status_code == expected, answer.text
        return answer

    call("GET", V2, 200)
    call("GET", TAGS, 200, name=repository)
    call("GET", MANIFEST, 200, name=repository, reference="v1")
    call("GET", MANIFEST, 200, name=repository, reference=content.digest)
    call("GET", BLOB, 200, name=repository, digest=digest)
    call("HEAD", BLOB, 200, name=repository, digest=digest)
    call("POST", UPLOADS, 201, name=repository, digest=empty)
    for method in ("DELETE", "PUT"):
        opened = call("POST", UPLOADS, 202, name=repository)
        session = {"name": repository, "uuid": opened.headers["Docker-Upload-UUID"]}
        call("GET", UPLOAD, 204, **session)
        call("PATCH", UPLOAD, 204, **session)
        ending = {"digest": empty} if method == "PUT" else {}
        call(method, UPLOAD, 204, **session, **ending)
        call("GET", UPLOAD, 404, **session)
    call("PUT", MANIFEST, 400, name=repository, reference="v2")
    call("DELETE", MANIFEST, 202, name=repository, reference="v1")
    call("DELETE", MANIFEST, 202, name=repository, reference=content.digest)
    assert operations.called == operations.all


@pytest.mark.parametrize("name", ["unknown/name", "BAD NAME", "a//b"])
@pytest.mark.parametrize("last", ["v1", "sha256:bad", digest_of(b"unknown"), NONE])
def test_every_failure(operations: Operations, name: str, last: str) -> None:
    """Whatever cannot be done is said with a documented status."""
    for method, path in operations.all - {("GET", V2)}:
        parameters = {"name": name}
        if "{reference}" in path:
            parameters["reference"] = last
        elif "{digest}" in path or method == "PUT":
            parameters["digest"] = last
        if "{uuid}" in path:
            parameters["uuid"] = last
        operations.call(method, path, **parameters)


@pytest.mark.parametrize("dialect", ["oci", "acr-2017"])
def test_bodies_follow_the_schemas(
    request: pytest.FixtureRequest, repository: str, dialect: str
) -> None:
    """In both dialects, every body validates against the description's schemas."""
    client = request.getfixturevalue("acr_client" if dialect == "acr-2017" else "client")
    document = description("127.0.0.1:1")
    error = document["definitions"]["Error"]
    tags = document["paths"][TAGS]["get"]["responses"]["200"]["schema"]
    layers = document["definitions"]["Layers"]
    # The description calls the history a text; in Docker's format, which it means, it is a list.
    layers["properties"]["history"]["type"] = ["string", "array"]
    push(client, repository, image(repository), "v1")
    for path, schema in (
        (f"/v2/{repository}/tags/list", tags),
        (f"/v2/{repository}/manifests/v1", layers),
        (f"/v2/{repository}/manifests/v2", error),
        (f"/v2/{repository}/blobs/sha256:bad", error),
        (f"/v2/{repository}/blobs/{digest_of(b'x')}", error),
        (f"/v2/{repository}/blobs/uploads/{NONE}", error),
        ("/v2/BAD/tags/list", error),
    ):
        jsonschema.validate(client.get(path).json(), schema)
