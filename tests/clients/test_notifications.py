"""What distribution tells its listeners, and what Portside tells them in its format."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from servers import ServerMissing
from support.balancer import take_port
from support.content import digest_of, image
from support.missing import server_needed
from support.receiving import Receiver, receiving, webhook
from support.server import running_registry
from support.waiting import until
from support.wire import OCTETS, connect, put_manifest

CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
notifications:
  endpoints: [{{name: test, url: "{url}", timeout: 5s, threshold: 5, backoff: 1s}}]
"""

TOLD = 8
"""Events of `use`: two blobs, a tag, a digest, a mount; and a manifest, a tag and a blob go."""


@contextmanager
def distribution(folder: Path, receiver: Receiver) -> Iterator[str]:
    """Run distribution; yields its URL."""
    with server_needed():
        if shutil.which("docker-registry") is None:
            raise ServerMissing("docker-registry is not installed")
    port = take_port()
    configuration = folder / "config.yml"
    text = CONFIGURATION.format(root=folder / "content", port=port, url=receiver.url)
    configuration.write_text(text)
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration)], stdout=log, stderr=log
        )
        try:
            until(lambda: answers(url))
            yield url
        finally:
            process.kill()
            process.wait()


@contextmanager
def portside(folder: Path, receiver: Receiver) -> Iterator[str]:
    """Run Portside; yields its URL."""
    port = take_port()
    rules = folder / "rules.toml"
    rules.write_text(f'{webhook("test", receiver)}format = "distribution"\n')
    url = f"http://127.0.0.1:{port}"
    listen = ("--listen", f"127.0.0.1:{port}", "--public-url", url)
    with running_registry(folder / "data", "--workers", "1", "--rules", str(rules), *listen):
        yield url


def answers(url: str) -> bool:
    """Whether a registry is there."""
    try:
        return httpx.get(f"{url}/v2/").status_code == 200
    except httpx.TransportError:
        return False


def use(url: str) -> None:
    """Push, mount and delete."""
    content = image("told", layers=1, layer_size=10)
    with connect(url) as client:
        for blob in content.blobs:
            location = client.post("/v2/team/app/blobs/uploads/").headers["Location"]
            # The locations of distribution have a query.
            place = f"{location}{'&' if '?' in location else '?'}digest={digest_of(blob)}"
            assert client.put(place, content=blob, headers=OCTETS).status_code == 201
        assert put_manifest(client, "team/app", content, "1").status_code == 201
        assert put_manifest(client, "team/app", content).status_code == 201
        digest = digest_of(content.blobs[0])
        source = {"mount": digest, "from": "team/app"}
        assert client.post("/v2/base/os/blobs/uploads/", params=source).status_code == 201
        for path in (f"manifests/{content.digest}", f"blobs/{digest}"):
            assert client.delete(f"/v2/team/app/{path}").status_code == 202


def told(url: str, receiver: Receiver) -> list[dict[str, Any]]:
    """Return the events that come, in an order of their own, without what differs by chance."""
    use(url)
    until(lambda: len(receiver.raw) >= TOLD)
    events = []
    for headers, body in receiver.raw:
        assert headers["Content-Type"].startswith("application/vnd.docker.distribution.events.v")
        for event in json.loads(body)["events"]:
            place = event["target"].get("url", url)
            assert place.startswith(url)
            events.append(
                {
                    "members": sorted(event),
                    "action": event["action"],
                    "target": event["target"] | {"url": place.removeprefix(url)},
                    "asked": event["request"].keys(),
                    "method": event["request"]["method"],
                    "agent": event["request"]["useragent"],
                    "is_host": event["request"]["host"] == urlsplit(url).netloc,
                    "actor": event["actor"],
                    "source": event["source"].keys(),
                }
            )
    return sorted(events, key=lambda event: json.dumps(event["target"], sort_keys=True))


@pytest.mark.long
def test_the_same_is_told(tmp_path: Path) -> None:
    """Members and values agree, so that who listens to distribution can listen to Portside."""
    found = []
    for start in (distribution, portside):
        folder = tmp_path / start.__name__
        folder.mkdir()
        with receiving() as receiver, start(folder, receiver) as url:
            found.append(told(url, receiver))
    theirs, ours = found
    assert len(theirs) == TOLD
    assert ours == theirs
