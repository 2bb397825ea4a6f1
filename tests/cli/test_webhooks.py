"""`portside webhooks`: what it lists, and what it changes."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
import standardwebhooks

from portside.bootstrap import connected_stores, now
from portside.bootstrap.preparing import prepare
from portside.config import make_settings
from portside.files.text import FileInvalid
from portside.stores.actors import NOBODY
from portside.stores.events import EventAction, NewEvent
from portside.stores.webhooks import Reading
from support.commands import Commands
from support.receiving import receiving, webhook

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
RULES = """
[[webhook]]
name = "deploy"
url = "https://deploy.example/hook?token=s3cret"

[[webhook]]
name = "scan"
url = "http://127.0.0.1:1/"
secret-file = "secret"
format = "acr"
allow-private = true
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Write a rules file with two webhooks."""
    (tmp_path / "secret").write_text(SECRET)
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry with a webhook: two events are dead, and one waits."""

    async def fill() -> None:
        async with connected_stores(make_settings({"data": str(data)})) as stores:
            await stores.create()
            metadata = stores.metadata
            await metadata.add_webhooks(["deploy"])
            for tag in ("1", "2", "3"):
                event = NewEvent(EventAction.TAG_SET, "team/app", tag, "sha256:" + "a" * 64)
                await metadata.record_event(event, NOBODY)
            events = await metadata.read_events(0, limit=9)
            await metadata.read_for_webhooks([Reading("deploy", 0, 3, events)])
            for _ in "12":
                (due,) = await metadata.due_deliveries("deploy", limit=9)
                await metadata.bury_delivery(due, "answered 400 Bad Request")
            (due,) = await metadata.due_deliveries("deploy", limit=9)
            await metadata.postpone_delivery(due, now() + 60_000_000, "answered 503")

    asyncio.run(fill())
    return Commands(data)


def shown(portside: Commands, name: str, state: str) -> list[int]:
    """Return which events are listed in a state."""
    found = portside.json("webhooks", "deliveries", name, "--state", state)
    return [each["event"]["id"] for each in found]


def test_list(portside: Commands, rules: Path) -> None:
    """What the file names and what the registry knows, without the query of a URL."""
    first, second = portside.json("webhooks", "list", "--rules", str(rules))
    assert isinstance(first.pop("failing_since"), str)
    assert first == {
        "name": "deploy",
        "url": "https://deploy.example/hook",
        "format": "cloudevents",
        "state": "failing",
        "unread": 0,
        "waiting": 1,
        "dead": 2,
        "position": 3,
        "last_accepted": None,
    }
    assert (second["name"], second["format"], second["state"]) == ("scan", "acr", "not started")
    (alone,) = portside.json("webhooks", "list")
    assert (alone["state"], alone["url"]) == ("not in the rules", None)
    printed = portside.do("webhooks", "list", "--rules", str(rules))
    assert "s3cret" not in printed
    header, *lines = printed.splitlines()
    assert header.split("  ")[0] == "name"
    assert [line.split()[0] for line in lines] == ["deploy", "scan"]


def test_none(data: Path) -> None:
    """Without webhooks, the list says where to add some."""
    commands = Commands(data)
    commands.do("migrate", "--create")
    assert "--rules" in commands.do("webhooks", "list")


def test_deliveries(portside: Commands) -> None:
    """What is dead comes first, each with its event and the last error."""
    found = portside.json("webhooks", "deliveries", "deploy")
    assert [(each["event"]["id"], each["state"], each["attempts"]) for each in found] == [
        (1, "dead", 1),
        (2, "dead", 1),
        (3, "waiting", 1),
    ]
    assert found[0]["error"] == "answered 400 Bad Request"
    assert found[0]["next"] is None
    assert found[2]["next"] is not None
    assert found[0]["event"]["reference"] == "1"
    printed = portside.do("webhooks", "deliveries", "deploy")
    assert "team/app:1@sha256:" in printed
    assert "answered 503" in printed


def test_retry(portside: Commands) -> None:
    """Dead events wait again: those that are named, or all."""
    assert "--all" in portside.refused("webhooks", "retry", "deploy")
    assert "--all" in portside.refused("webhooks", "retry", "deploy", "1", "--all")
    assert portside.do("webhooks", "retry", "deploy", "2", "3", "2") == (
        "1 dead event of deploy will be sent again.\n"
    )
    assert shown(portside, "deploy", "dead") == [1]
    assert portside.do("webhooks", "retry", "deploy", "--all").startswith("1 dead event ")
    assert shown(portside, "deploy", "waiting") == [1, 2, 3]
    assert portside.do("webhooks", "retry", "deploy", "--all").startswith("0 dead events ")


def test_retry_of_many(portside: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are all, however many pages they take."""
    monkeypatch.setattr("portside.cli.webhooks.PAGE", 1)
    assert portside.do("webhooks", "retry", "deploy", "--all").startswith("2 dead events ")


def test_pause(portside: Commands, rules: Path) -> None:
    """A webhook is paused, and resumed."""

    def state() -> str:
        found: str = portside.json("webhooks", "list", "--rules", str(rules))[0]["state"]
        return found

    assert portside.do("webhooks", "pause", "deploy") == "Webhook deploy paused.\n"
    assert state() == "paused"
    assert portside.do("webhooks", "resume", "deploy") == "Webhook deploy resumed.\n"
    assert state() == "failing"


@pytest.mark.parametrize("command", ["deliveries", "pause", "resume", "retry --all"])
def test_unknown(portside: Commands, command: str) -> None:
    """A name that the registry does not know is an error that names those that it does."""
    said = portside.refused("webhooks", *command.split(), "depoly")
    assert "the registry has no webhook 'depoly'; it has deploy" in said


def test_test(portside: Commands, rules: Path) -> None:
    """A receiver is sent a signed event that is about nothing; what it answers is told."""
    command = ("webhooks", "test", "tried", "--rules", str(rules))
    secret = rules.parent / "secret"
    with receiving() as receiver:
        rules.write_text(f"{webhook('tried', receiver)}secret-file = 'secret'\n")
        assert portside.do(*command) == "Webhook tried accepted the event: 204.\n"
        headers, body = receiver.raw[0]
        sent = standardwebhooks.Webhook(SECRET).verify(body, headers)
        assert (sent["type"], sent["id"]) == ("portside.ping", headers["webhook-id"])
        receiver.answer = 418
        assert "webhook tried: answered 418" in portside.refused(*command)
        secret.unlink()
        assert f"webhook tried: cannot read {secret}" in portside.refused(*command)
        assert len(receiver.raw) == 2
    secret.write_text(SECRET)
    assert "webhook tried: no connection to 127.0.0.1" in portside.refused(*command)
    assert shown(portside, "deploy", "dead") == [1, 2]


def test_start(data: Path, rules: Path) -> None:
    """A server does not start while a secret cannot be read."""
    settings = make_settings({"data": str(data), "rules": str(rules)})
    (rules.parent / "secret").write_text("s3cret")
    with pytest.raises(FileInvalid, match=f"^{rules}, webhook scan: .* must begin with whsec_"):
        prepare(settings)
    (rules.parent / "secret").write_text(SECRET)
    assert prepare(settings) is False


def test_test_of_none(portside: Commands, rules: Path) -> None:
    """A webhook has to be in the rules file."""
    assert "rules is empty" in portside.refused("webhooks", "test", "scan")
    said = portside.refused("webhooks", "test", "skan", "--rules", str(rules))
    assert f"{rules} has no webhook 'skan'; it has deploy, scan" in said
