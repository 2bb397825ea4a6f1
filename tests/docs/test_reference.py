"""Nothing goes undocumented: settings, endpoints, errors, commands, dependencies."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from portside.cli.commands import commands
from portside.config import Setting, list_settings
from portside.spec import errors
from portside.spec.endpoints import ENDPOINTS
from portside.stores.events import EventAction
from portside.telemetry.catalogue import METRICS
from scripts import metrics_reference
from scripts.settings_reference import renewed

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCE = ROOT / "src" / "portside"


NONE = "\u2013"
"""The dash in a cell of which nothing is listed."""


def rows(name: str) -> list[str]:
    """Return the rows of the tables of a page."""
    text = (REFERENCE / name).read_text("utf-8")
    return [line for line in text.splitlines() if line.startswith("| ")]


def error_classes(root: type[errors.RegistryError]) -> Iterator[type[errors.RegistryError]]:
    """Walk through the tree of errors."""
    for leaf in root.__subclasses__():
        if leaf.__module__ == errors.__name__:
            yield leaf
            yield from error_classes(leaf)


@pytest.mark.parametrize("setting", list_settings(), ids=lambda setting: setting.name)
def test_settings(setting: Setting) -> None:
    """Each setting is documented under its heading, in sentences."""
    page = (REFERENCE / "settings.md").read_text("utf-8")
    section = page.partition(f"\n## {setting.group}\n")[2].partition("\n## ")[0]
    assert f"`--{setting.option}`" in section
    assert f"`{setting.variable}`" in section
    assert not setting.summary.endswith(".")
    for sentences in filter(None, (setting.details, setting.off)):
        assert sentences.endswith(".")


def test_settings_are_current() -> None:
    """The tables of settings say what the declarations say."""
    page = (REFERENCE / "settings.md").read_text("utf-8")
    assert page == renewed(page), "run `make reference`"


def test_metrics_are_current() -> None:
    """The tables of metrics say what the declarations say."""
    page = (REFERENCE / "metrics.md").read_text("utf-8")
    assert page == metrics_reference.renewed(page), "run `make reference`"


def test_no_other_metrics() -> None:
    """Each metric is documented with its type and labels, once, and no other."""
    listed = [row.split(" | ")[:3] for row in rows("metrics.md") if row.startswith("| `")]
    expected = [
        [f"| `{metric.name}`", metric.kind, ", ".join(f"`{it}`" for it in metric.labels) or "none"]
        for metric in METRICS
    ]
    assert sorted(listed) == sorted(expected)
    prose = (REFERENCE / "metrics.md").read_text("utf-8")
    assert set(re.findall(r"portside_\w+", prose)) == {metric.name for metric in METRICS}


def test_no_other_settings() -> None:
    """What is documented exists."""
    documented = set(re.findall(r"`(PORTSIDE_\w+)`", "\n".join(rows("settings.md"))))
    variables = {setting.variable for setting in list_settings()}
    files = {setting.file_variable for setting in list_settings() if setting.is_secret}
    assert documented == variables | files


def test_endpoints() -> None:
    """Each endpoint is documented with its success, action, parameters and errors."""
    page = rows("endpoints.md")
    for endpoint in ENDPOINTS:
        if endpoint.action is None:
            assert f"| `{endpoint.method} {endpoint.path}` | {endpoint.summary} |" in page
            continue
        (row,) = [row for row in page if f"`{endpoint.method} {endpoint.path}`" in row]
        assert endpoint.summary in row
        code, _, success, action, query, failures = row.strip("|").replace(NONE, "").split("|")
        acr = f" ({endpoint.acr_status})" if endpoint.acr_status else ""
        others = "".join(f", {status}" for status in endpoint.other_statuses)
        assert (code.strip(), action.strip()) == (endpoint.id, endpoint.action)
        assert success.strip() == f"{endpoint.status}{acr}{others}"
        assert query.replace("`", "").strip().split(", ") == (
            [parameter.name for parameter in endpoint.query] or [""]
        )
        expected = {f"{error.code} {error.status}" for error in endpoint.errors}
        assert set(failures.strip().split(", ")) == (expected or {""})


def test_errors() -> None:
    """Each error is documented with its code, status and message, and no other."""
    expected = {
        f"| `{error.code}` | {error.status} | {error.message}"
        for error in error_classes(errors.RegistryError)
        if hasattr(error, "message")
    }
    documented = {row.rsplit(" | ", 1)[0] for row in rows("errors.md") if row.startswith("| `")}
    assert documented == expected


def test_errors_are_raised() -> None:
    """Each error that has a message is made somewhere; a family has none, and is not."""
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    }
    found = list(error_classes(errors.RegistryError))
    made = {error.__name__ for error in found} & called
    assert made == {error.__name__ for error in found if hasattr(error, "message")}


def test_events() -> None:
    """The actions are listed in the order in which they are declared, and no others."""
    page = (ROOT / "docs" / "howto" / "audit.md").read_text("utf-8")
    table = page.partition("\n## Events\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert re.findall(r"`([^`]+)`", "".join(first_cells)) == list(EventAction)


def test_commands() -> None:
    """Each command is documented, those of groups by their whole path, and no other."""

    def paths(command: click.Command, path: str) -> Iterator[str]:
        if not isinstance(command, click.Group):
            yield path
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from paths(member, f"{path} {name}")

    text = "\n".join(rows("commands.md"))
    documented = re.findall(r"^\| `(portside(?: [a-z-]+)+)[ A-Z:@]*`", text, re.MULTILINE)
    assert sorted(documented) == sorted(paths(commands, "portside"))


def test_dependencies() -> None:
    """The list of dependencies is the one that was decided upon."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[<>=]", item)[0] for item in project["dependencies"]}
    page = (ROOT / "docs" / "decisions" / "dependencies.md").read_text("utf-8")
    assert declared == set(re.findall(r"^\| `([\w-]+)`", page, re.MULTILINE))
