"""Clients beside a garbage collector whose grace period is seconds, and what has to be left."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from urllib.parse import quote

import httpx

from support.content import Content, digest_of, image
from support.waiting import PATIENCE, until
from support.wire import ANYBODY, OCTETS, connect, push, put_manifest

GRACE = 2
"""Seconds, which a client has from the first answer that a blob exists to its manifest. Skopeo and
buildah need about one for a small image: with less, few of their failures would mean anything."""

OPTIONS = ("--gc-grace", str(GRACE), "--gc-interval", "1", "--keep-deleted", "1")

REPOSITORIES = ("collected/a", "collected/b")

KEPT = image("kept", layers=2, layer_size=20_000)
"""What is left at the end."""

GENERATION = 3
"""Seconds after which clients push other images, and leave the older ones to the collector."""

TAGS = ("v1", "v2", "v3")


def is_late(began: float) -> bool:
    """Whether a client that began then was perhaps too slow for the grace period.

    It has been promised nothing more, and may be told that a blob is missing.
    """
    return time.monotonic() - began >= GRACE * 0.8


class Pusher(threading.Thread):
    """A client that asks before it pushes, as all clients do, and shares its images with others.

    `failure` is what it was told that cannot be so, `late` how often it was too slow. It takes its
    time now and then, as if it had more to push. With `retries`, it is told of nodes that die and
    begins again.
    """

    def __init__(
        self, url: str, seed: str, stop: threading.Event, *, retries: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self.failure: BaseException | None = None
        self.pushes = self.found = self.missing = self.late = self.interruptions = 0
        self._url = url
        self._chance = random.Random(seed)
        self._stopping = stop
        self._retries = retries
        self._client: httpx.Client

    def run(self) -> None:
        """Work until it is told to stop, or the registry is gone."""
        try:
            with connect(self._url) as self._client:
                while not self._stopping.is_set():
                    try:
                        self._step()
                    except httpx.TransportError:
                        self.interruptions += 1
                        if not self._retries:
                            return
                        self._stopping.wait(0.05)
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it again
            self.failure = error

    def _step(self) -> None:
        repository = self._chance.choice(REPOSITORIES)
        # Some are pushed again at about the time at which they are purged and collected.
        generation = int(time.time()) // GENERATION - self._chance.choice([0, 0, 0, 0, 1, 2, 3])
        seed = ("collected", generation, self._chance.randrange(6))
        content = image(seed, layers=2, layer_size=20_000)
        act = self._chance.choice(
            [self._push_image, self._push_image, self._pull_image, self._delete_image]
        )
        began = time.monotonic()
        try:
            act(repository, content)
        except AssertionError:
            if not is_late(began):
                raise
            self.late += 1

    def _expect(self, answer: httpx.Response, *statuses: int) -> int:
        if self._retries and answer.status_code in {502, 503, 504}:
            raise httpx.TransportError(answer.text)
        asked = f"{answer.request.method} {answer.request.url}"
        assert answer.status_code in statuses, f"{asked}: {answer.status_code} {answer.text}"
        return answer.status_code

    def _push_image(self, repository: str, content: Content) -> None:
        for blob in content.blobs:
            path = f"/v2/{repository}/blobs/{digest_of(blob)}"
            if self._expect(self._client.head(path), 200, 404) == 200:
                self.found += 1
            else:
                self.missing += 1
                self._push_blob(repository, blob)
        self._stopping.wait(self._chance.choice([0, 0, 0, GRACE / 2]))
        tag = self._chance.choice(TAGS)
        self._expect(put_manifest(self._client, repository, content, tag), 201)
        self.pushes += 1

    def _push_blob(self, repository: str, blob: bytes) -> None:
        """Mount a blob, or push it in one request or in two."""
        digest = digest_of(blob)
        other = self._chance.choice(REPOSITORIES)
        query = self._chance.choice([{"mount": digest, "from": other}, {"digest": digest}, {}])
        body = blob if "digest" in query else b""
        path = f"/v2/{repository}/blobs/uploads/"
        answer = self._client.post(path, params=query, content=body, headers=OCTETS)
        if self._expect(answer, 201, 202) == 202:
            location = answer.headers["Location"]
            answer = self._client.put(
                location, params={"digest": digest}, content=blob, headers=OCTETS
            )
            self._expect(answer, 201)

    def _pull_image(self, repository: str, content: Content) -> None:
        path = f"/v2/{repository}/manifests/{content.digest}"
        if self._expect(self._client.get(path), 200, 404) == 200:
            for blob in content.blobs:
                answer = self._client.get(
                    f"/v2/{repository}/blobs/{digest_of(blob)}", follow_redirects=True
                )
                self._expect(answer, 200)
                assert answer.content == blob

    def _delete_image(self, repository: str, content: Content) -> None:
        path = f"/v2/{repository}/manifests/{content.digest}"
        self._expect(self._client.delete(path), 202, 404)


def keep_one(client: httpx.Client) -> None:
    """Delete everything, and push the image that is kept."""
    for repository in REPOSITORIES:
        path = f"/acr/v1/{quote(repository, safe='')}"
        answer = client.delete(path, headers=ANYBODY)
        assert answer.status_code in {202, 404}, answer.text
    push(client, REPOSITORIES[1], KEPT, "kept")


def stored_in(data: Path) -> set[str]:
    """Return the digests of the blobs that take up space in a directory."""
    return {f"sha256:{file.name}" for file in (data / "blobs" / "sha256").glob("*/*")}


def wait_for(data: Path, content: Content, seconds: float = PATIENCE) -> None:
    """Wait until the blobs of one image are all that is left in a directory."""
    expected = {digest_of(blob) for blob in content.blobs}
    until(lambda: stored_in(data) == expected, seconds)
