"""What a registry has acknowledged to a client that alone writes to a repository.

Each name has a set of states that it may be in: one state once something was acknowledged or seen,
and more after a request whose answer never came, for it may have been carried out or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from support.content import Content, digest_of


@dataclass
class Ledger:
    """Of one repository: by digest, whether manifests and blobs are there; where the tags point."""

    repository: str
    contents: dict[str, Content] = field(default_factory=dict)
    manifests: dict[str, set[bool]] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, set[bool]] = field(default_factory=dict)
    tags: dict[str, set[str | None]] = field(default_factory=dict)
    acknowledged: int = 0

    def may_have_tagged(self, content: Content, tag: str) -> None:
        """Note that a manifest is being pushed."""
        self.contents[content.digest] = content
        self.manifests.setdefault(content.digest, {False}).add(True)
        self.tags.setdefault(tag, {None}).add(content.digest)

    def has_tagged(self, content: Content, tag: str) -> None:
        """Note that it was."""
        self.manifests[content.digest] = {True}
        self.tags[tag] = {content.digest}
        self.acknowledged += 1

    def may_have_deleted(self, digest: str) -> None:
        """Note that a manifest is being deleted, and the tags that point to it with it."""
        self.manifests[digest].add(False)
        for targets in self.tags.values():
            if digest in targets:
                targets.add(None)

    def has_deleted(self, digest: str) -> None:
        """Note that it was, or is not there."""
        self.manifests[digest] = {False}
        for targets in self.tags.values():
            if digest in targets:
                targets.discard(digest)
                targets.add(None)
        self.acknowledged += 1

    def blob_may_be(self, content: bytes, *, there: bool) -> None:
        """Note that a blob is being pushed or deleted."""
        digest = digest_of(content)
        self.payloads[digest] = content
        self.blobs.setdefault(digest, {False}).add(there)

    def blob_is(self, content: bytes, *, there: bool) -> None:
        """Note that it was, or what was found."""
        self.blobs[digest_of(content)] = {there}
        self.acknowledged += 1

    def tagged(self) -> list[str]:
        """List the tags that are known to be there."""
        return [tag for tag, targets in self.tags.items() if len(targets - {None}) == 1]

    def differences(self, client: httpx.Client) -> list[str]:
        """Read everything back; returns what is not as it has to be.

        What is seen is all that may be from then on, so that other nodes have to give the same.
        """
        found = []
        for digest, presence in self.manifests.items():
            content = self.contents[digest].manifest
            answer = client.get(f"/v2/{self.repository}/manifests/{digest}")
            found += self._compare(digest, presence, answer, content)
        for digest, presence in self.blobs.items():
            answer = client.get(f"/v2/{self.repository}/blobs/{digest}")
            found += self._compare(digest, presence, answer, self.payloads[digest])
        for tag, targets in self.tags.items():
            answer = client.get(f"/v2/{self.repository}/manifests/{tag}")
            target = digest_of(answer.content) if answer.status_code == 200 else None
            if target not in targets or answer.status_code not in {200, 404}:
                found.append(f"{self.repository}:{tag} is {answer.status_code} {target}")
            targets.intersection_update({target})
        return found

    def _compare(
        self, digest: str, presence: set[bool], answer: httpx.Response, content: bytes
    ) -> list[str]:
        is_there = answer.status_code == 200
        is_right = answer.content == content if is_there else answer.status_code == 404
        if is_there in presence and is_right:
            presence.intersection_update({is_there})
            return []
        return [f"{self.repository}@{digest} is {answer.status_code}, should be in {presence}"]
