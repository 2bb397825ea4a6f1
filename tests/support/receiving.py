"""A receiver of webhooks that answers as a test wants, and remembers what it was sent.

receiver.answer = 204             # a status
receiver.answer = "stalls"        # it says 200 when the registry has given up
receiver.answer = "dies"          # it closes the connection
receiver.answer = "redirects"     # to another receiver, which must not see it
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from support.content import image
from support.homes import Home
from support.wire import connect, push, put_manifest

Answer = int | str

OTHER_FORMAT = {"id": 0, "repository": "", "action": ""}
"""What stands for the event where it is not the data of a CloudEvent."""

LATE = 1.5
"""Seconds after which a receiver that stalls answers."""


class Received(NamedTuple):
    """A request: the id of its delivery, and the event, by its position, repository and action.

    `traceparent` is that of its trace, None without one.
    """

    delivery: str
    event: int
    repository: str
    action: str
    traceparent: str | None


class Receiver:
    """Listens on the loopback interface."""

    def __init__(self) -> None:
        self.answer: Answer = 204
        self.answers: dict[str, Answer] = {}
        """For some repositories, what is answered instead."""
        self.requests: list[Received] = []
        self.accepted: list[Received] = []
        """Those that were answered with success before they could be given up."""
        self.raw: list[tuple[dict[str, str], bytes]] = []
        """The headers and the bodies as they came."""
        self.stop = threading.Event()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.receive(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def receive(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        data = json.loads(body).get("data", OTHER_FORMAT)
        received = Received(
            request.headers["webhook-id"],
            data["id"],
            data["repository"],
            data["action"],
            request.headers["traceparent"],
        )
        with self._lock:
            self.raw.append((dict(request.headers), body))
            answer = self.answers.get(received.repository, self.answer)
            self.requests.append(received)
            if answer == 204:
                self.accepted.append(received)
        with suppress(OSError):
            if answer == "stalls":
                self.stop.wait(LATE)
                answer = 200
            if answer == "dies":
                request.connection.close()
                return
            request.send_response(302 if isinstance(answer, str) else answer)
            request.send_header("Location", f"{self.url}/elsewhere")
            request.send_header("Content-Length", "0")
            request.end_headers()

    def firsts(self) -> dict[str, list[int]]:
        """Return the events of each repository in the order in which they were first accepted."""
        found = defaultdict[str, list[int]](list)
        for received in list(self.accepted):
            if received.event not in found[received.repository]:
                found[received.repository].append(received.event)
        return dict(found)

    def ids(self) -> dict[int, set[str]]:
        """Return the ids under which each event was sent."""
        found = defaultdict[int, set[str]](set)
        for received in list(self.requests):
            found[received.event].add(received.delivery)
        return dict(found)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for the length of a block."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.stop.set()
        receiver.server.shutdown()
        receiver.server.server_close()


def webhook(name: str, receiver: Receiver) -> str:
    """Return a table of a rules file."""
    return f'[[webhook]]\nname = "{name}"\nurl = "{receiver.url}"\nallow-private = true\n'


IMAGE = image("webhooks", layers=1, layer_size=10)


def push_tags(url: str, *repositories: str) -> None:
    """Push an image to repositories, and then tags of it in turn."""
    with connect(url) as client:
        for repository in repositories:
            assert push(client, repository, IMAGE, "v1").status_code == 201
        for tag in ("v2", "v3"):
            for repository in repositories:
                assert put_manifest(client, repository, IMAGE, tag).status_code == 201


def recorded(home: Home) -> dict[str, list[int]]:
    """Return the events of each repository, in their order."""
    found = defaultdict[str, list[int]](list)
    for event in reversed(json.loads(home.manage("events", "list", "--json"))):
        if event["repository"]:
            found[event["repository"]].append(event["id"])
    return dict(found)
