"""Portside and what it depends on, as packages that are installed without a network."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from support.pages import ROOT


def download_wheels(folder: Path) -> None:
    """Put wheels of all that an installation needs into a folder, that of the build as well."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*command, *constraints, "--wheel-dir", str(folder), *needed], check=True)


def write_pip_configuration(path: Path, wheels: str) -> None:
    """Write a configuration with which pip installs from a folder, and asks no index.

    Python compiles what it runs, and not all that there is, as that takes longer than the rest.
    """
    lines = (
        "[global]",
        "no-index = true",
        f"find-links = {wheels}",
        "[install]",
        "no-compile = true",
    )
    path.write_text("\n".join(lines) + "\n")
