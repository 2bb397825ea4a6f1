"""The shape of the code: names, and what importing does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "portside"
MODULES = sorted(SOURCE.rglob("*.py"))
NAMELESS = {"utils", "util", "helpers", "common", "base", "misc", "manager", "service", "core"}


def test_modules_have_names() -> None:
    """No module or package has a name that fits any other."""
    paths = [path.relative_to(SOURCE).with_suffix("") for path in MODULES]
    assert len(paths) > 100, "the tree was not found"
    assert [str(path) for path in paths if NAMELESS & set(path.parts)] == []


def test_sql_stands_in_the_metadata_store() -> None:
    """No other place speaks SQL."""
    for path in MODULES:
        if "metadata" not in path.parts:
            assert "SELECT " not in path.read_text("utf-8"), path


def test_importing_changes_nothing(tmp_path: Path) -> None:
    """Every module can be imported, and nothing is written, printed or started by it."""
    names = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        for path in MODULES
        if path.stem != "__main__"
    ]
    script = "import importlib, threading\n"
    script += "".join(f"importlib.import_module({name!r})\n" for name in names)
    script += "assert threading.active_count() == 1\n"
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []
