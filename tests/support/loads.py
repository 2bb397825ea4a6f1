"""Clients that push, pull and delete during failures, and retry as real clients do."""

from __future__ import annotations

import random
import threading
import time

import httpx

from support.content import Content, digest_of, image, make_blob
from support.ledgers import Ledger
from support.wire import OCTETS, connect

PATIENCE = 80.0
"""Seconds after which a client no longer tries again: longer than anything that a node that was
killed can have reserved for itself."""

PAUSE = 0.05
BUSY = 409
"""A request before, whose answer was lost, has not let go of the upload; another one is begun."""

SHARED = [make_blob(30_000, ("shared", number)) for number in range(2)]
"""Blobs that all clients push, mount and delete, each in its own repository."""


class Worker(threading.Thread):
    """A client with a repository of its own, which works until it is told to stop.

    `failure` is what it was told that cannot be so; errors that ask it to try again it counts.
    """

    def __init__(self, url: str, number: int, seed: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.ledger = Ledger(f"load-{seed}/{number}")
        self.failure: BaseException | None = None
        self.interruptions = 0
        self._others = [f"load-{seed}/{(number + step) % 3}" for step in (1, 2)]
        self._url = url
        self._chance = random.Random(f"{seed}-{number}")
        self._stopping = stop
        self._client: httpx.Client
        self._images = 0

    def run(self) -> None:
        """Work."""
        try:
            with connect(self._url, follow_redirects=True) as client:
                self._client = client
                while not self._stopping.is_set():
                    self._step()
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it again
            self.failure = error

    def _step(self) -> None:
        self._chance.choice(
            [
                self._push_image,
                self._push_image,
                self._pull,
                self._pull,
                self._delete_image,
                self._untag,
                self._push_shared,
                self._mount_shared,
                self._delete_shared,
            ]
        )()

    def _try(self, method: str, path: str, **options: object) -> httpx.Response | None:
        """Ask once; returns None if the client has to try again."""
        try:
            answer = self._client.request(method, path, **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            answer = None
        if answer is None or answer.status_code >= 500 or answer.status_code == 429:
            self.interruptions += 1
            self._stopping.wait(PAUSE)
            return None
        return answer

    def _insist(self, method: str, path: str, **options: object) -> httpx.Response:
        """Ask until there is an answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._try(method, path, **options)
            if answer is not None:
                return answer
            assert time.monotonic() < deadline, f"{method} {path} is not answered any more"

    def _expect(self, answer: httpx.Response, *statuses: int) -> None:
        assert answer.status_code in statuses, f"{answer.request.url}: {answer.text}"

    def _path(self, rest: str) -> str:
        return f"/v2/{self.ledger.repository}/{rest}"

    def _push_image(self) -> None:
        size = self._chance.choice([100, 20_000, 300_000])
        self._images += 1
        content = image((self.ledger.repository, self._images), layers=2, layer_size=size)
        for blob in content.blobs:
            self._push_blob(blob)
        tag = f"v{self._chance.randrange(4)}"
        self.ledger.may_have_tagged(content, tag)
        headers = {"Content-Type": content.media_type}
        path = self._path(f"manifests/{tag}")
        answer = self._insist("PUT", path, content=content.manifest, headers=headers)
        self._expect(answer, 201)
        self.ledger.has_tagged(content, tag)

    def _push_blob(self, content: bytes) -> None:
        self.ledger.blob_may_be(content, there=True)
        if self._chance.randrange(2):
            query = {"digest": digest_of(content)}
            path = self._path("blobs/uploads/")
            answer = self._insist("POST", path, params=query, content=content, headers=OCTETS)
            self._expect(answer, 201)
        else:
            while not self._upload(content):
                continue
        self.ledger.blob_is(content, there=True)

    def _upload(self, content: bytes) -> bool:
        """Push in chunks, and resume at the session's offset; False if it has to begin again."""
        opened = self._insist("POST", self._path("blobs/uploads/"))
        self._expect(opened, 202)
        location = opened.headers["Location"]
        offset, step = 0, max(1, len(content) // 3)
        while offset < len(content):
            chunk = content[offset : offset + step]
            headers = {**OCTETS, "Content-Range": f"{offset}-{offset + len(chunk) - 1}"}
            answer = self._try("PATCH", location, content=chunk, headers=headers)
            if answer is None:
                # The session has to be there, as it was not ended.
                answer = self._insist("GET", location)
                self._expect(answer, 204)
                offset = self._offset(answer, offset, offset + len(chunk))
            elif answer.status_code == BUSY:
                return False
            else:
                self._expect(answer, 202)
                offset += len(chunk)
                assert answer.headers["Range"] == f"0-{offset - 1}"
        return self._finish(location, content)

    def _offset(self, answer: httpx.Response, least: int, most: int) -> int:
        """Read the offset of a session: it is an offset that was acknowledged or may have been."""
        last = int(answer.headers["Range"].removeprefix("0-"))
        offset = last + 1 if last else 0
        assert least <= offset <= most, f"{offset} is not in {least}-{most}"
        return offset

    def _finish(self, location: str, content: bytes) -> bool:
        digest = digest_of(content)
        while True:
            answer = self._try("PUT", location, params={"digest": digest})
            if answer is not None and answer.status_code == BUSY:
                return False
            if answer is not None:
                self._expect(answer, 201)
                return True
            answer = self._insist("GET", location)
            if answer.status_code == 404:
                # The end was carried out, and its answer was lost.
                found = self._insist("HEAD", self._path(f"blobs/{digest}"))
                self._expect(found, 200)
                return True
            self._expect(answer, 204)
            self._offset(answer, len(content), len(content))

    def _pull(self) -> None:
        tags = self.ledger.tagged()
        if not tags:
            return
        tag = self._chance.choice(tags)
        answer = self._insist("GET", self._path(f"manifests/{tag}"))
        self._expect(answer, 200, 404)
        target = digest_of(answer.content) if answer.status_code == 200 else None
        assert target in self.ledger.tags[tag], f"{tag} points to {target}"
        self.ledger.tags[tag] = {target}
        if target is not None:
            blob = self._chance.choice(self.ledger.contents[target].blobs)
            answer = self._insist("GET", self._path(f"blobs/{digest_of(blob)}"))
            self._expect(answer, 200)
            assert answer.content == blob

    def _known_image(self) -> Content | None:
        there = [digest for digest, found in self.ledger.manifests.items() if found == {True}]
        return self.ledger.contents[self._chance.choice(there)] if there else None

    def _delete_image(self) -> None:
        content = self._known_image()
        if content is None:
            return
        self.ledger.may_have_deleted(content.digest)
        self._remove(f"manifests/{content.digest}")
        self.ledger.has_deleted(content.digest)
        for blob in content.blobs:
            self._delete_blob(blob)

    def _remove(self, rest: str) -> None:
        """Delete what is there: it may be gone only if a request before was not answered."""
        answer = self._try("DELETE", self._path(rest))
        if answer is None:
            self._expect(self._insist("DELETE", self._path(rest)), 202, 404)
        else:
            self._expect(answer, 202)

    def _delete_blob(self, blob: bytes) -> None:
        self.ledger.blob_may_be(blob, there=False)
        self._remove(f"blobs/{digest_of(blob)}")
        self.ledger.blob_is(blob, there=False)

    def _untag(self) -> None:
        tags = [tag for tag in self.ledger.tagged() if None not in self.ledger.tags[tag]]
        if not tags:
            return
        tag = self._chance.choice(tags)
        self.ledger.tags[tag].add(None)
        self._remove(f"manifests/{tag}")
        self.ledger.tags[tag] = {None}
        self.ledger.acknowledged += 1

    def _push_shared(self) -> None:
        self._push_blob(self._chance.choice(SHARED))

    def _mount_shared(self) -> None:
        """Mount from a repository that may just delete it: a session is a valid answer too."""
        blob = self._chance.choice(SHARED)
        self.ledger.blob_may_be(blob, there=True)
        query = {"mount": digest_of(blob), "from": self._chance.choice(self._others)}
        answer = self._insist("POST", self._path("blobs/uploads/"), params=query)
        self._expect(answer, 201, 202)
        if answer.status_code == 201:
            self.ledger.blob_is(blob, there=True)
            return
        self._delete_upload(answer.headers["Location"])

    def _delete_upload(self, location: str) -> None:
        answer = self._try("DELETE", location)
        if answer is None:
            self._expect(self._insist("DELETE", location), 204, 404, BUSY)
        else:
            self._expect(answer, 204)

    def _delete_shared(self) -> None:
        blob = self._chance.choice(SHARED)
        if self.ledger.blobs.get(digest_of(blob)) == {True}:
            self._delete_blob(blob)
