"""Who may import whom: the ladder, the door of each outside library, and the store's interfaces."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
DECISIONS = ROOT / "docs" / "decisions" / "dependencies.md"

# Engines of the standard library, and of backends to come, are kept behind a door as well.
STORE_DOORS = {
    "sqlite3": ("portside.stores.metadata",),
    "asyncpg": ("portside.stores.metadata",),
    "obstore": ("portside.stores.blobs",),
    "boto3": ("portside.stores.blobs.objects.urls",),
    "urllib3": ("portside.stores.sources",),
    "botocore": ("portside.stores.blobs.objects.urls",),
    "opentelemetry": ("portside.telemetry.traces",),
}

# What an extra of Portside brings; it is imported where it is used, and may be missing.
EXTRA = {"boto3", "botocore", "opentelemetry"}

# Libraries that are imported by another name than they are installed by.
IMPORTED_AS = {"prometheus-client": "prometheus_client", "pyjwt": "jwt"}

# Pure modules: they compute, and neither read a clock nor touch the system. `secrets` is here
# because the id of an upload is drawn and not computed.
GRAMMAR_MAY_IMPORT = {
    "__future__", "base64", "collections", "contextlib", "dataclasses", "enum", "functools",
    "hashlib", "itertools", "json", "msgspec", "portside", "re", "secrets", "typing",
}  # fmt: skip

# Other packages see stores by their interfaces; operations that verify a store look into it.
ABOVE_STORES = ("acr", "api", "auth", "operations", "ui")
STORES_SEEN = {
    "portside.stores.interfaces": ABOVE_STORES,
    "portside.stores.properties": ABOVE_STORES,
    "portside.stores.tag_history": ABOVE_STORES,
    "portside.stores.trash": ABOVE_STORES,
    "portside.stores.actors": ABOVE_STORES,
    "portside.stores.events": ABOVE_STORES,
    "portside.stores.webhooks": ("operations",),
    "portside.stores.access": ("auth",),
    "portside.stores.inspection": ("operations",),
    "portside.stores.repairing": ("operations",),
    "portside.stores.copying": ("operations",),
    "portside.stores.backups": ("operations",),
    "portside.stores.marks": ("operations",),
    "portside.stores.read_only": ("operations",),
}


class Import(NamedTuple):
    """The imported module, and the module that imports it."""

    importer: str
    imported: str


@cache
def parsed(text: str) -> ast.Module:
    """Parse a module once, as most modules of all trees are the same."""
    return ast.parse(text)


def imports(source: Path) -> Iterator[Import]:
    """Read every import of a tree, those under TYPE_CHECKING and inside of functions too."""
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        importer = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.walk(parsed(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (Import(importer, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{importer} has a relative import"
                assert node.module is not None
                for alias in node.names:
                    # Only the package itself can be left of a name that is a module.
                    named = f"{node.module}.{alias.name}"
                    is_module = (source / Path(*named.split("."))).is_dir() or (
                        source / Path(*named.split("."))
                    ).with_suffix(".py").is_file()
                    yield Import(importer, named if is_module else node.module)


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of the packages or belongs to one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def documented_doors() -> dict[str, tuple[str, ...]]:
    """Read the last column of the table of decisions: the packages that may import a library."""
    doors: dict[str, tuple[str, ...]] = dict(STORE_DOORS)
    for row in DECISIONS.read_text("utf-8").splitlines():
        if library := re.match(r"\| `([\w-]+)`", row):
            door = row.rstrip("| ").rpartition("|")[2]
            found = tuple(f"portside.{name}" for name in re.findall(r"`([\w.]+)`", door))
            doors[IMPORTED_AS.get(library[1], library[1])] = found
    return doors


def wrong_doors(found: list[Import]) -> list[Import]:
    """List imports of outside libraries that do not go through the library's door."""
    doors = documented_doors()
    return [
        entry
        for entry in found
        if (door := doors.get(entry.imported.partition(".")[0])) is not None
        and not is_within(entry.importer, door)
    ]


def undeclared(found: list[Import]) -> list[Import]:
    """List imports of what neither Python nor a declared dependency brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = (re.match(r"[\w-]+", item) for item in project["dependencies"])
    declared = {IMPORTED_AS.get(name[0], name[0]) for name in names if name}
    known = declared | EXTRA | sys.stdlib_module_names | {"portside"}
    return [entry for entry in found if entry.imported.partition(".")[0] not in known]


def impure(found: list[Import]) -> list[Import]:
    """List imports with which the grammar would do more than compute."""
    return [
        entry
        for entry in found
        if is_within(entry.importer, ("portside.spec",))
        and entry.imported.partition(".")[0] not in GRAMMAR_MAY_IMPORT
    ]


def behind_interfaces(found: list[Import]) -> list[Import]:
    """List imports that see more of a store than its interfaces."""
    above = tuple(f"portside.{name}" for name in ABOVE_STORES)
    return [
        entry
        for entry in found
        if is_within(entry.imported, ("portside.stores",))
        and is_within(entry.importer, above)
        and entry.importer.split(".")[1] not in STORES_SEEN.get(entry.imported, ())
    ]


RULES = [wrong_doors, undeclared, impure, behind_interfaces]


class TestRules:
    """The rules of the design, over every module of Portside."""

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_holds(self, rule: type) -> None:
        """No import breaks the rule."""
        found = list(imports(SOURCE))
        assert len(found) > 100, "the tree was not found"
        assert rule(found) == []

    @pytest.mark.parametrize(
        ("rule", "module", "line"),
        [
            (wrong_doors, "api/blobs", "import sqlite3"),
            (wrong_doors, "operations/push", "from starlette.responses import Response"),
            (wrong_doors, "stores/metadata/blobs", "import obstore"),
            (wrong_doors, "config", "import click"),
            (wrong_doors, "bootstrap", "import uvloop"),
            (wrong_doors, "auth/policy", "import jwt"),
            (wrong_doors, "auth/access", "import bcrypt"),
            (wrong_doors, "stores/blobs/disk/store", "import boto3"),
            (wrong_doors, "telemetry/stores", "from opentelemetry import trace"),
            (undeclared, "api/blobs", "import requests"),
            (impure, "spec/uploads", "import time"),
            (impure, "spec/names", "def late():\n    from pathlib import Path"),
            (behind_interfaces, "api/blobs", "from portside.stores import metadata"),
            (behind_interfaces, "auth/policy", "import portside.stores.blobs.disk.store"),
            (behind_interfaces, "api/app", "import portside.stores.inspection"),
            (behind_interfaces, "api/auth", "from portside.stores.access import AccessStore"),
        ],
    )
    def test_sees_what_breaks_it(self, rule: type, module: str, line: str, tmp_path: Path) -> None:
        """One wrong line in a module is found, whatever else is there."""
        shutil.copytree(SOURCE / "portside", tmp_path / "portside")
        path = tmp_path / "portside" / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as text:
            text.write(f"\n{line}\n")
        importer = f"portside.{module.replace('/', '.')}"
        assert importer in {entry.importer for entry in rule(list(imports(tmp_path)))}


class TestLadder:
    """What `make check` says about directions."""

    @staticmethod
    def directions(source: Path) -> subprocess.CompletedProcess[str]:
        """Check the contracts of pyproject.toml over a tree."""
        command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
        options = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        return subprocess.run(
            [sys.executable, "-c", command, *options],
            capture_output=True,
            text=True,
            cwd=source,
            env={"PYTHONPATH": str(source), "LANG": "C.UTF-8", "COLUMNS": "100"},
            check=False,
        )

    def test_holds(self) -> None:
        """Every import points down."""
        done = self.directions(SOURCE)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("module", "line"),
        [
            ("spec/names", "import portside.stores.interfaces"),
            ("stores/blobs/disk/store", "import portside.operations.push"),
            ("operations/push", "import portside.auth.policy"),
            ("api/blobs", "import portside.config"),
            ("api/blobs", "import portside.acr.tags"),
            ("attic/rest", "import re"),
        ],
    )
    def test_sees_a_wrong_direction(self, module: str, line: str, tmp_path: Path) -> None:
        """An import that points up or sideways, or a package without a step, is refused."""
        shutil.copytree(SOURCE / "portside", tmp_path / "portside")
        for needed in (module, "auth/policy"):
            package = tmp_path / "portside" / Path(needed).parent
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
            (tmp_path / "portside" / f"{needed}.py").touch()
        with (tmp_path / "portside" / f"{module}.py").open("a", encoding="utf-8") as text:
            text.write(f"\n{line}\n")
        done = self.directions(tmp_path)
        assert done.returncode == 1, done.stdout + done.stderr
        assert module.replace("/", ".").split(".", maxsplit=1)[0] in done.stdout
