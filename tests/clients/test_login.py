"""podman, skopeo and buildah log in, push, pull, are refused, and log out."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients.conftest import Run
from support.access import ALICE, FORMER, PULLER, PUSHER, VICTIM, Login, guarded_registry
from support.layouts import Layout
from support.server import RunningRegistry
from support.wire import ONCE, assert_error, connect

PLAIN = "--tls-verify=false"

TRIES = 5
"""Images that are pushed until a client remembers where else it has pushed its layers: skopeo does
not always look there."""
DENIED = "denied: requested access to the resource is denied"
UNAUTHORIZED = "authentication required"
TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105  # a name, and public


@pytest.fixture(scope="module")
def by_scheme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningRegistry]]:
    """Serve with the defaults, which ask for tokens, and a registry that asks for Basic."""
    with ExitStack() as stack:

        def serve(scheme: str, *options: str) -> RunningRegistry:
            data = tmp_path_factory.mktemp(scheme) / "data"
            return stack.enter_context(guarded_registry(data, "--access-log", *options))

        yield {"bearer": serve("bearer"), "basic": serve("basic", "--auth-scheme", "basic")}


@pytest.fixture(params=["bearer", "basic"])
def guarded(
    request: pytest.FixtureRequest, by_scheme: dict[str, RunningRegistry]
) -> RunningRegistry:
    """Return a registry with access control, of either scheme."""
    return by_scheme[request.param]


@pytest.fixture
def bearer(by_scheme: dict[str, RunningRegistry]) -> RunningRegistry:
    """Return the registry that has a token server."""
    return by_scheme["bearer"]


@pytest.fixture
def unique() -> str:
    """Return a word that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def layout(tmp_path: Path, unique: str) -> Layout:
    """Write an image whose layers no other test has, named `app`."""
    return write_layout(tmp_path / "layout", unique)


def write_layout(root: Path, unique: str) -> Layout:
    """Write an image whose layers no other one has, named `app`."""
    layout = Layout(root)
    layout.add_image("app", (1 + int(unique[:4], 16), 70_000 + int(unique[4:8], 16)))
    return layout


@dataclass(frozen=True)
class Tool:
    """One of the three clients; `globals` stand before its command."""

    name: str
    globals: list[str]
    run: Run
    folder: Path

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        """Run a command of the client."""
        return self.run(self.name, *self.globals, *arguments, fails=fails)

    def login(self, address: str, login: Login, *options: str, fails: bool = False) -> str:
        """Log in to a registry."""
        given = ("--username", login.name, "--password", login.password)
        return self("login", PLAIN, *given, *options, address, fails=fails)

    def push(self, layout: Layout, remote: str, *, fails: bool = False) -> str:
        """Push the image of a layout."""
        source = f"oci:{layout.root}:app"
        if self.name == "skopeo":
            return self(
                "copy", "--dest-tls-verify=false", source, f"docker://{remote}", fails=fails
            )
        image = self("pull", "--quiet", source).strip()
        return self("push", PLAIN, image, f"docker://{remote}", fails=fails)

    def pull(self, remote: str, *, fails: bool = False) -> str:
        """Pull an image, of which the client then has a copy."""
        if self.name != "skopeo":
            always = ("--policy", "always") if self.name == "buildah" else ()
            return self("pull", PLAIN, *always, f"docker://{remote}", fails=fails)
        target = f"oci:{self.folder / uuid.uuid4().hex}:app"
        return self("copy", "--src-tls-verify=false", f"docker://{remote}", target, fails=fails)


@pytest.fixture
def tools(run: Run, storage: list[str], tmp_path: Path) -> dict[str, Tool]:
    """Return the three clients, which share a home."""
    needs = {"podman": storage, "skopeo": [], "buildah": storage}
    return {name: Tool(name, options, run, tmp_path) for name, options in needs.items()}


@pytest.fixture(params=["podman", "skopeo", "buildah"])
def tool(request: pytest.FixtureRequest, tools: dict[str, Tool]) -> Tool:
    """Return one of the clients."""
    return tools[request.param]


def provide(tools: dict[str, Tool], layout: Layout, remote: str) -> None:
    """Push an image as a user who may do everything, and leave no credentials behind."""
    source, target = f"oci:{layout.root}:app", f"docker://{remote}"
    creds = ("--dest-creds", ALICE.text)
    tools["skopeo"]("copy", "--dest-tls-verify=false", *creds, source, target)


def blobs_in(registry: RunningRegistry, repository: str, layout: Layout) -> list[int]:
    """Return the status of each blob of an image in a repository."""
    with connect(registry.url, auth=ALICE.pair) as plain:
        return [
            plain.head(f"/v2/{repository}/blobs/sha256:{name}").status_code
            for name in layout.files()
        ]


def events(registry: RunningRegistry, path: str) -> list[dict[str, Any]]:
    """Return the requests for paths with a certain start, as the registry logged them."""
    lines = [line[line.index("{") :] for line in registry.log.splitlines() if '"path":' in line]
    return [event for event in map(json.loads, lines) if event["path"].startswith(path)]


def test_login_push_pull_logout(
    tool: Tool, guarded: RunningRegistry, layout: Layout, unique: str
) -> None:
    """A user who has logged in pushes and pulls; after logging out, neither works."""
    remote = f"{guarded.address}/team/{unique}:1"
    assert "Login Succeeded!" in tool.login(guarded.address, PUSHER)
    tool.push(layout, remote)
    tool.pull(remote)
    tool("logout", guarded.address)
    assert UNAUTHORIZED in tool.pull(remote, fails=True)


@pytest.mark.parametrize("wrong", [Login(VICTIM.name, "a wrong password"), FORMER])
def test_wrong_password(tool: Tool, guarded: RunningRegistry, wrong: Login, tmp_path: Path) -> None:
    """A wrong password, or that of a disabled user, is refused at login, and not kept."""
    file = tmp_path / "auth.json"
    message = tool.login(guarded.address, wrong, "--authfile", str(file), fails=True)
    assert "invalid username/password" in message
    assert not file.exists() or guarded.address not in file.read_text()


def test_pull_only(
    tool: Tool,
    tools: dict[str, Tool],
    guarded: RunningRegistry,
    layout: Layout,
    unique: str,
) -> None:
    """A token that may only pull logs in and pulls; its push is denied, and pushes nothing."""
    provide(tools, layout, f"{guarded.address}/team/{unique}/there:1")
    tool.login(guarded.address, PULLER)
    tool.pull(f"{guarded.address}/team/{unique}/there:1")
    assert DENIED in tool.push(layout, f"{guarded.address}/team/{unique}/new:1", fails=True)
    assert set(blobs_in(guarded, f"team/{unique}/new", layout)) == {404}
    with connect(guarded.url, auth=ALICE.pair) as plain:
        assert_error(plain.get(f"/v2/team/{unique}/new/tags/list"), 404, "NAME_UNKNOWN")


def test_elsewhere(
    tool: Tool,
    tools: dict[str, Tool],
    guarded: RunningRegistry,
    layout: Layout,
    unique: str,
) -> None:
    """A token is denied what is outside of its scope map, whether it is there or not."""
    provide(tools, layout, f"{guarded.address}/private/{unique}:1")
    tool.login(guarded.address, PUSHER)
    for repository in (f"private/{unique}", f"private/{unique}/absent"):
        assert DENIED in tool.pull(f"{guarded.address}/{repository}:1", fails=True)


def test_public_and_private_at_once(
    tool: Tool,
    tools: dict[str, Tool],
    guarded: RunningRegistry,
    layout: Layout,
    unique: str,
) -> None:
    """Without a login the public repository is readable, and it alone; with one, both are."""
    public = f"{guarded.address}/public/{unique}:1"
    private = f"{guarded.address}/private/{unique}:1"
    for remote in (public, private):
        provide(tools, layout, remote)
    tool.pull(public)
    assert UNAUTHORIZED in tool.pull(private, fails=True)
    message = tool.push(layout, f"{guarded.address}/public/{unique}/new:1", fails=True)
    assert UNAUTHORIZED in message
    tool.login(guarded.address, ALICE)
    for remote in (public, private):
        tool.pull(remote)


def test_credentials_file(
    tool: Tool,
    tools: dict[str, Tool],
    guarded: RunningRegistry,
    layout: Layout,
    unique: str,
    tmp_path: Path,
) -> None:
    """What one client writes at login, all of them use afterwards."""
    remote = f"{guarded.address}/team/{unique}:1"
    provide(tools, layout, remote)
    file = tmp_path / "auth.json"
    tool.login(guarded.address, PULLER, "--authfile", str(file))
    written = json.loads(file.read_text())
    assert written == {"auths": {guarded.address: {"auth": PULLER.encoded}}}
    given = ("--authfile", str(file))
    tools["skopeo"]("inspect", PLAIN, *given, f"docker://{remote}")
    for name in ("podman", "buildah"):
        tools[name]("pull", PLAIN, *given, f"docker://{remote}")


@pytest.mark.parametrize("name", ["skopeo", "podman"])
def test_mount(name: str, tools: dict[str, Tool], guarded: RunningRegistry, tmp_path: Path) -> None:
    """Layers that the client has pushed to another repository are mounted from there."""
    tool = tools[name]
    tool.login(guarded.address, PUSHER)
    for _ in range(TRIES):
        unique = uuid.uuid4().hex
        layout = write_layout(tmp_path / unique, unique)
        tool.push(layout, f"{guarded.address}/team/{unique}/first:1")
        second = f"team/{unique}/second"
        tool.push(layout, f"{guarded.address}/{second}:1")
        asked = events(guarded, f"/v2/{second}/")
        mounts = [event["status"] for event in asked if "mount=" in event["query"]]
        if mounts:
            break
    assert set(mounts) == {201}
    tool.pull(f"{guarded.address}/{second}:1")


@pytest.mark.parametrize("name", ["skopeo", "podman"])
def test_mount_from_what_may_not_be_read(
    name: str, tools: dict[str, Tool], guarded: RunningRegistry, tmp_path: Path
) -> None:
    """A client that knows of layers where it may not read them uploads them, and succeeds."""
    tool = tools[name]
    for _ in range(TRIES):
        unique = uuid.uuid4().hex
        layout = write_layout(tmp_path / unique, unique)
        private = f"/v2/private/{unique}/blobs/sha256:"
        tool.login(guarded.address, ALICE)
        tool.push(layout, f"{guarded.address}/private/{unique}:1")
        before = len(events(guarded, private))
        tool.login(guarded.address, PUSHER)
        tool.push(layout, f"{guarded.address}/team/{unique}:1")
        looked = events(guarded, private)[before:]
        if looked:
            break
    assert {(event["method"], event["status"]) for event in looked} == {("HEAD", 403)}
    tool.pull(f"{guarded.address}/team/{unique}:1")


def test_search(
    tools: dict[str, Tool], guarded: RunningRegistry, layout: Layout, unique: str
) -> None:
    """A token finds what it may see."""
    for place in ("team", "public", "private"):
        provide(tools, layout, f"{guarded.address}/{place}/{unique}:1")
    tools["podman"].login(guarded.address, PULLER)
    found = tools["podman"]("search", PLAIN, f"{guarded.address}/{unique}").split()[2:]
    assert found == [f"{guarded.address}/{place}/{unique}" for place in ("public", "team")]


def test_search_without_login(
    tools: dict[str, Tool], bearer: RunningRegistry, layout: Layout, unique: str
) -> None:
    """Under Bearer, a client without a login sees the public repositories."""
    for place in ("public", "private"):
        provide(tools, layout, f"{bearer.address}/{place}/{unique}:1")
    found = tools["podman"]("search", PLAIN, f"{bearer.address}/{unique}").split()[2:]
    assert found == [f"{bearer.address}/public/{unique}"]


def refresh_token(registry: RunningRegistry, login: Login) -> str:
    """Ask for a refresh token, as `az acr login` does."""
    form = {"grant_type": "access_token", "access_token": login.text}
    answer = httpx.post(f"{registry.url}/oauth2/exchange", data=form, **ONCE)
    return str(answer.json()["refresh_token"])


def test_refresh_token_as_password(
    tool: Tool, bearer: RunningRegistry, layout: Layout, unique: str
) -> None:
    """As after `az acr login`, a refresh token is the password of the user of zeros."""
    token = refresh_token(bearer, PUSHER)
    tool.login(bearer.address, Login(TOKEN_USER, token))
    tool.push(layout, f"{bearer.address}/team/{unique}:1")
    tool.pull(f"{bearer.address}/team/{unique}:1")
    changed = Login(TOKEN_USER, token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"))
    assert "invalid username/password" in tool.login(bearer.address, changed, fails=True)


def test_identity_token_of_docker(
    tool: Tool, bearer: RunningRegistry, layout: Layout, unique: str, tmp_path: Path
) -> None:
    """The identity token that `docker login` writes into its file is good for the others."""
    token = refresh_token(bearer, PUSHER)
    entry = {"auth": Login(PUSHER.name, "").encoded, "identitytoken": token}
    file = tmp_path / "home" / "run" / "containers" / "auth.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"auths": {bearer.address: entry}}))
    tool.push(layout, f"{bearer.address}/team/{unique}:1")
    tool.pull(f"{bearer.address}/team/{unique}:1")
