"""Debian's docker-registry, set up for speed: descriptors in memory, no access log."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.content import EMPTY_INDEX, digest_of
from bench.peer import HOST, Peer
from bench.wire import Connection, free_port
from servers.seaweedfs import ACCESS_KEY, BUCKET, REGION, S3, SECRET_KEY

CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
{storage}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http:
  addr: {host}:{port}
{tls}"""

IN_S3 = """\
  s3:
    accesskey: {access_key}
    secretkey: {secret_key}
    region: {region}
    regionendpoint: {endpoint}
    bucket: {bucket}
    secure: false
    v4auth: true
    rootdirectory: /{root}
  redirect: {{disable: {no_redirects}}}"""

_ROOT = "docker/registry/v2"


class DockerRegistry(Peer):
    """The registry that anyone can install, to measure by."""

    name = "docker-registry"
    ready_path = "/v2/"

    def command(self) -> list[str]:
        """Return the command; this server cannot tell its port, so it gets one that is free."""
        self.port = free_port()
        tls = ""
        if self.certificate is not None:
            chain, key = self.certificate
            tls = f"  tls: {{certificate: {chain}, key: {key}}}\n"
        text = CONFIGURATION.format(storage=self.storage(), host=HOST, port=self.port, tls=tls)
        path = self.folder / "config.yml"
        path.write_text(text)
        return ["docker-registry", "serve", str(path)]

    def storage(self) -> str:
        """Write the part of the configuration that says where the content is."""
        return f"  filesystem: {{rootdirectory: {self.data}}}"

    def wait_for_port(self, process: subprocess.Popen[bytes], deadline: float) -> bool:  # noqa: ARG002
        """Do nothing: the port is known, and it announces nothing."""
        return False

    def forget(self, repository: str, digest: str) -> None:
        """Delete the link by the API, and by hand the bytes, which it keeps until a collection."""
        path = f"/v2/{repository}/blobs/{digest}"
        with self.connect() as connection:
            connection.ask("DELETE", path).expect(202, f"DELETE {path}")
        self.remove(_blob(digest))

    def add_tags(self, repository: str, tags: Sequence[str]) -> None:
        """Write the files that a push would: through the API it would take half an hour."""
        self.write(_pushed([repository], tags))

    def add_repositories(self, repositories: Sequence[str]) -> None:
        """Write the files that pushes would; it knows a repository by its `_layers`."""
        self.write(_pushed(repositories, ["latest"]))

    def write(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files of its layout."""
        for name, content in files:
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def remove(self, folder: str) -> None:
        """Remove a directory of its layout, with all that is in it."""
        shutil.rmtree(self.data / folder)


class DockerRegistryInS3(DockerRegistry):
    """The same with its content in a bucket.

    Its sizes of parts and copies are its own: others made no difference.
    """

    root = "docker-registry"

    def __init__(self, folder: Path, s3: S3, *, redirects: bool) -> None:
        super().__init__(folder)
        self._s3 = s3
        self._redirects = redirects

    def storage(self) -> str:
        """Name the bucket."""
        return IN_S3.format(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            region=REGION,
            endpoint=self._s3.endpoint,
            bucket=BUCKET,
            root=self.root,
            no_redirects=str(not self._redirects).lower(),
        )

    def write(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write objects past the S3 interface, which would want them signed."""
        with self._filer() as filer:
            for name, content in files:
                path = self._path(name)
                filer.ask("PUT", path, content).expect(201, f"PUT {path}")

    def remove(self, folder: str) -> None:
        """Remove objects in the same way."""
        with self._filer() as filer:
            path = f"{self._path(folder)}?recursive=true"
            filer.ask("DELETE", path).expect(204, f"DELETE {path}")

    def _path(self, name: str) -> str:
        return f"/buckets/{BUCKET}/{self.root}/{name}"

    def _filer(self) -> Connection:
        return Connection(HOST, urlsplit(self._s3.filer).port or 80)


def _pushed(repositories: Sequence[str], tags: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Return the files of the smallest manifest, tagged in repositories."""
    digest = digest_of(EMPTY_INDEX)
    link = digest.encode()
    entry = f"sha256/{_encoded(digest)}/link"
    yield f"{_blob(digest)}/data", EMPTY_INDEX
    for repository in repositories:
        folder = f"{_ROOT}/repositories/{repository}"
        yield f"{folder}/_layers/{entry}", link
        yield f"{folder}/_manifests/revisions/{entry}", link
        for tag in tags:
            yield f"{folder}/_manifests/tags/{tag}/current/link", link


def _blob(digest: str) -> str:
    encoded = _encoded(digest)
    return f"{_ROOT}/blobs/sha256/{encoded[:2]}/{encoded}"


def _encoded(digest: str) -> str:
    return digest.partition(":")[2]
