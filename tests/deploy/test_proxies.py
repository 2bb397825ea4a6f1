"""nginx and Caddy, configured as the page about proxies says, before a registry on a socket."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from clients.conftest import Run
from portside.config import make_settings
from support.access import ALICE, guarded_registry
from support.balancer import find_proxy, running_proxy, take_port, temporary_paths
from support.certificates import write_certificate
from support.content import digest_of, image, make_blob
from support.layouts import Layout, files_of
from support.pages import ROOT, read_fences
from support.server import RunningRegistry
from support.waiting import PATIENCE, until
from support.wire import OCTETS, open_upload, push, push_blob

PAGE = ROOT / "docs" / "howto" / "behind-a-proxy.md"
PRINTED = "registry.example"
SOCKET = "/run/portside/portside.sock"
MIB = 2**20


class Front(NamedTuple):
    """A proxy with TLS, and the registry behind it."""

    registry: RunningRegistry
    port: int
    trust: ssl.SSLContext
    folder: Path

    @property
    def address(self) -> str:
        """Host and port, as clients name a registry."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The root of every path."""
        return f"https://{self.address}"

    def connect(self, login: tuple[str, str] | None = None) -> httpx.Client:
        """Return a client that trusts the certificate."""
        return httpx.Client(base_url=self.url, verify=self.trust, auth=login, timeout=60)


def printed(name: str) -> str:
    """Return the file that the page prints."""
    (block,) = (text for _, text in read_fences(PAGE) if text.startswith(f"# /etc/{name}/"))
    return block


def replaced(text: str, changes: dict[str, str]) -> str:
    """Replace names, ports and paths by those of the test, and nothing else."""
    for written, wanted in changes.items():
        assert written in text
        text = text.replace(written, wanted)
    return text


@contextmanager
def nginx(folder: Path, at: str, port: int, pair: tuple[Path, Path]) -> Iterator[None]:
    """Run nginx with the site, and with the least that it needs around."""
    certificate, key = map(str, pair)
    site = replaced(
        printed("nginx"),
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/certificate.pem": certificate,
            "/etc/nginx/key.pem": key,
            SOCKET: at,
        },
    )
    # As root, its processes would become another user, which cannot see the folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"{user}pid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\n{temporary_paths(folder)}access_log off;\n{site}}}\n"
    )
    command = [find_proxy("nginx"), "-c", str(configuration), "-g", "daemon off;"]
    with running_proxy(command, port, folder / "proxy.log"):
        yield


@contextmanager
def caddy(folder: Path, at: str, port: int, pair: tuple[Path, Path]) -> Iterator[None]:
    """Run Caddy with the site, and with a certificate that no authority has to issue."""
    certificate, key = pair
    names = f"https://127.0.0.1:{port} {{\n    bind 127.0.0.1\n    tls {certificate} {key}\n"
    site = replaced(printed("caddy"), {f"{PRINTED} {{\n": names, f"unix/{SOCKET}": f"unix/{at}"})
    configuration = folder / "Caddyfile"
    options = "admin off", "auto_https disable_redirects", f"storage file_system {folder}"
    configuration.write_text("\n".join(("{", *options, "}", site)))
    command = [find_proxy("caddy"), "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with running_proxy(["env", f"HOME={folder}", *command], port, folder / "proxy.log"):
        yield


PROXIES = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(scope="module", params=PROXIES)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """Serve a registry with users on a socket, behind a proxy."""
    folder = tmp_path_factory.mktemp(request.param)
    at = f"{folder}/portside.sock"
    pair = write_certificate(folder)
    port = take_port()
    options = ("--listen", f"unix:{at}", "--access-log", "--workers", "1")
    with (
        guarded_registry(folder / "data", *options) as registry,
        PROXIES[request.param](folder, at, port, pair),
    ):
        trust = ssl.create_default_context(cafile=str(pair[0]))
        yield Front(registry, port, trust, folder)


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    """Talk to the proxy as a user."""
    with front.connect(ALICE.pair) as client:
        yield client


class TestForwarded:
    """What the proxy says of requests."""

    def test_realm(self, front: Front) -> None:
        """Clients are sent for tokens to where they called, by TLS."""
        with front.connect() as stranger:
            answer = stranger.get("/v2/")
        assert answer.status_code == 401
        realm = f'Bearer realm="{front.url}/oauth2/token",service="portside"'
        assert answer.headers["WWW-Authenticate"] == realm

    def test_invented(self, front: Front, client: httpx.Client) -> None:
        """What a client writes into these headers is not believed."""
        invented = {
            "X-Forwarded-For": "198.51.100.7",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": "evil.example",
            "Forwarded": "for=198.51.100.7;proto=http;host=evil.example",
        }
        client.get("/v2/invented/manifests/1", headers=invented)
        with front.connect() as stranger:
            answer = stranger.get("/v2/", headers=invented)
        assert f'realm="{front.url}/oauth2/token"' in answer.headers["WWW-Authenticate"]
        until(lambda: '"path":"/v2/invented/manifests/1"' in front.registry.log)
        lines = [line for line in front.registry.log.splitlines() if "/v2/invented/" in line]
        assert {json.loads(line)["client"] for line in lines} == {"127.0.0.1"}


class TestBlobs:
    """Bodies of any size, in both directions."""

    def test_large(self, client: httpx.Client, repository: str) -> None:
        """A blob is pushed in one request, and pulled whole and in part."""
        content = make_blob(32 * MIB, repository)
        digest = digest_of(content)
        location = open_upload(client, repository)
        assert client.put(location, params={"digest": digest}, content=content).status_code == 201
        path = f"/v2/{repository}/blobs/{digest}"
        assert digest_of(client.get(path).content) == digest
        part = client.get(path, headers={"Range": "bytes=1000000-1000009"})
        assert (part.status_code, part.content) == (206, content[1_000_000:1_000_010])

    def test_chunks(self, client: httpx.Client, repository: str) -> None:
        """An upload in chunks, and one in a stream of unknown length, arrive as they were sent."""
        content = make_blob(3 * MIB, repository)
        location = open_upload(client, repository)
        for start in range(0, len(content), MIB):
            headers = {**OCTETS, "Content-Range": f"{start}-{start + MIB - 1}"}
            answer = client.patch(location, content=content[start : start + MIB], headers=headers)
            assert answer.status_code == 202
            location = answer.headers["Location"]
            assert location.startswith("/v2/")
        assert client.put(location, params={"digest": digest_of(content)}).status_code == 201

        streamed = make_blob(3 * MIB, (repository, "streamed"))
        location = open_upload(client, repository)
        pieces = (streamed[at : at + 100_000] for at in range(0, len(streamed), 100_000))
        assert client.patch(location, content=pieces).status_code == 202
        assert client.put(location, params={"digest": digest_of(streamed)}).status_code == 201
        found = client.get(f"/v2/{repository}/blobs/{digest_of(streamed)}")
        assert found.content == streamed

    def test_not_held_back(self, front: Front, client: httpx.Client, repository: str) -> None:
        """The registry has the first half of a body before the client sends the second."""
        content = make_blob(4 * MIB, repository)
        location = open_upload(client, repository)
        session = front.registry.data / "uploads" / location.rpartition("/")[2].partition("?")[0]
        head = (
            f"PUT {location}?digest={digest_of(content)} HTTP/1.1\r\nHost: {front.address}\r\n"
            f"Authorization: Basic {ALICE.encoded}\r\nContent-Length: {len(content)}\r\n"
            "Connection: close\r\n\r\n"
        )
        with (
            socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE) as plain,
            front.trust.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(head.encode() + content[: 2 * MIB])
            until(lambda: session.exists() and session.stat().st_size >= MIB)
            connection.sendall(content[2 * MIB :])
            assert connection.recv(12) == b"HTTP/1.1 201"


class TestRequests:
    """Requests that a proxy could damage."""

    def test_encoded_names(self, client: httpx.Client, repository: str) -> None:
        """Percent-encoded names and digests reach the registry as they were sent."""
        content = image(repository)
        push(client, repository, content, "v1")
        encoded = repository.replace("/", "%2F")
        digest = content.digest.replace(":", "%3A")
        assert client.get(f"/v2/{encoded}/manifests/{digest}").content == content.manifest

    def test_a_hundred_tags(self, client: httpx.Client, repository: str) -> None:
        """A push with as many tags as are allowed, all of full length, comes through and back."""
        content = image(repository)
        push(client, repository, content)
        tags = [f"{number:03}{'x' * 125}" for number in range(100)]
        answer = client.put(
            f"/v2/{repository}/manifests/{content.digest}",
            params={"tag": tags},
            content=content.manifest,
            headers={"Content-Type": content.media_type},
        )
        assert answer.status_code == 201
        assert all(tag in answer.headers["OCI-Tag"] for tag in tags)

    def test_not_modified(self, client: httpx.Client, repository: str) -> None:
        """Conditions reach the registry, and a head tells the size."""
        path = f"/v2/{repository}/blobs/{push_blob(client, repository, b'content')}"
        head = client.head(path)
        assert head.headers["Content-Length"] == "7"
        assert client.get(path, headers={"If-None-Match": head.headers["ETag"]}).status_code == 304


def test_skopeo(front: Front, run: Run, repository: str, tmp_path: Path) -> None:
    """A client logs in, pushes an image with a large layer, and pulls it back, by HTTP/2."""
    (certificates := tmp_path / "certificates").mkdir()
    (certificates / "ca.crt").write_bytes((front.folder / "certificate.pem").read_bytes())
    layout = Layout(tmp_path / "layout")
    layout.add_image("app", (1000, 8 * MIB))
    remote = f"docker://{front.address}/{repository}:1"
    trusting = ("--username", ALICE.name, "--password", ALICE.password)
    run("skopeo", "login", *trusting, "--cert-dir", str(certificates), front.address)
    run("skopeo", "copy", f"oci:{layout.root}:app", remote, "--dest-cert-dir", str(certificates))
    back = tmp_path / "back"
    run("skopeo", "copy", remote, f"oci:{back}:app", "--src-cert-dir", str(certificates))
    assert files_of(back) == layout.files()


def test_idle_connections() -> None:
    """Caddy ends them before the registry does, by the default of the registry."""
    found = re.search(r"keepalive (\d+)s$", printed("caddy"), re.MULTILINE)
    assert found is not None
    assert int(found[1]) < make_settings({}).idle_timeout
