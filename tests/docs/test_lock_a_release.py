"""The commands of the page about locks print what it says, and a locked release stays."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from support.content import digest_of, image, index
from support.pages import ROOT, Script, read_fences
from support.server import running_registry
from support.wire import assert_error, connect, push, put_manifest

PAGE = ROOT / "docs" / "howto" / "lock-a-release.md"
APP = "team/app"
RELEASE = index(image("amd64"), image("arm64"))


def purge(client: httpx.Client) -> None:
    """Delete every tag and every manifest that can be deleted."""
    for tag in client.get(f"/v2/{APP}/tags/list").json()["tags"]:
        digest = client.head(f"/v2/{APP}/manifests/{tag}").headers["Docker-Content-Digest"]
        for reference in (tag, digest):
            status = client.delete(f"/v2/{APP}/manifests/{reference}").status_code
            assert status in {202, 404, 405}
    for child in RELEASE.children:
        assert client.delete(f"/v2/{APP}/manifests/{child.digest}").status_code == 405
        for blob in child.blobs:
            assert client.delete(f"/v2/{APP}/blobs/{digest_of(blob)}").status_code == 405


def test_page(home: Path, run_script: Script) -> None:
    """A purge removes everything but the release, which is unlocked at the end."""
    outputs = []
    with (
        running_registry(home / "data", "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        push(client, APP, RELEASE, "1.0")
        push(client, APP, image("nightly"), "nightly")
        for language, block in read_fences(PAGE):
            assert language == "console"
            for command, expected in re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", block, re.MULTILINE):
                if command == "portside tag unlock team/app:1.0":
                    purge(client)
                    assert client.get(f"/v2/{APP}/tags/list").json()["tags"] == ["1.0"]
                    assert client.get(f"/v2/{APP}/manifests/1.0").content == RELEASE.manifest
                    answer = put_manifest(client, APP, RELEASE.children[0], "1.0")
                    assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
                printed = run_script(f"{command} || true")
                shown = re.sub("sha256:[0-9a-f]{64}", "sha256:…", printed)
                assert expected in shown, (command, printed)
                outputs.append(expected)
        assert client.get(f"/v2/{APP}/manifests/1.0").status_code == 404
    assert len(list(filter(None, outputs))) == 6
