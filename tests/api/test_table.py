"""The table of endpoints: what a row promises, the rest of the edge keeps."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from portside import acr
from portside.api import operator
from portside.api.app import NOUNS as OF_API
from portside.api.openapi import describe
from portside.api.token_server import TokenServer
from portside.spec.actions import Action
from portside.spec.dialects import Dialect
from portside.spec.endpoints import ENDPOINTS, Endpoint

NOUNS = (*OF_API, *acr.NOUNS)
EDGE = [Path(inspect.getfile(module)).parent for module in (operator, acr)]
VERBS = {
    *("pull", "push", "mount", "delete", "restore", "discover", "tag_history", "readiness"),
    "properties",
    "events",
}
WITHOUT_OPERATION = {"ping", "root", "healthz", "openapi", "list_extensions"}
"""Handlers of what is known without a store."""

ROWS = pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: f"{row.method} {row.path}")


def handlers() -> dict[str, list[FunctionType]]:
    """List the public handlers of every noun by their names."""
    found: dict[str, list[FunctionType]] = {}
    nouns: list[ModuleType | type] = [*NOUNS, TokenServer]
    for noun in nouns:
        module = noun.__module__ if isinstance(noun, type) else noun.__name__
        for name, member in vars(noun).items():
            is_own = isinstance(member, FunctionType) and member.__module__ == module
            if is_own and not name.startswith("_"):
                found.setdefault(name, []).append(member)
    return found


@ROWS
def test_a_row_has_one_handler(row: Endpoint) -> None:
    """The column `operation` is the name of one function."""
    assert len(handlers()[row.operation]) == 1


def test_a_handler_has_a_row() -> None:
    """No handler is left without a path that leads to it."""
    assert set(handlers()) == {row.operation for row in ENDPOINTS}


@ROWS
def test_a_row_has_an_operation(row: Endpoint) -> None:
    """What an endpoint does is done by a verb of `operations`, or reads and changes properties."""
    if row.operation in WITHOUT_OPERATION or row.id == "token":
        return
    (handler,) = handlers()[row.operation]
    module = inspect.getmodule(handler)
    assert module is not None
    called = inspect.getsource(handler)
    for name in vars(module):
        if name.startswith("_") and f"{name}(" in called:
            called += inspect.getsource(getattr(module, name))
    if row.operation == "head_manifest":
        called += inspect.getsource(handlers()["get_manifest"][0])
    assert any(f"registry.{verb}" in called for verb in VERBS)


def test_errors_become_responses_in_one_place() -> None:
    """Handlers catch nothing, and one function answers errors."""
    calls = 0
    for path in (path for folder in EDGE for path in folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_handling = isinstance(node, ast.ExceptHandler)
            assert not (
                is_handling and path.stem in {noun.__name__.rpartition(".")[2] for noun in NOUNS}
            )
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "error_response":
                calls += 1
    assert calls == 1


@pytest.mark.parametrize("dialect", Dialect)
@ROWS
def test_bodies_and_results_are_described(row: Endpoint, dialect: Dialect) -> None:
    """OpenAPI says what a request carries and what a success does, as the row has it."""
    described = describe(dialect)["paths"][row.path][row.method.lower()]
    body = described.get("requestBody", {}).get("content", {})
    assert list(body) == ([row.body.media_type] if row.body else [])
    result = described["responses"][str(row.success(dialect))].get("content", {})
    assert list(result) == ([row.result.media_type] if row.result else [])
    statuses = {str(row.failure(error.status, dialect)) for error in row.every_error}
    assert statuses <= described["responses"].keys()


def test_operation_ids() -> None:
    """No two operations of the description have the same name."""
    paths = describe(Dialect.OCI)["paths"].values()
    names = [
        item[method]["operationId"] for item in paths for method in item if method != "parameters"
    ]
    assert len(names) == len(set(names)) == len(ENDPOINTS)


@ROWS
def test_who_is_asked(row: Endpoint) -> None:
    """What reads or changes content asks, and nothing else; a challenge to push names pull."""
    assert (row.action is not None) == row.path.startswith(("/v2/", "/acr/v1/", "/events"))
    if row.action is Action.PUSH:
        assert row.challenge == (Action.PULL, Action.PUSH)
    assert row.action in row.challenge or not row.challenge


@pytest.mark.parametrize("dialect", Dialect)
def test_required_parameters(dialect: Dialect) -> None:
    """A client made from the description asks its user for what an upload cannot end without."""
    required = {
        (operation["operationId"], parameter["name"])
        for path in describe(dialect)["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
        for parameter in operation.get("parameters", ())
        if parameter["required"]
    }
    assert required == {("finish_upload", "digest")}


def test_described_statuses() -> None:
    """Answers that are neither the usual success nor an error are described as well."""
    paths = describe(Dialect.OCI)["paths"]
    for path, other in (
        ("/v2/{name}/blobs/{digest}", {"206", "304", "307"}),
        ("/v2/{name}/manifests/{reference}", {"304"}),
    ):
        assert set(paths[path]["get"]["responses"]) >= {"200", *other}
