"""A database and a blob store that are apart are not mixed up."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from support.commands import run_inside
from support.content import digest_of
from support.postgres import Server
from support.server import run_portside, running_registry, serve_command
from support.wire import ONCE

CONTENT = b"content"


@pytest.fixture
def url(postgresql: Server) -> str:
    """Make an empty database."""
    return postgresql.make_database()


@pytest.fixture
def served(url: str, data: Path) -> Path:
    """Serve a blob from a database and a directory; returns the directory."""
    with running_registry(data, "--database", url) as registry:
        answer = httpx.post(
            f"{registry.url}/v2/app/blobs/uploads/",
            params={"digest": digest_of(CONTENT)},
            content=CONTENT,
            **ONCE,
        )
        assert answer.status_code == 201
    return data


def fail(*arguments: str) -> str:
    """Run a command that fails with one line, and return it."""
    run = run_portside if arguments[0] == "serve" else run_inside
    code, printed, errors = run(*arguments)
    assert (code, printed) == (1, ""), errors
    assert len(errors.splitlines()) == 1, errors
    return errors


@pytest.mark.parametrize("command", ["serve", "check", "collect"])
class TestAnotherPlace:
    """Every command that would believe the blobs refuses them."""

    def run(self, command: str, data: Path, url: str) -> str:
        """Run the command on a directory and a database."""
        if command == "serve":
            return fail(*serve_command(data, "--database", url)[3:])
        return fail(command, "--data", str(data), "--database", url)

    def test_one_without_blobs(self, served: Path, url: str, tmp_path: Path, command: str) -> None:
        """What it acknowledges no other node could read."""
        empty = tmp_path / "empty"
        empty.mkdir()
        line = self.run(command, empty, url)
        assert "is not where this registry keeps its blobs: there is no registry.json in it" in line
        mark = (served / "registry.json").read_text().strip()
        assert all(word in line for word in mark.split('"') if len(word) == 32)

    def test_one_of_another_registry(self, served: Path, postgresql: Server, command: str) -> None:
        """Collecting there would remove all of the registry's blobs as orphaned."""
        other = postgresql.make_database()
        assert run_inside("migrate", "--database", other)[0] == 0
        assert "holds the blobs of another registry" in self.run(command, served, other)
        assert list((served / "blobs").rglob(digest_of(CONTENT)[7:]))

    def test_another_one_of_this_registry(self, served: Path, url: str, command: str) -> None:
        """Such as one that was marked when the database was restored from before its first use."""
        mark = served / "registry.json"
        found = mark.read_text()
        registry = found.split('"')[3]
        mark.write_text(f'{{"registry": "{registry}", "storage": "{"0" * 32}"}}')
        assert "is not the blob store that this registry uses" in self.run(command, served, url)
        mark.write_text("nonsense")
        assert "registry.json beside the blobs is damaged" in self.run(command, served, url)


@pytest.mark.parametrize("command", ["serve", "check", "collect"])
def test_blobs_of_one_machine(url: str, data: Path, command: str) -> None:
    """A database that was made ready for others is not served with them, nor are they collected."""
    with running_registry(data) as registry:
        query = {"digest": digest_of(CONTENT)}
        answer = httpx.post(
            f"{registry.url}/v2/app/blobs/uploads/", params=query, content=CONTENT, **ONCE
        )
        assert answer.status_code == 201
    assert run_inside("migrate", "--database", url)[0] == 0
    options = ("--data", str(data), "--database", url)
    called = serve_command(data, "--database", url)[3:] if command == "serve" else None
    line = fail(*(called or (command, *options)))
    assert "holds blobs, but this registry has never been served" in line
    assert list((data / "blobs").rglob(digest_of(CONTENT)[7:]))
    assert not (data / "registry.json").exists()


def test_none_is_copied_from_another_place(served: Path, url: str, tmp_path: Path) -> None:
    """A copy would lack every blob, and the target would be made for it in vain."""
    there, target = tmp_path / "there", tmp_path / "target.toml"
    target.write_text(f'data = "{there}"\n')
    source = ("--data", str(served.with_name("elsewhere")), "--database", url)
    message = fail("copy-store", *source, "--to", str(target))
    assert "is not where this registry keeps its blobs" in message
    assert not there.exists()


def test_the_mark_can_be_put_back(served: Path, url: str) -> None:
    """The line of the refusal says what has to be in it."""
    mark = served / "registry.json"
    mark.unlink()
    line = fail("check", "--data", str(served), "--database", url)
    mark.write_text(line[line.index("{") :])
    code, printed, errors = run_inside("check", "--data", str(served), "--database", url)
    assert (code, errors) == (0, "")
    assert printed.startswith("No problem in 0 manifests, 1 blob")


def test_one_machine_needs_none(data: Path) -> None:
    """A database and blobs in one directory cannot be mixed up."""
    with running_registry(data):
        pass
    assert not (data / "registry.json").exists()
