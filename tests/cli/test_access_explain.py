"""`portside access explain`: which rule decides, and why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from portside.auth.registrar import parse_scope_rules
from support.commands import Commands

ACCESS = """
[groups]
dev = ["alice", "bob"]

[[access]]
identities = ["*"]
repositories = ["*"]
actions = ["pull"]

[[access]]
groups = ["dev"]
repositories = ["team/*"]
actions = ["pull", "push"]

[[access]]
identities = ["bob"]
repositories = ["team/*"]
actions = ["push"]
effect = "deny"

[[access]]
groups = ["dev"]
repositories = ["team/frozen"]
actions = ["push"]

[[access]]
groups = ["dev"]
repositories = ["team/frozen"]
actions = ["push"]
effect = "deny"

[[access]]
groups = ["ci:deploy"]
repositories = ["team/*"]
actions = ["push"]

[[issuer]]
name = "ci"
issuer = "https://ci.example"
audience = "registry.example"
jwks-url = "https://ci.example/keys"
"""

REPOSITORIES = "less specific repositories"
IDENTITIES = "less specific identities"
SHA = "carol:{SHA}xxx\n"


class Explainer(Commands):
    """Asks about a registry that is served with an access file."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.file = data.with_name("access.toml")
        self.file.write_text(ACCESS)

    def explain(self, *arguments: str) -> tuple[int, list[str]]:
        """Ask; returns the exit code and the lines."""
        options = ("--access", str(self.file))
        code, printed, errors = self.run("access", "explain", *arguments, *options)
        assert errors == ""
        lines = printed.replace(f"{self.file}, ", "").splitlines()
        return code, lines

    def as_json(self, *arguments: str) -> Any:
        """Ask for JSON, which says what the exit code does."""
        code, lines = self.explain(*arguments, "--json")
        document = json.loads("\n".join(lines))
        assert code == (0 if document["allowed"] else 1)
        return document


@pytest.fixture(scope="module")
def portside(tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    """Ask about a registry that has users and tokens; no test changes it."""
    explainer = Explainer(tmp_path_factory.mktemp("explain") / "data")
    rules = parse_scope_rules(["team/*:pull"])
    with explainer.registrar() as registrar:
        for name in ("alice", "bob", "off"):
            asyncio.run(registrar.add_user(name, "secret", cost=4))
        asyncio.run(registrar.enable_user("off", enabled=False))
        asyncio.run(registrar.add_scope_map("pull", rules, description=""))
        for name in ("robot", "old"):
            asyncio.run(registrar.add_token(name, "pull", expires=None))
    explainer.change("old", lambda token: replace(token, expires=token.created))
    return explainer


class TestRules:
    """The most specific rule decides, and the others are told why they do not."""

    def test_less_specific_repository(self, portside: Explainer) -> None:
        """A longer start comes before a shorter one."""
        assert portside.explain("alice", "pull", "team/app") == (
            0,
            [
                "allowed: alice pull in team/app",
                "  because [[access]] 2 allows group dev pull, push in team/*",
                f"  overrides [[access]] 1 allows every user pull in * ({REPOSITORIES})",
            ],
        )

    def test_less_specific_identity(self, portside: Explainer) -> None:
        """A name comes before a group."""
        assert portside.explain("bob", "content/write", "team/app") == (
            1,
            [
                "denied: bob push in team/app",
                "  because [[access]] 3 denies bob push in team/*",
                f"  overrides [[access]] 2 allows group dev pull, push in team/* ({IDENTITIES})",
            ],
        )

    def test_denial_wins(self, portside: Explainer) -> None:
        """Of two rules that are as specific, the one that denies."""
        assert portside.as_json("alice", "push", "team/frozen") == {
            "identity": "alice",
            "kind": "user",
            "action": "push",
            "repository": "team/frozen",
            "allowed": False,
            "reason": "[[access]] 5 denies group dev push in team/frozen",
            "rule": "[[access]] 5 denies group dev push in team/frozen",
            "others": [
                {
                    "rule": "[[access]] 4 allows group dev push in team/frozen",
                    "reason": "equally specific, and deny wins",
                },
                {
                    "rule": "[[access]] 2 allows group dev pull, push in team/*",
                    "reason": "less specific repositories",
                },
            ],
            "unmatched": [],
        }

    def test_no_rule(self, portside: Explainer) -> None:
        """What no rule is about is denied."""
        code, lines = portside.explain("alice", "delete", "x")
        assert code == 1
        assert lines[1] == "  because no rule matches; denied by default"
        assert lines[2] == (
            "  does not match: [[access]] 1 allows every user pull in * (other actions)"
        )
        assert any(line.endswith(" (other repositories)") for line in lines[2:])

    def test_token(self, portside: Explainer) -> None:
        """A token's rules are those of its scope map."""
        answer = portside.as_json("robot", "pull", "team/app")
        assert (answer["allowed"], answer["kind"]) == (True, "token")
        assert answer["rule"] == "scope map pull allows robot pull in team/*"
        assert not portside.as_json("robot", "pull", "other")["allowed"]


class TestIdentities:
    """Users, tokens, nobody, and others."""

    @pytest.mark.parametrize("name", ["-", "anonymous"])
    def test_anonymous(self, portside: Explainer, name: str) -> None:
        """Requests without credentials have the anonymous rules alone."""
        answer = portside.as_json(name, "pull", "public/a")
        assert (answer["allowed"], answer["identity"]) == (False, "anonymous")
        answer = portside.as_json(name, "pull", "public/a", "--anonymous", "public/*:pull")
        assert answer["allowed"]
        assert answer["rule"] == "--anonymous public/*:pull allows everyone pull in public/*"

    def test_other_issuer(self, portside: Explainer) -> None:
        """An identity of a trusted issuer has the groups that are given."""
        question = ("ci:team/app", "push", "team/app")
        assert not portside.as_json(*question)["allowed"]
        answer = portside.as_json(*question, "--group", "ci:deploy")
        assert (answer["allowed"], answer["kind"]) == (True, "foreign")
        answer = portside.as_json("other:x", "pull", "team/app")
        assert (answer["allowed"], answer["kind"]) == (False, None)
        assert answer["reason"] == "no trusted issuer is named 'other'"

    def test_unknown(self, portside: Explainer) -> None:
        """An unknown name is denied everything."""
        code, lines = portside.explain("eve", "pull", "team/app")
        assert (code, lines[1:]) == (1, ["  because there is no user or token named 'eve'"])

    def test_disabled_and_expired(self, portside: Explainer) -> None:
        """A disabled or expired account is denied whatever the rules say; they are still shown."""
        code, lines = portside.explain("off", "pull", "x")
        assert code == 1
        assert lines[1:] == [
            "  because user off is disabled",
            "  the rules alone: [[access]] 1 allows every user pull in *",
        ]
        answer = portside.as_json("old", "pull", "team/app")
        assert (answer["allowed"], answer["reason"]) == (False, "token old has expired")

    def test_htpasswd(self, portside: Explainer, tmp_path: Path) -> None:
        """Names of the htpasswd file are users; a line that cannot be used is a mistake."""
        path = tmp_path / "htpasswd"
        path.write_text(portside.stored("alice").passwords[0].hash.join(["dave:", "\n"]))
        options = ("--htpasswd", str(path))
        assert portside.as_json("dave", "pull", "x", *options)["kind"] == "user"
        path.write_text(SHA)
        message = portside.refused("access", "explain", "dave", "pull", "x", *options)
        assert "line 1: SHA-1 hashes are not accepted" in message

    def test_open_registry(self, data: Path) -> None:
        """Without access control, or with --open, everybody may do everything."""
        portside = Commands(data)
        with portside.registrar() as registrar:
            asyncio.run(registrar.require_free("alice"))
        reason = "because access control is off: everyone may do everything"
        assert reason in portside.do("access", "explain", "-", "delete", "x")
        portside.add_user("alice", "secret")
        assert portside.run("access", "explain", "-", "delete", "x")[0] == 1
        assert reason in portside.do("access", "explain", "-", "delete", "x", "--open")
        assert "the default (no access file)" in portside.do(
            "access", "explain", "alice", "push", "x"
        )


class TestMistakes:
    """Each is one line that says what is wrong."""

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("alice", "fly", "x"), "unknown action 'fly'"),
            (("alice", "*", "x"), "'*' is more than one action"),
            (("alice", "pull,push", "x"), "'pull,push' is more than one action"),
            (("alice", "pull", "X"), "invalid repository name 'X'"),
            (("alice", "pull", "x", "--group", "dev"), "--group needs an identity of a trusted"),
            (("ci:x", "pull", "x", "--group", "deploy"), "invalid group 'deploy': groups of ci"),
            (("alice", "pull", "x", "--access", "absent"), "cannot read absent"),
            (("alice", "pull", "x", "--anonymous", "x"), "anonymous: invalid rule 'x': expected"),
        ],
    )
    def test_refused(self, portside: Explainer, arguments: tuple[str, ...], expected: str) -> None:
        assert expected in portside.refused("access", "explain", *arguments)
