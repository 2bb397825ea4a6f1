"""The stream of events, and who the events say made a change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.access import CHEAP
from support.commands import Commands
from support.content import digest_of, image
from support.server import RunningRegistry, running_registry
from support.waiting import PATIENCE
from support.wire import assert_error, connect, push, push_blob

CONTENT, OTHER = image("streamed"), image("other")
AGENT = "agent/1"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve a registry for everybody."""
    data = tmp_path_factory.mktemp("events") / "data"
    with running_registry(data, "--workers", "1") as running:
        yield running


@pytest.fixture
def client(registry: RunningRegistry) -> Iterator[httpx.Client]:
    """Connect to it."""
    with connect(registry.url, headers={"User-Agent": AGENT}) as connected:
        yield connected


class Stream:
    """A stream that is read as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.iter_lines()

    def next(self) -> dict[str, Any]:
        """Return the data of the next event, whose id is that of the field."""
        number = None
        for line in self.lines:
            if line.startswith("id: "):
                number = int(line.removeprefix("id: "))
            if line.startswith("data: "):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                assert event["id"] == number
                return event
        pytest.fail("the stream has ended")

    def find(self, action: str) -> dict[str, Any]:
        """Return the next event of an action."""
        while (event := self.next())["action"] != action:
            pass
        return event


@contextmanager
def streamed(url: str, **options: Any) -> Iterator[Stream]:
    """Open a stream for the length of a block."""
    with (
        connect(url) as client,
        client.stream("GET", "/events", **options) as response,
    ):
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Stream(response)


def read(client: httpx.Client, **options: Any) -> list[dict[str, Any]]:
    """Return the events that there are."""
    params = {"follow": "false", **options.pop("params", {})}
    answer = client.get("/events", params=params, **options)
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def test_follows(registry: RunningRegistry, client: httpx.Client) -> None:
    """A push is streamed; a client continues after the last id it has."""
    with streamed(registry.url) as stream:
        assert next(stream.lines).startswith("id: "), "a client could not continue from here"
        push(client, "team/app", CONTENT, "v1")
        pushed, tagged = stream.find("manifest.pushed"), stream.find("tag.set")
    assert pushed == {
        "id": pushed["id"],
        "time": pushed["time"],
        "action": "manifest.pushed",
        "repository": "team/app",
        "reference": "v1",
        "digest": CONTENT.digest,
        "media_type": CONTENT.media_type,
        "size": len(CONTENT.manifest),
        "identity": None,
        "request": None,
        "details": {},
    }
    for options in (
        {"headers": {"Last-Event-ID": str(pushed["id"])}},
        {"params": {"after": str(pushed["id"])}},
    ):
        with streamed(registry.url, **options) as stream:
            assert stream.next() == tagged
        assert read(client, **options)[0] == tagged


def test_filters(client: httpx.Client) -> None:
    """By repositories and by action."""
    for name in ("filtered/a", "filtered/b", "filtered-c"):
        push(client, name, CONTENT, "v1")
    for repositories, expected in (
        (["filtered/*"], ["filtered/a", "filtered/b"]),
        (["filtered-c", "filtered/b"], ["filtered/b", "filtered-c"]),
        (["filtered"], []),
    ):
        params = {"repository": repositories, "action": "tag.*"}
        found = read(client, params=params)
        assert [event["repository"] for event in found] == expected
        assert {event["action"] for event in found} <= {"tag.set"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", "x"),
        ("after", "-1"),
        ("after", "9" * 40),
        ("after", "0" * 5000 + "9" * 40),
        ("follow", "yes"),
        ("action", "tag.moved"),
        ("repository", "A*"),
    ],
)
def test_mistakes(client: httpx.Client, name: str, value: str) -> None:
    """What the endpoint does not know is refused."""
    assert_error(client.get("/events", params={name: value}), 400, "UNSUPPORTED")


def test_who_did_it(registry: RunningRegistry, client: httpx.Client) -> None:
    """Each endpoint that changes content records the request that it was changed by."""
    name, fill = "recorded/app", b"a blob of its own"
    before = max((event["id"] for event in read(client)), default=0)
    push(client, name, CONTENT, "v1")
    push(client, name, OTHER, "v2")
    push_blob(client, name, fill)
    blob = digest_of(fill)
    v2, acr = f"/v2/{name}", f"/acr/v1/{name}"
    anybody = {"Authorization": "Bearer any"}
    mount = {"mount": blob, "from": name}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v2/recorded/other/blobs/uploads/", {"params": mount}),
        ("DELETE", f"{v2}/blobs/{blob}", {}),
        ("PATCH", acr, {"json": {"readEnabled": True}}),
        ("PATCH", f"{acr}/_tags/v1", {"json": {"readEnabled": True}}),
        ("PATCH", f"{acr}/_manifests/{CONTENT.digest}", {"json": {"readEnabled": True}}),
        ("POST", f"{v2}/_portside/tags/restore/v1", {"params": {"digest": OTHER.digest}}),
        ("DELETE", f"{v2}/manifests/v1", {}),
        ("DELETE", f"{acr}/_tags/v2", {}),
        ("DELETE", f"{v2}/manifests/{CONTENT.digest}", {}),
        ("POST", f"/acr/v1/_deleted/{name}/_manifests/{CONTENT.digest}", {"json": {}}),
        ("DELETE", acr, {}),
    ]
    requests = []
    for method, path, options in asked:
        answer = client.request(method, path, headers=anybody, **options)
        assert answer.status_code < 300, (method, path, answer.text)
        requests.append(answer.headers["X-Request-Id"])
    found = Commands(registry.data).json("events", "list")
    mine = [event for event in found if event["id"] > before and event["repository"]]
    assert set(requests) <= {event["request"] for event in mine}
    found = Commands(registry.data).json("events", "list", "--request", requests[0])
    assert [event["action"] for event in found] == ["blob.mounted"]
    host = registry.url.removeprefix("http://")
    for event in mine:
        told = (event["address"], event["agent"], event["host"])
        assert told == ("127.0.0.1", AGENT, host), event
        assert event["request"]
        assert event["method"] in {"POST", "PUT", "PATCH", "DELETE"}


def test_permission(tmp_path: Path) -> None:
    """Everyone sees the repositories that they may pull from; access control has no place here.

    Streams are limited. They end when access control changes, and when the server does.
    """
    data, rules = tmp_path / "data", tmp_path / "access.toml"
    rules.write_text(
        '[[access]]\nidentities = ["alice"]\nrepositories = ["team/*"]\nactions = ["pull"]\n'
        '[[access]]\nidentities = ["bob"]\nrepositories = ["*"]\nactions = ["pull", "push"]\n'
    )
    portside = Commands(data)
    for name in ("alice", "bob"):
        portside.add_user(name, "a password")
    alice, bob = ("alice", "a password"), ("bob", "a password")
    patient = ("--shutdown-timeout", str(int(2 * PATIENCE)))
    options = ("--workers", "1", "--access", str(rules), *patient)
    limited = (*options, "--event-streams", "2")
    with (
        running_registry(data, *limited, env=CHEAP) as running,
        connect(running.url) as client,
        connect(running.url, auth=bob) as pusher,
    ):
        assert client.get("/events").status_code == 401
        assert client.get("/events", auth=("alice", "wrong")).status_code == 401
        with streamed(running.url, auth=alice) as seen, streamed(running.url, auth=bob) as every:
            answer = client.get("/events", auth=bob)
            assert_error(answer, 429, "TOOMANYREQUESTS")
            assert int(answer.headers["Retry-After"]) > 0
            for name in ("secret/app", "team/app"):
                push(pusher, name, CONTENT, "v1")
            assert every.find("tag.set")["repository"] == "secret/app"
            pushed = seen.find("tag.set")
            assert (pushed["repository"], pushed["identity"]) == ("team/app", "bob")
            assert "address" not in pushed
            mount = {"mount": digest_of(CONTENT.blobs[0]), "from": "secret/app"}
            answer = pusher.post("/v2/team/other/blobs/uploads/", params=mount)
            assert answer.status_code == 201
            assert every.find("blob.mounted")["details"] == {"from": "secret/app"}
            assert seen.find("blob.mounted")["details"] == {}
            params = {"service": "portside", "scope": "registry:catalog:* repository:team/app:pull"}
            token = client.get("/oauth2/token", params=params, auth=alice).json()["token"]
            found = read(client, headers={"Authorization": f"Bearer {token}"})
            assert {event["repository"] for event in found} == {"team/app"}
            portside.do("user", "disable", "alice")
            push(pusher, "team/app", OTHER, "v2")
            assert not [line for line in seen.lines if "v2" in line]
        with streamed(running.url, auth=bob):
            began = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - began < PATIENCE


def test_anonymous_readers(tmp_path: Path) -> None:
    """Everybody sees what changed in public repositories; who did it, only those with a name.

    One reader is one identity, or one address without one.
    """
    portside = Commands(tmp_path / "data")
    portside.add_user("alice", "a password")
    alice = ("alice", "a password")
    public = ("--anonymous", "public/*:pull,push,metadata_read", "--event-streams", "4")
    with (
        running_registry(portside.data, "--workers", "1", *public, env=CHEAP) as running,
        connect(running.url) as client,
    ):
        with connect(running.url, auth=alice) as pusher:
            pushed = push(pusher, "public/app", CONTENT, "v1").headers["X-Request-Id"]
            assert pusher.delete("/v2/public/app/manifests/v1").status_code == 202
        scope = "registry:catalog:* repository:public/app:pull,push,metadata_read"
        token = client.get("/oauth2/token", params={"scope": scope}).json()["token"]
        anonymous: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}}
        for options, told in ((anonymous, (None, None)), ({"auth": alice}, ("alice", pushed))):
            event = read(client, params={"action": "tag.set"}, **options)[0]
            assert (event["identity"], event["request"]) == told
            path = "/v2/public/app/_portside/tags/history/v1"
            changes = client.get(path, **options).json()["changes"]
            assert [change["identity"] for change in changes] == [told[0]] * 2
            path = f"/v2/public/app/_portside/tags/restore/v1?at={changes[0]['time']}"
            detail = assert_error(client.post(path, **options), 404, "TAG_UNKNOWN")
            assert ("alice" in detail) == (told[0] == "alice")
        with streamed(running.url, auth=alice), streamed(running.url, **anonymous):
            for options in ({"auth": alice}, anonymous):
                with client.stream("GET", "/events", **options) as refused:
                    assert refused.status_code == 429


def test_failed_logins(tmp_path: Path) -> None:
    """A failed login names the client, and no password, even if it was sent as the name."""
    portside = Commands(tmp_path / "data")
    portside.add_user("alice", "a password")
    with (
        running_registry(portside.data, "--workers", "1", env=CHEAP) as running,
        connect(running.url, headers={"User-Agent": AGENT}) as client,
    ):
        for _ in range(2):
            assert client.get("/v2/", auth=("alice", "guessed")).status_code == 401
        answer = client.get("/oauth2/token", auth=("my secret", "guessed"))
        assert answer.status_code == 401
        files = [path for path in portside.data.iterdir() if path.is_file()]
        assert not [path for path in files if b"my secret" in path.read_bytes()]
        assert "my secret" not in running.log
    found = portside.json("events", "list", "--action", "login.*")
    assert [(event["reference"], event["details"]) for event in found] == [
        (None, {"name": "unknown"}),
        ("alice", {}),
    ]
    assert {event["identity"] for event in found} == {None}
    assert found[0]["request"] == answer.headers["X-Request-Id"]
    assert {(event["address"], event["agent"]) for event in found} == {("127.0.0.1", AGENT)}
    assert "guessed" not in json.dumps(portside.json("events", "list"))
