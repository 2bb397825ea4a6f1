"""The queue of logins: who has the next turn, and who is told to come again."""

from __future__ import annotations

import asyncio

import pytest

from portside.auth.login_queue import LoginQueue
from portside.spec.errors import TooManyRequests
from support.waiting import PATIENCE


async def served(queue: LoginQueue, addresses: str) -> tuple[list[str], list[str]]:
    """Send a login from each address while one runs; return who had turns and who was refused."""
    turns: list[str] = []
    refused: list[str] = []

    async def login(address: str) -> None:
        try:
            async with queue.turn(address):
                turns.append(address)
        except TooManyRequests:
            refused.append(address)

    async with asyncio.TaskGroup() as group, queue.turn("first"):
        for address in addresses:
            group.create_task(login(address))
        await asyncio.sleep(0)
    return turns, refused


@pytest.mark.parametrize(
    ("addresses", "turns", "refused"),
    [
        ("aaab", list("abaa"), []),
        ("aaaab", list("abaa"), ["a"]),
        ("aabba", list("abab"), ["a"]),
        ("aabbb", list("abab"), ["b"]),
        ("aabcb", list("abca"), ["b"]),
    ],
)
async def test_turns(addresses: str, turns: list[str], refused: list[str]) -> None:
    """Addresses take turns, and one that waits with fewer logins is let in."""
    assert await served(LoginQueue(running=1, length=4), addresses) == (turns, refused)


async def test_cancelled_when_called() -> None:
    """A turn that comes to a login that has just gone is the next one's."""
    queue = LoginQueue(running=1, length=2)

    async def login() -> bool:
        async with queue.turn("a"):
            return True

    async with queue.turn("first"):
        gone, waiting = asyncio.create_task(login()), asyncio.create_task(login())
        await asyncio.sleep(0)
    gone.cancel()
    assert await asyncio.wait_for(waiting, PATIENCE)
