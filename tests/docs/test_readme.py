"""The README's push and pull work as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from support.server import RunningRegistry

README = Path(__file__).parents[2] / "README.md"


def test_push_and_pull(registry: RunningRegistry, tmp_path: Path) -> None:
    """The block is run by a shell; only the port is another one."""
    section = README.read_text("utf-8").partition("## Push and pull")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    script = block.group(1).replace("127.0.0.1:5000", registry.address)
    with tempfile.TemporaryDirectory(prefix="ps-") as home:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "XDG_RUNTIME_DIR": home,
            "STORAGE_DRIVER": "vfs",
            "CONTAINERS_STORAGE_CONF": _storage(Path(home)),
        }
        done = subprocess.run(
            ["sh", "-eux", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            cwd=tmp_path,
            env=environment,
        )
    assert done.returncode == 0, done.stderr
    assert '"Tags": [\n        "1"\n    ]' in done.stdout


def _storage(home: Path) -> str:
    """Keep the images of the test out of those of the machine."""
    path = home / "storage.conf"
    path.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/root"\nrunroot = "{home}/run"\n'
    )
    return str(path)
