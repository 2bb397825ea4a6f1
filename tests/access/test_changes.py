"""A change of access control holds for the next request, in every worker."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import httpx
import pytest

from access.test_secrecy import bearer
from support.access import ALICE, CHEAP, PUSHER, VICTIM, Login, guarded_registry
from support.commands import Commands
from support.content import image
from support.server import RunningRegistry, run_portside, running_registry
from support.waiting import PATIENCE
from support.wire import ONCE, connect, push

MANY = 8
"""Requests on connections of their own: both workers answer some of them."""


def statuses(url: str, path: str = "/v2/", **options: object) -> set[int]:
    """Ask again and again, each time on a new connection."""
    found = set()
    for _ in range(MANY):
        with connect(url) as client:
            found.add(client.request("GET", path, **options).status_code)  # type: ignore[arg-type]
    return found


def offline(name: str, password: str) -> dict[str, str]:
    """Return the form that asks for a token of an image and a refresh token."""
    return {
        "grant_type": "password",
        "username": name,
        "password": password,
        "access_type": "offline",
        "scope": "repository:team/app:pull",
    }


def test_docker_login(nobody: httpx.Client) -> None:
    """`docker login` gets no refresh token, so that it stores the password, as others expect."""
    query = {"service": "portside", "client_id": "docker", "account": ALICE.name}
    for wish in ({}, {"offline_token": "true"}, {"offline_token": "1", "access_type": "offline"}):
        answer = nobody.get("/oauth2/token", params=query | wish, auth=ALICE.pair)
        assert answer.json()["token"]
        assert "refresh_token" not in answer.json()
    assert nobody.post("/oauth2/token", data=offline(*ALICE.pair)).json()["refresh_token"]
    exchange = {"grant_type": "access_token", "access_token": ALICE.text}
    assert nobody.post("/oauth2/exchange", data=exchange).json()["refresh_token"]


class TestUser:
    """Users of a registry that runs."""

    @pytest.mark.parametrize(
        "change",
        [
            ("user", "disable", "bob"),
            ("user", "remove", "bob"),
            ("user", "passwd", "bob", "--password-file", "{new}"),
        ],
    )
    def test_is_out_at_once(
        self, commands: Commands, guarded: RunningRegistry, tmp_path: Path, change: tuple[str, ...]
    ) -> None:
        """With the password, with the access token and with the refresh token."""
        new = tmp_path / "new"
        new.write_text("another password\n")
        commands.add_user("bob", "bob's password")
        pair = ("bob", "bob's password")
        with connect(guarded.url) as client:
            given = client.post("/oauth2/token", data=offline(*pair)).json()
            headers = {"Authorization": f"Bearer {given['token']}"}
            path = "/v2/team/app/manifests/v1"
            assert statuses(guarded.url, path, auth=pair) == {200}
            assert statuses(guarded.url, path, headers=headers) == {200}
            commands.do(*(word.format(new=new) for word in change))
            assert statuses(guarded.url, path, auth=pair) == {401}
            assert statuses(guarded.url, path, headers=headers) == {401}
            form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
            assert client.post("/oauth2/token", data=form).status_code == 401
            if "disable" in change:
                commands.do("user", "enable", "bob")
                assert statuses(guarded.url, path, auth=pair) == {200}
                assert client.post("/oauth2/token", data=form).status_code == 401
        commands.run("user", "remove", "bob")


def test_token_passwords(commands: Commands, guarded: RunningRegistry) -> None:
    """One password is replaced while the other goes on; the scope map is changed under both."""
    commands.do("scope-map", "create", "readers", "--repository", "team/*:pull")
    made = commands.json("token", "create", "robot", "--scope-map", "readers")
    first, second = (item["value"] for item in made["passwords"])
    path = "/v2/team/app/manifests/v1"
    for password in (first, second):
        assert statuses(guarded.url, path, auth=("robot", password)) == {200}
    with connect(guarded.url) as client:
        headers = bearer(client, ("robot", second), "repository:team/app:pull")
    commands.do("token", "regenerate", "robot", "--password", "1")
    assert statuses(guarded.url, path, auth=("robot", first)) == {401}
    assert statuses(guarded.url, path, auth=("robot", second)) == {200}
    commands.do(
        "scope-map", "update", "readers", "--repository", "other/*:pull",
        "--remove-repository", "team/*",
    )  # fmt: skip
    assert statuses(guarded.url, path, auth=("robot", second)) == {403}
    assert statuses(guarded.url, path, headers=headers) == {403}
    commands.do("token", "delete", "robot")


def test_keys(commands: Commands, guarded: RunningRegistry) -> None:
    """A rotation breaks no token in flight; both keys are published, the new one signs."""
    with connect(guarded.url) as client:
        headers = bearer(client, VICTIM.pair, "repository:team/app:pull")
        before = {key["kid"] for key in client.get("/.well-known/jwks.json").json()["keys"]}
        commands.do("keys", "rotate")
        after = {key["kid"] for key in client.get("/.well-known/jwks.json").json()["keys"]}
        assert before < after
        path = "/v2/team/app/manifests/v1"
        assert statuses(guarded.url, path, headers=headers) == {200}
        newer = bearer(client, VICTIM.pair, "repository:team/app:pull")
        assert statuses(guarded.url, path, headers=newer) == {200}


class TestFiles:
    """Files are read again when they change."""

    def test_htpasswd(self, data: Path, tmp_path: Path) -> None:
        """Who is struck from the file is out, who is added is in."""
        lines = {name: _htpasswd_line(name, f"{name}'s") for name in ("ann", "ben")}
        file = tmp_path / "htpasswd"
        file.write_text(lines["ann"])
        options = ("--htpasswd", str(file), "--login-failures", "0")
        with running_registry(data, *options, env=CHEAP) as registry:
            assert statuses(registry.url, auth=("ann", "ann's")) == {200}
            assert statuses(registry.url, auth=("ben", "ben's")) == {401}
            file.write_text(lines["ben"])
            assert statuses(registry.url, auth=("ann", "ann's")) == {401}
            assert statuses(registry.url, auth=("ben", "ben's")) == {200}

    def test_access_file(self, data: Path, tmp_path: Path) -> None:
        """Rules change under a running registry; a broken file changes nothing.

        Of the two workers, one may not have served a request while the file was whole.
        """
        rule = (
            '[[access]]\nidentities = ["ann"]\nrepositories = ["a"]\nactions = ["pull", "push"]\n'
        )
        file, htpasswd = tmp_path / "access.toml", tmp_path / "htpasswd"
        htpasswd.write_text(_htpasswd_line("ann", "ann's"))
        file.write_text(rule)
        options = ("--htpasswd", str(htpasswd), "--access", str(file))
        with running_registry(data, *options, env=CHEAP) as registry:
            with connect(registry.url, auth=("ann", "ann's")) as client:
                push(client, "a", image("a"), "v1")
            path = "/v2/a/manifests/v1"
            file.write_text(f'{rule}effect = "deny"\n')
            assert statuses(registry.url, path, auth=("ann", "ann's")) == {403}
            file.write_text("[[access]\n")
            assert statuses(registry.url, path, auth=("ann", "ann's")) == {403}
            file.write_text(rule)
            assert statuses(registry.url, path, auth=("ann", "ann's")) == {200}
        assert "is not valid TOML" in registry.log


def _htpasswd_line(name: str, password: str) -> str:
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


class TestGuessing:
    """Failed logins are counted for all workers together."""

    def test_too_many(self, data: Path) -> None:
        """After a few failures even the right password has to wait; another name does not."""
        commands = Commands(data)
        commands.add_user("ann", "ann's")
        commands.add_user("ben", "ben's")
        with running_registry(data, "--login-failures", "5", env=CHEAP) as registry:
            found = [statuses(registry.url, auth=("ann", f"wrong {n}")) for n in range(2)]
            assert found[0] == {401, 429}
            assert found[1] == {429}
            assert statuses(registry.url, auth=("ann", "ann's")) == {429}
            assert statuses(registry.url, auth=("ben", "ben's")) == {200}
            answer = httpx.get(f"{registry.url}/oauth2/token", auth=("ann", "wrong"), **ONCE)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
            assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"

    def test_remembered_password_is_no_oracle(self, data: Path) -> None:
        """Where attempts are refused, the right password is too, though it was used elsewhere."""
        Commands(data).add_user("ann", "ann's")
        options = ("--login-failures", "3", "--trusted-proxies", "127.0.0.1", "--workers", "1")
        with (
            running_registry(data, *options, env=CHEAP) as registry,
            connect(registry.url) as client,
        ):

            def status(source: str, password: str) -> int:
                headers = {"X-Forwarded-For": source}
                return client.get("/v2/", auth=("ann", password), headers=headers).status_code

            # All addresses of a network of 64 bits are one client's.
            found = [status(f"2001:db8::{number}", f"wrong {number}") for number in range(4)]
            assert found == [401, 401, 401, 429]
            assert status("192.0.2.1", "ann's") == 200
            assert status("2001:db8::9", "ann's") == 429

    def test_tokens_are_not_counted(self, data: Path) -> None:
        """A job with a token that is over does not lock out those beside it."""
        Commands(data).add_user("ann", "ann's")
        with (
            running_registry(data, "--login-failures", "3", env=CHEAP) as registry,
            connect(registry.url) as client,
        ):
            answer = client.post("/oauth2/token", data=offline("ann", "ann's"))
            zeros = "00000000-0000-0000-0000-000000000000"
            for _ in range(6):
                assert client.get("/v2/", auth=(zeros, "junk")).status_code == 401
            pair = (zeros, answer.json()["refresh_token"])
            assert client.get("/v2/", auth=pair).status_code == 200

    def test_too_many_fields(self, guarded: RunningRegistry) -> None:
        """A malformed form is refused like any other bad input."""
        for path in ("/oauth2/token", "/oauth2/exchange"):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = httpx.post(
                f"{guarded.url}{path}", content=b"a=b&" * 250, headers=headers, **ONCE
            )
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, "SIZE_INVALID")


def test_crowds_of_logins(data: Path) -> None:
    """Wrong passwords from four addresses keep neither a robot nor a user at another one out."""
    options = ("--workers", "1", "--password-cost", "9", "--login-failures", "0")
    with guarded_registry(data, *options) as registry, ExitStack() as crowd:
        for number in range(100):
            wrong = Login(f"name-{number}", "wrong")
            source = (f"127.0.0.{2 + number % 4}", 0)
            place = (registry.host, registry.port)
            one = crowd.enter_context(socket.create_connection(place, PATIENCE, source))
            head = f"GET /v2/ HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {wrong.encoded}\r\n\r\n"
            one.sendall(head.encode())
        with connect(registry.url) as client:
            assert client.get("/v2/", auth=PUSHER.pair).status_code == 200
            assert client.get("/v2/", auth=ALICE.pair).status_code == 200


class TestExposure:
    """What is served to other machines."""

    def test_needs_access_control(self, data: Path) -> None:
        """Without any, an address that others reach is refused in one line."""
        code, printed, errors = run_portside("serve", "--data", str(data), "--listen", "0.0.0.0:0")
        assert (code, printed) == (1, "")
        assert errors.startswith("portside: 0.0.0.0 can be reached from other machines")
        assert len(errors.splitlines()) == 1

    def test_open_on_purpose(self, data: Path) -> None:
        """`--open` serves everybody, whatever users there are, and says so in one line."""
        Commands(data).add_user("ann", "ann's")
        with running_registry(data, "--open") as registry:
            assert statuses(registry.url) == {200}
        (line,) = [
            line for line in registry.log.splitlines() if line.startswith("Access control is off")
        ]
        assert "can push, pull and delete" in line

    def test_stays_closed(self, data: Path) -> None:
        """A registry whose last user was removed is not open again."""
        commands = Commands(data)
        commands.add_user("ann", "ann's")
        commands.do("user", "remove", "ann")
        with running_registry(data, env=CHEAP) as registry:
            assert statuses(registry.url) == {401}


class TestChallenge:
    """Where clients are sent for tokens."""

    @pytest.mark.parametrize(
        ("options", "host", "realm"),
        [
            ((), "registry.example:5000", "http://registry.example:5000/oauth2/token"),
            ((), 'a"b', "http://127.0.0.1:{port}/oauth2/token"),
            (("--public-url", "https://r.example/"), "x", "https://r.example/oauth2/token"),
            (("--token-realm", "https://t.example/get"), "x", "https://t.example/get"),
        ],
    )
    def test_realm(self, data: Path, options: tuple[str, ...], host: str, realm: str) -> None:
        """The realm is how the client knows the registry, or what the settings say."""
        with running_registry(data, "--anonymous", "*:pull", *options) as registry:
            answer = httpx.get(f"{registry.url}/v2/", headers={"Host": host}, **ONCE)
        expected = realm.format(port=registry.port)
        assert answer.headers["www-authenticate"] == f'Bearer realm="{expected}",service="portside"'

    def test_dialect(self, data: Path) -> None:
        """The description of 2017 knows Basic alone, and 401 for all that is not allowed."""
        commands = Commands(data)
        commands.do("scope-map", "create", "m", "--create", "--repository", "a:pull")
        made = commands.json("token", "create", "robot", "--scope-map", "m")
        pair = ("robot", made["passwords"][0]["value"])
        with running_registry(data, "--dialect", "acr-2017", env=CHEAP) as registry:
            answer = httpx.post(f"{registry.url}/v2/a/blobs/uploads", auth=pair, **ONCE)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (
                401,
                'Basic realm="portside"',
            )
            assert answer.json()["errors"][0]["code"] == "DENIED"
