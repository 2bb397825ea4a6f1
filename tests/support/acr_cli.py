"""What the command `acr` sends, and how it reads the answers: requests as those of acr-cli.

The tests have no `acr`: it is not published as a package, and speaks TLS only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import httpx

from support.content import OCI_EMPTY, OCI_MANIFEST, descriptor, digest_of
from support.wire import push_blob

PAGE = 100
LIFECYCLE = "application/vnd.microsoft.artifact.lifecycle"
END_OF_LIFE = "vnd.microsoft.artifact.lifecycle.end-of-life.date"
DELETED = {HTTPStatus.OK, HTTPStatus.ACCEPTED}
PASSED_OVER = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


@dataclass
class Purged:
    """What a purge has deleted, and what it passed over because it was locked or gone."""

    tags: list[str]
    manifests: list[str]
    kept: list[str]


class Acr:
    """`acr tag|manifest|purge|annotate`; the client authenticates every request by itself."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _get(self, path: str, **params: str) -> httpx.Response:
        answer = self._client.get(path, params={"n": str(PAGE), **params})
        assert answer.status_code == HTTPStatus.OK, answer.text
        return answer

    def _list(self, repository: str, kind: str, key: str) -> list[dict[str, Any]]:
        """List by name: the last entry leads to the next page, until the field is null."""
        found: list[dict[str, Any]] = []
        last: dict[str, str] = {}
        while True:
            page = self._get(f"/acr/v1/{repository}/_{kind}", orderby="", **last).json()[kind]
            if page is None:
                return found
            found += page
            last = {"last": page[-1][key]}  # an empty list ends `acr` here, as it does this driver

    def tags(self, repository: str) -> list[dict[str, Any]]:
        """`acr tag list`."""
        return self._list(repository, "tags", "name")

    def manifests(self, repository: str) -> list[dict[str, Any]]:
        """`acr manifest list`."""
        return self._list(repository, "manifests", "digest")

    def delete_tag(self, repository: str, tag: str) -> int:
        """`acr tag delete`: return the status."""
        return self._client.delete(f"/acr/v1/{repository}/_tags/{tag}").status_code

    def delete_manifest(self, repository: str, digest: str) -> int:
        """`acr manifest delete`: return the status."""
        return self._client.delete(f"/v2/{repository}/manifests/{digest}").status_code

    def purge(
        self, repository: str, pattern: str, *, untagged: bool = True, unlock: bool = False
    ) -> Purged:
        """`acr purge --ago 0d --filter REPOSITORY:PATTERN`, of tags and of untagged manifests.

        `unlock` is `--include-locked`. Every page is deleted before the next one is asked for.
        """
        done = Purged([], [], [])
        last: dict[str, str] = {}
        while True:
            answer = self._get(f"/acr/v1/{repository}/_tags", orderby="timedesc", **last)
            for tag in answer.json()["tags"] or []:
                if re.search(pattern, tag["name"]):
                    path = f"/acr/v1/{repository}/_tags/{tag['name']}"
                    self._purge(path, path, tag, unlock=unlock, done=done.tags, kept=done.kept)
            link = answer.headers.get("Link")
            if link is None:
                break
            query = parse_qs(link[link.index("?") + 1 : link.index(">")])
            last = {"last": query["last"][0]}
        if untagged:
            for manifest in self.manifests(repository):
                if "tags" not in manifest and "mediaType" in manifest:
                    digest = manifest["digest"]
                    path = f"/v2/{repository}/manifests/{digest}"
                    attributes = f"/acr/v1/{repository}/_manifests/{digest}"
                    self._purge(
                        path,
                        attributes,
                        manifest,
                        unlock=unlock,
                        done=done.manifests,
                        kept=done.kept,
                    )
        return done

    def _purge(
        self,
        path: str,
        attributes: str,
        item: dict[str, Any],
        *,
        unlock: bool,
        done: list[str],
        kept: list[str],
    ) -> None:
        """Delete one; any status but that of success, of a lock and of absence ends the purge."""
        flags = item["changeableAttributes"]
        if unlock and not (flags["deleteEnabled"] and flags["writeEnabled"]):
            unlocked = {"deleteEnabled": True, "writeEnabled": True}
            answer = self._client.patch(attributes, json=unlocked)
            assert answer.status_code == HTTPStatus.OK, (answer.status_code, answer.text)
        status = self._client.delete(path).status_code
        name = item.get("name", item["digest"])
        if status in DELETED:
            done.append(name)
        else:
            assert status in PASSED_OVER, status
            kept.append(name)

    def annotate(self, repository: str, digest: str, date: str) -> str:
        """`acr annotate`: push an artifact that says when a manifest's life ends.

        Returns the digest of the artifact.
        """
        subject = self._client.head(
            f"/v2/{repository}/manifests/{digest}", headers={"Accept": "*/*"}
        )
        assert subject.status_code == HTTPStatus.OK
        push_blob(self._client, repository, b"{}")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": LIFECYCLE,
            "config": descriptor(b"{}", OCI_EMPTY),
            "layers": [descriptor(b"{}", OCI_EMPTY)],
            "subject": {
                "mediaType": subject.headers["Content-Type"],
                "digest": subject.headers["Docker-Content-Digest"],
                "size": int(subject.headers["Content-Length"]),
            },
            "annotations": {END_OF_LIFE: date},
        }
        content = json.dumps(document).encode()
        answer = self._client.put(
            f"/v2/{repository}/manifests/{digest_of(content)}",
            content=content,
            headers={"Content-Type": OCI_MANIFEST},
        )
        assert answer.status_code == HTTPStatus.CREATED, answer.text
        return str(answer.headers["Docker-Content-Digest"])
