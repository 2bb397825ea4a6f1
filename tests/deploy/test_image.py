"""`deploy/Containerfile`: its steps work in a bare folder, and its page leads to a registry.

No registry of images is asked. The base of the image is made here, and holds nothing but the
directories that an image has: the programs are those of this machine, in its own /usr.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.balancer import take_port
from support.content import image
from support.packages import download_wheels, write_pip_configuration
from support.pages import ROOT, Script, read_fences
from support.server import running_registry
from support.wire import connect, push

IMAGE = ROOT / "deploy" / "Containerfile"
PAGE = ROOT / "docs" / "howto" / "containers.md"
IGNORED = ROOT / ".dockerignore"
HOME = "/opt/portside"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Download what the image installs."""
    folder = tmp_path_factory.mktemp("wheels")
    download_wheels(folder)
    return folder


def stages() -> list[list[tuple[str, str]]]:
    """Read the instructions of each stage of the build."""
    text = re.sub(r"^#.*\n", "", IMAGE.read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, lines):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def is_sent(path: str) -> bool:
    """Whether a file of the checkout is part of what the build can see.

    The file ignores all, names what it lets through, and takes away from that.
    """
    first, *patterns = IGNORED.read_text("utf-8").splitlines()
    assert first == "*"
    top = path.partition("/")[0]
    return f"!{top}" in patterns and "__pycache__" not in path


@pytest.fixture(scope="module")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Follow the instructions; returns the folder that takes the place of the root."""
    root = tmp_path_factory.mktemp("bare")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    context = [name for name in tracked.stdout.splitlines() if is_sent(name)]
    write_pip_configuration(root / "pip.conf", str(wheels))
    environment = {
        "PATH": f"{root}/bin:/usr/bin:/bin",
        "PIP_CONFIG_FILE": f"{root}/pip.conf",
        "LANG": "C.UTF-8",
    }
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    source = root / "source"
    for word, rest in stages()[0]:
        if word == "COPY":
            *names, target = rest.split()
            assert target == "./" or names == [target]
            for name in context:
                if name.partition("/")[0] in names:
                    copied = source / name
                    copied.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(ROOT / name, copied)
        elif word == "RUN":
            command = rest.replace(HOME, f"{root}{HOME}")
            subprocess.run(["sh", "-eux", "-c", command], check=True, cwd=source, env=environment)
        else:
            assert (word, rest) in {("WORKDIR", "/source"), ("ARG", "EXTRAS")} or word == "FROM"
    shutil.rmtree(source)
    return root


@pytest.mark.long
def test_bare_folder(installed: Path, tmp_path: Path) -> None:
    """The steps install every file of the package and no installer, and it serves from anywhere."""
    (packages,) = installed.glob(f".{HOME}/lib/python3*/site-packages")
    assert files_in(packages / "portside") == files_in(ROOT / "src" / "portside")
    assert not (packages / "pip").exists()

    portside = f"{installed}{HOME}/bin/portside"
    content = image("bare")
    with (
        running_registry(tmp_path / "data", "--workers", "1", program=(portside,)) as registry,
        connect(registry.url) as client,
    ):
        push(client, "bare", content, "1")
        assert client.get("/v2/bare/manifests/1").content == content.manifest
    checked = subprocess.run(
        [portside, "check", "--data", str(registry.data)],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
    )
    assert checked.stdout.startswith("No problem in 1 manifest")


def files_in(folder: Path) -> set[str]:
    """List the files of a package, but for what Python compiles."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix() for path in found if "__pycache__" not in path.parts
    }


def write_base(folder: Path) -> None:
    """Write the build of an image that has directories, and the Python of this machine."""
    for name in (
        "etc",
        "opt/base/bin",
        "root",
        "run",
        "tmp",
        "usr",
        "var/lib",
        "var/log",
        "var/tmp",
    ):
        (folder / "base" / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (folder / "base" / name).chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        (folder / "base" / name).symlink_to(f"usr/{name}")
    python = Path(sys.base_prefix) / "bin" / "python3"
    (folder / "base" / "opt" / "base" / "bin" / "python").symlink_to(python)
    (folder / "base" / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "base" / "etc" / "group").write_text("root:x:0:\n")
    build = "FROM scratch\nCOPY base /\nENV PATH=/opt/base/bin:/usr/sbin:/usr/bin\n"
    (folder / "base.Containerfile").write_text(build)


def write_engine(path: Path, mounts: list[str]) -> None:
    """Write how podman runs containers inside another container, where it may raise no limit.

    crun, podman's own choice, does not know the first version of cgroups, which runc does.
    """
    limits = ", ".join(
        f'"{name}={limit}:{limit}"'
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
        if (limit := min(4096, resource.getrlimit(number)[1]))
    )
    volumes = ", ".join(f'"{mount}:ro"' for mount in mounts)
    is_old = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    path.write_text(
        f'[containers]\ndefault_ulimits = [{limits}]\nvolumes = [{volumes}]\nnetns = "host"\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        + ('runtime = "runc"\n' if is_old else "")
    )


@pytest.fixture
def engine(
    wheels: Path, home: Path, environment: dict[str, str], run_script: Script
) -> Iterator[None]:
    """Let podman build on a base of this machine, and run what it built there."""
    write_base(home)
    write_pip_configuration(home / "pip.conf", "/wheels")
    prefix = "" if Path(sys.base_prefix) == Path("/usr") else sys.base_prefix
    mounts = ["/usr:/usr", f"{wheels}:/wheels", f"{home}/pip.conf:/etc/pip.conf"]
    write_engine(home / "containers.conf", mounts + ([f"{prefix}:{prefix}"] if prefix else []))
    environment |= {
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "BUILDAH_LAYERS": "false",
    }
    (base,) = {stage[0][1].partition(" ")[0] for stage in stages()}
    run_script(f"buildah build --tag {base} --file base.Containerfile .")
    yield
    run_script("podman rm --all --force --time 40 && podman volume rm --all --force")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("engine")
def test_page(home: Path, run_script: Script) -> None:
    """Every block succeeds in order, then the registry is replaced and has kept what it had.

    What is different is the port, in the network of this machine.
    """
    port = str(take_port())
    blocks = [block for language, block in read_fences(PAGE) if language == "sh"]
    start = next(block for block in blocks if block.startswith("podman run "))
    run_script(f"cd {ROOT}")
    printed = ""
    for written in (*blocks, start):
        at_port = f"--env PORTSIDE_LISTEN=127.0.0.1:{port}"
        block = written.replace("--publish 127.0.0.1:5000:5000", at_port)
        block = block.replace("127.0.0.1:5000", f"127.0.0.1:{port}")
        block = block.replace("admin.password", f"{home}/admin.password")
        printed += run_script(block)
    assert "Login Succeeded!" in printed
    health = next(block for block in blocks if "healthcheck" in block)
    run_script(health)
    found = run_script("podman exec portside portside tag list team/python")
    assert re.search(r"^3\.13 ", found, re.MULTILINE)
    password = (home / "admin.password").read_text().strip()
    with connect(f"http://127.0.0.1:{port}", auth=("admin", password)) as client:
        assert client.get("/v2/team/python/tags/list").json()["tags"] == ["3.13"]
    with connect(f"http://127.0.0.1:{port}") as client:
        assert client.get("/v2/team/python/tags/list").status_code == 401
    assert (home / "admin.password").stat().st_mode & 0o077 == 0
