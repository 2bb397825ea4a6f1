"""Webhooks of a real registry: nothing is lost or out of order, whatever dies or fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from portside.bootstrap import connected_stores
from portside.bootstrap.preparing import prepare
from portside.bootstrap.webhooks import Delivering
from portside.config import Settings
from portside.config.rules import watch_rules_file
from portside.stores.actors import NOBODY
from portside.stores.events import EventAction, NewEvent
from portside.telemetry.tasks import TaskCounts
from support.homes import Home
from support.metrics import METRICS, scrape
from support.nodes import Node
from support.postgres import Server
from support.receiving import Receiver, push_tags, receiving, recorded, webhook
from support.server import RunningRegistry, start_registry
from support.waiting import until

SHORT = ("--webhook-timeout", "1", "--webhook-connections", "2", "--webhook-expiry", "60")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def other() -> Iterator[Receiver]:
    """Run another receiver, which works."""
    with receiving() as receiver:
        yield receiver


Start = Callable[..., RunningRegistry]


@pytest.fixture
def start(data: Path) -> Iterator[Start]:
    """Return a function that serves the directory; what was not stopped is killed."""
    with ExitStack() as stack:

        def start(*options: str) -> RunningRegistry:
            registry = start_registry(data, *options)
            stack.callback(registry.kill)
            return registry

        yield start


@pytest.mark.long
def test_a_receiver_and_a_server_that_die(
    start: Start, data: Path, tmp_path: Path, receiver: Receiver, other: Receiver
) -> None:
    """A receiver fails in every way, and the server is killed: all comes, once or more."""
    rules = tmp_path / "rules.toml"
    rules.write_text(webhook("bad", receiver) + webhook("good", other))
    options = ("--rules", str(rules), *SHORT, *METRICS)
    home = Home(data)
    receiver.answers = {"a": "stalls", "b": 500, "c": "redirects"}
    registry = start(*options)
    push_tags(registry.url, "a", "b", "c")
    # Nobody waits for it.
    expected = recorded(home)
    until(lambda: other.firsts() == expected)
    until(lambda: {it.repository for it in receiver.requests} == {"a", "b", "c"})
    assert receiver.accepted == []
    until(lambda: scrape(registry).sum("portside_webhook_deliveries_total", webhook="bad") >= 3)
    delivered = {"webhook": "good", "outcome": "delivered"}
    assert scrape(registry).sum("portside_webhook_deliveries_total", **delivered) > 0
    registry.kill()
    receiver.answers, receiver.answer = {}, "dies"
    receiver.requests.clear()
    registry = start(*options)
    bad = {"webhook": "bad"}
    until(lambda: scrape(registry).sum("portside_webhook_waiting", **bad) > 0)
    assert scrape(registry).sum("portside_webhook_oldest_seconds", **bad) > 0
    push_tags(registry.url, "a", "d")
    until(lambda: len(receiver.requests) > 1)
    receiver.answer = 204
    expected = recorded(home)
    assert len(expected["a"]) > len(expected["b"]) > 6
    until(lambda: receiver.firsts() == other.firsts() == expected)
    assert registry.stop() == 0
    assert {len(ids) for ids in (*receiver.ids().values(), *other.ids().values())} == {1}
    assert "webhook bad: answered 500 Internal Server Error" in registry.log


@pytest.mark.long
def test_a_node_that_dies(postgresql: Server, tmp_path: Path, receiver: Receiver) -> None:
    """Another node goes on where it was, also with what it had read and not sent."""
    rules = tmp_path / "rules.toml"
    rules.write_text(webhook("hook", receiver))
    storage = f"file://{tmp_path}/blobs"
    home = Home(tmp_path / "data", postgresql.make_database(), storage)
    nodes = [
        Node(home, tmp_path / f"{number}.log", "--rules", str(rules), *SHORT) for number in range(2)
    ]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
        nodes[0].start()
        push_tags(nodes[0].url, "a")
        expected = recorded(home)
        until(lambda: receiver.firsts() == expected)
        receiver.answer = "stalls"
        nodes[1].start()
        push_tags(nodes[1].url, "a", "b")
        until(lambda: len(receiver.requests) > len(receiver.accepted) + 1)
        nodes[0].kill()
        receiver.answer = 204
        push_tags(nodes[1].url, "b")
        expected = recorded(home)
        until(lambda: receiver.firsts() == expected)
        assert {len(ids) for ids in receiver.ids().values()} == {1}
        nodes[1].stop()


class TestBeginning:
    """Where a webhook begins that is new to a registry."""

    @pytest.fixture
    @staticmethod
    def settings(data: Path, tmp_path: Path, receiver: Receiver) -> Settings:
        """Name a webhook."""
        (tmp_path / "rules.toml").write_text(webhook("hook", receiver))
        return Settings(data=str(data), rules=str(tmp_path / "rules.toml"))

    @staticmethod
    async def record(settings: Settings) -> None:
        """Record an event."""
        async with connected_stores(settings) as stores:
            await stores.create()
            await stores.metadata.record_event(NewEvent(EventAction.TAG_SET, "a"), NOBODY)

    @staticmethod
    async def deliver(settings: Settings) -> list[int]:
        """Do a round of the background task; return where each webhook is."""
        async with connected_stores(settings) as stores:
            rules = watch_rules_file(settings.rules)
            delivering = Delivering(settings, stores, rules, TaskCounts(), None)
            await delivering.round()
            await delivering.end()
            return [state.position for state in await stores.metadata.list_webhooks()]

    def test_a_start(self, settings: Settings, receiver: Receiver) -> None:
        """It begins with what happens after the start of the server, and not before."""
        asyncio.run(self.record(settings))
        prepare(settings)
        asyncio.run(self.record(settings))
        # The second event is that of the first key.
        assert asyncio.run(self.deliver(settings)) == [3]
        assert [it.event for it in receiver.accepted] == [3]
        # The process that ends leaves the rest to another one at once.
        asyncio.run(self.record(settings))
        assert asyncio.run(self.deliver(settings)) == [4]

    def test_a_copy(self, settings: Settings, receiver: Receiver) -> None:
        """A copy tells nobody what happened in the registry that it is a copy of."""
        asyncio.run(self.record(settings))
        with closing(sqlite3.connect(Path(settings.data) / "portside.db")) as connection:
            connection.execute("UPDATE registry SET copy_of = 'another'")
            connection.commit()
        prepare(settings)
        assert asyncio.run(self.deliver(settings)) == []
        assert receiver.requests == []
