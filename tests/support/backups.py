"""Backups of registries, made and looked at by commands."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import obstore

from portside.bootstrap import Stores, connected_stores
from portside.config import make_settings
from portside.operations.copy.plan import RegistryStores
from portside.stores.blobs.objects.urls import open_store
from support.commands import run_inside
from support.content import Content
from support.copying import push, unequal
from support.homes import Home


@dataclass(frozen=True)
class Place:
    """Where a backup is: a directory or a URL, and the environment that opens it."""

    name: str
    home: Home

    def do(self, command: str, home: Home, *options: str) -> str:
        """Run a command that succeeds, on the registry in a home; return what it prints."""
        code, printed, errors = self.run(command, home, *options)
        assert (code, errors) == (0, ""), printed
        return printed

    def run(self, command: str, home: Home, *options: str) -> tuple[int, str, str]:
        """Run a command on the registry in a home; return its exit code, output and errors."""
        env = {**self.home.env, **home.env}
        return run_inside(command, self.name, *options, *home.place, env=env)

    def refused(self, command: str, home: Home, *options: str) -> str:
        """Run a command that fails with one line; return it."""
        code, printed, errors = self.run(command, home, *options)
        assert (code, printed, len(errors.splitlines())) == (1, "", 1), (printed, errors)
        return errors

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        """What the command lists."""
        listed: list[dict[str, Any]] = json.loads(self.do("backup", self.home, "--list", "--json"))
        return listed

    def verify(self) -> tuple[int, list[str]]:
        """Verify; return the exit code and the lines."""
        code, printed, errors = self.run("backup", self.home, "--verify")
        assert errors == ""
        return code, printed.splitlines()

    def count(self) -> int:
        """Return how many blobs there are."""
        if "://" not in self.name:
            return len(list(Path(self.name).glob("blobs/*/*/*")))
        found = obstore.list(open_store(self.name, environment=self.home.env), "blobs").collect()
        return len(found)

    @property
    def blobs(self) -> Home:
        """The blobs of the backup, as `support.damage` takes them."""
        is_url = "://" in self.name
        return Home(Path(self.name), storage=self.name if is_url else "", env=self.home.env)


def place_beside(home: Home) -> Place:
    """Name a place like the one that a home keeps its blobs in."""
    if not home.storage:
        return Place(str(home.data.with_name(f"backup-{uuid.uuid4().hex}")), home)
    bucket = home.storage.rpartition("/")[0]
    return Place(f"{bucket}/{uuid.uuid4().hex}", home)


@asynccontextmanager
async def opened(home: Home) -> AsyncIterator[Stores]:
    """Open the stores of a home, which are created if need be."""
    settings = {"data": str(home.data), "database": home.database, "storage": home.storage}
    with patch.dict("os.environ", home.env):
        given = {name: value for name, value in settings.items() if value}
        async with connected_stores(make_settings({**given, "storage_http": True})) as stores:
            await stores.create()
            yield stores


def fill(home: Home, contents: Sequence[Content], repository: str = "team/app") -> None:
    """Push content without a server, each with a tag of its own."""

    async def pushing() -> None:
        async with opened(home) as stores:
            side = RegistryStores(stores.metadata, stores.blobs)
            for content in contents:
                await push(side, repository, content, f"v{content.digest[7:15]}")

    asyncio.run(pushing())


def differences(first: Home, second: Home) -> list[object]:
    """Return the rows that two registries do not share."""

    async def compare() -> list[object]:
        async with opened(first) as one, opened(second) as other:
            return await unequal(
                RegistryStores(one.metadata, one.blobs), RegistryStores(other.metadata, other.blobs)
            )

    return asyncio.run(compare())
