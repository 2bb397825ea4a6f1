"""Debian's docker-registry, set up for speed: descriptors in memory, no access log."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.content import EMPTY_INDEX, digest_of
from bench.peer import HOST, Peer
from bench.wire import free_port

CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http:
  addr: {host}:{port}
{tls}"""


class DockerRegistry(Peer):
    """The registry that anyone can install, to measure by."""

    name = "docker-registry"
    ready_path = "/v2/"

    def command(self) -> list[str]:
        """Give the command; this server cannot tell its port, so it gets one that is free."""
        self.port = free_port()
        tls = ""
        if self.certificate is not None:
            chain, key = self.certificate
            tls = f"  tls: {{certificate: {chain}, key: {key}}}\n"
        text = CONFIGURATION.format(root=self.data, host=HOST, port=self.port, tls=tls)
        path = self.folder / "config.yml"
        path.write_text(text)
        return ["docker-registry", "serve", str(path)]

    def wait_for_port(self, process: subprocess.Popen[bytes], deadline: float) -> bool:  # noqa: ARG002
        """Do nothing: the port is known, and it announces nothing."""
        return False

    def forget(self, repository: str, digest: str) -> None:
        """Delete the link by the API, and by hand the bytes, which it keeps until a collection."""
        path = f"/v2/{repository}/blobs/{digest}"
        with self.connect() as connection:
            connection.ask("DELETE", path).expect(202, f"DELETE {path}")
        shutil.rmtree(self._blob(digest))

    def add_tags(self, repository: str, tags: Sequence[str]) -> None:
        """Write the files that a push would: through the API it would take half an hour."""
        digest = self._write_manifest()
        manifests = self._repository(repository)
        _write_link(manifests / "revisions" / "sha256" / _encoded(digest), digest)
        for tag in tags:
            _write_link(manifests / "tags" / tag / "current", digest)
        (manifests.parent / "_layers").mkdir()

    def add_repositories(self, repositories: Sequence[str]) -> None:
        """Write the files that pushes would; it knows a repository by its `_layers`."""
        digest = self._write_manifest()
        for repository in repositories:
            manifests = self._repository(repository)
            _write_link(manifests / "revisions" / "sha256" / _encoded(digest), digest)
            _write_link(manifests / "tags" / "latest" / "current", digest)
            (manifests.parent / "_layers").mkdir()

    def _write_manifest(self) -> str:
        digest = digest_of(EMPTY_INDEX)
        blob = self._blob(digest)
        blob.mkdir(parents=True, exist_ok=True)
        (blob / "data").write_bytes(EMPTY_INDEX)
        return digest

    def _repository(self, name: str) -> Path:
        return self.data / "docker" / "registry" / "v2" / "repositories" / name / "_manifests"

    def _blob(self, digest: str) -> Path:
        encoded = _encoded(digest)
        blobs = self.data / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / encoded[:2] / encoded


def _encoded(digest: str) -> str:
    return digest.partition(":")[2]


def _write_link(folder: Path, digest: str) -> None:
    os.makedirs(folder)
    (folder / "link").write_text(digest)
