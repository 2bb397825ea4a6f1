"""The README's commands work as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

from support.pages import Script, read_fences
from support.server import RunningRegistry

README = Path(__file__).parents[2] / "README.md"
PRINTED = "127.0.0.1:5000"


def test_push_and_pull(registry: RunningRegistry, run_script: Script) -> None:
    """The block is run by a shell; only the port is another one."""
    (block,) = (text for language, text in read_fences(README) if language == "sh")
    printed = run_script(block.replace(PRINTED, registry.address))
    assert '"Tags": [\n        "1"\n    ]' in printed


def test_first_push(registry: RunningRegistry, run_script: Script) -> None:
    """The first push works, from an image of this machine: there may be no way to Docker Hub."""
    run_script('buildah commit "$(buildah from scratch)" hello')
    ((source, target),) = re.findall(
        r"^\$ skopeo copy --dest-tls-verify=false (\S+) (\S+)$",
        README.read_text("utf-8"),
        re.MULTILINE,
    )
    assert source == "docker://docker.io/library/alpine"
    target = target.replace(PRINTED, registry.address)
    run_script(f"skopeo copy --dest-tls-verify=false containers-storage:localhost/hello {target}")
    assert '"1"' in run_script(f"skopeo list-tags --tls-verify=false {target.removesuffix(':1')}")


def test_names_what_make_needs() -> None:
    """`make run` needs nothing beside the packages that the README installs."""
    (packages,) = re.findall(r"^\$ sudo apt install (.+)$", README.read_text("utf-8"), re.MULTILINE)
    script = (README.parent / "scripts" / "make-venv").read_text("utf-8")
    (needed,) = re.findall(r'/need" (\S+?):-$', script, re.MULTILINE)
    assert {"git", "make", needed} <= set(packages.split())
