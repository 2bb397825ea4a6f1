"""Actors: who makes a change, and by which request, as the events record it."""

from __future__ import annotations

from typing import NamedTuple

LONGEST = 256
"""Characters of a text that a client chose, such as its User-Agent: events keep no more of it."""


class Actor(NamedTuple):
    """Who makes a change.

    `name` is the name of the identity, empty for anonymous clients. The rest is empty where there
    was no request: `request` is its id, `address` the client address, `agent` the User-Agent,
    `host` the Host that it was sent to, and `method` its method.
    """

    name: str = ""
    request: str = ""
    address: str = ""
    agent: str = ""
    host: str = ""
    method: str = ""


NOBODY = Actor()
"""An anonymous client of which nothing else is known."""

REGISTRY = Actor("this registry")
"""The registry itself. No identity has a name with a space in it."""


def background_actor(task: str) -> Actor:
    """Return the actor of a background task, such as `this registry: retention`."""
    return Actor(f"{REGISTRY.name}: {task}")
