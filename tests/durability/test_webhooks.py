"""Webhooks of a real registry: nothing is lost or out of order, whatever dies or fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

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
