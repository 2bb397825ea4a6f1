"""skopeo reads converted manifests of schema 1, and what it makes of them are the image's layers.

It names every type that it reads, and so would get what is stored: a proxy asks in its place as a
client does that reads nothing but schema 1.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from clients.conftest import Run
from support.layouts import Layout
from support.schema1 import SIGNED
from support.server import RunningRegistry
from support.wire import ONCE, connect


@pytest.fixture
def old_client(registry: RunningRegistry) -> Iterator[str]:
    """Return the address of a proxy that reads schema 1 only."""
    with connect(registry.url) as client:

        class Proxy(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = client.request(self.command, self.path, headers={"Accept": SIGNED})
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()
        server.server_close()


def test_skopeo(
    run: Run, registry: RunningRegistry, old_client: str, repository: str, tmp_path: Path
) -> None:
    """The document is read, every layer is pulled and verified, and the image is whole again."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app", (1000, 200_000))
    source = f"docker://{registry.address}/{repository}:1"
    run("skopeo", "copy", f"oci:{layout.root}:app", source, "--dest-tls-verify=false")
    original = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", source))

    old = f"docker://{old_client}/{repository}:1"
    raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", old))
    assert raw["schemaVersion"] == 1
    inspected = json.loads(run("skopeo", "inspect", "--tls-verify=false", old))
    head = httpx.head(f"http://{old_client}/v2/{repository}/manifests/1", **ONCE)
    assert inspected["Digest"] == head.headers["Docker-Content-Digest"]

    copied = tmp_path / "copied"
    run("skopeo", "copy", old, f"oci:{copied}:app", "--src-tls-verify=false")
    listed = json.loads((copied / "index.json").read_bytes())["manifests"][0]["digest"]
    manifest = json.loads((copied / "blobs" / "sha256" / listed[7:]).read_bytes())
    layers = [layer["digest"] for layer in manifest["layers"]]
    assert layers == [layer["digest"] for layer in original["layers"]]
