"""Portside as a person starts it, with two workers."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.content import EMPTY_INDEX, OCI_INDEX, digest_of
from bench.peer import HOST, Peer
from bench.programs import BenchError
from bench.uploads import put_manifest
from servers.seaweedfs import BUCKET, S3

WORKERS = 2
TAGS_AT_ONCE = 100
READY = re.compile(rb"Portside listens on \w+://[^\s:]+:(\d+)\s")


class Place(NamedTuple):
    """What the nodes of one registry share: the address of a database, and a prefix in S3."""

    database: str
    s3: S3
    prefix: str

    @property
    def storage(self) -> str:
        """The address of the prefix."""
        return f"s3://{BUCKET}/{self.prefix}"


class Portside(Peer):
    """The registry of this project, from this interpreter."""

    name = "portside"
    ready_path = "/readyz"

    def command(self) -> list[str]:
        """Return the command; it finds a free port itself."""
        options = ["--data", str(self.data), "--listen", f"{HOST}:0", *self.options()]
        if self.certificate is not None:
            chain, key = self.certificate
            options += ["--tls-certificate", str(chain), "--tls-key", str(key)]
        return [sys.executable, "-m", "portside", "serve", *options]

    def options(self) -> list[str]:
        """Return the settings that are not its defaults."""
        return ["--workers", str(WORKERS)]

    def wait_for_port(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Read the port in the line that says where it listens."""
        if process.stdout is None:
            raise BenchError("Portside was started without a pipe for its output")
        output = process.stdout.fileno()
        printed = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while (found := READY.search(printed)) is None:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise BenchError(f"Portside does not say that it listens: {self.last_words()}")
                piece = os.read(output, 4096)
                if not piece:
                    raise BenchError(f"Portside does not start: {self.last_words()}")
                printed += piece
        self.port = int(found.group(1))
        return True

    def forget(self, repository: str, digest: str) -> None:
        """Delete the blob; its bytes go with its last repository."""
        path = f"/v2/{repository}/blobs/{digest}"
        with self.connect() as connection:
            connection.ask("DELETE", path).expect(202, f"DELETE {path}")

    def add_tags(self, repository: str, tags: Sequence[str]) -> None:
        """Push the manifest with many tags at once."""
        reference = digest_of(EMPTY_INDEX)
        with self.connect() as connection:
            for start in range(0, len(tags), TAGS_AT_ONCE):
                query = "&".join(f"tag={tag}" for tag in tags[start : start + TAGS_AT_ONCE])
                put_manifest(connection, repository, f"{reference}?{query}", EMPTY_INDEX, OCI_INDEX)

    def add_repositories(self, repositories: Sequence[str]) -> None:
        """Push the manifest into each of them."""
        with self.connect() as connection:
            for repository in repositories:
                put_manifest(connection, repository, "latest", EMPTY_INDEX, OCI_INDEX)


class PortsideNode(Portside):
    """One node over PostgreSQL and S3; several may be nodes of one registry."""

    def __init__(
        self, folder: Path, place: Place, *, redirects: bool, workers: int = WORKERS
    ) -> None:
        super().__init__(folder)
        self._place = place
        self._redirects = redirects
        self._workers = workers

    @property
    def environment(self) -> Mapping[str, str]:
        """Where S3 is, and who asks it."""
        return self._place.s3.environment

    def options(self) -> list[str]:
        """Name the database and the bucket."""
        redirect = "always" if self._redirects else "never"
        kept = ["--database", self._place.database, "--storage", self._place.storage]
        return [*kept, "--redirect", redirect, "--workers", str(self._workers)]
