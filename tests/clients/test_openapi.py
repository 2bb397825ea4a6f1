"""GET /openapi.json is valid, and the registry does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx
import pytest

from clients.conftest import Run
from portside.spec.endpoints import ENDPOINTS
from support.content import image
from support.server import RunningRegistry
from support.wire import ONCE, connect, push

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)

VALIDATOR = """
import runpy, sys
# See the root of the tests.
sys.modules["rfc3987_syntax"] = None
runpy.run_module("openapi_spec_validator", run_name="__main__")
"""
"""The program of a package that cannot be used in this process: it changes jsonschema's own."""


@pytest.mark.parametrize("dialect", ["registry", "acr_registry"])
def test_the_document_is_valid(
    request: pytest.FixtureRequest, run: Run, tmp_path: Path, dialect: str
) -> None:
    """The description of each dialect is OpenAPI 3.1 and names every endpoint."""
    registry: RunningRegistry = request.getfixturevalue(dialect)
    answer = httpx.get(f"{registry.url}/openapi.json", **ONCE)
    path = tmp_path / "openapi.json"
    path.write_bytes(answer.content)
    run(sys.executable, "-c", VALIDATOR, "--schema", "3.1", str(path))
    described = {
        (method.upper(), path)
        for path, item in answer.json()["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS} <= described


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["registry", "acr_registry"])
def test_the_registry_does_what_it_says(
    request: pytest.FixtureRequest, run: Run, dialect: str
) -> None:
    """Requests made from the description get statuses, types and bodies that it lists."""
    registry: RunningRegistry = request.getfixturevalue(dialect)
    with connect(registry.url) as client:
        push(client, "described/app", image("described"), "v1")
    command = Path(sys.executable).with_name("schemathesis")
    options = ["--checks", CHECKS, "--max-examples", "4", "--no-color"]
    options += ["--header", "Authorization: Bearer any"]  # without it, ACR's own API challenges
    options += ["--exclude-path", "/events"]  # a stream does not end
    phases = ["--phases", "examples,coverage,fuzzing", "--generation-deterministic"]
    printed = run(str(command), "run", f"{registry.url}/openapi.json", *options, *phases)
    tested = re.search(r"Tested: (\d+)", printed)
    assert tested is not None, printed
    # Schemathesis leaves out the path that it loads the description from, too.
    assert int(tested.group(1)) == len(ENDPOINTS) - 2
