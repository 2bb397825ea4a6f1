"""`portside retention` and `portside purge`, and what a running registry does by the rules."""

from __future__ import annotations

import asyncio
import re
import signal
from functools import partial
from pathlib import Path

import pytest

from portside.cli.output import shown_size
from portside.spec.names import RepositoryName
from portside.stores.interfaces import MetadataStore
from support.commands import Commands, run_inside
from support.content import Content, digest_of, image, index
from support.copying import now, opened_side
from support.copying import push as put
from support.server import run_portside, running_registry
from support.waiting import PATIENCE, until
from support.wire import assert_error, connect, push, put_manifest

DAY = 24 * 3600 * 1_000_000
APP = "team/app"
OLD, NEW, KEPT = image("old"), image("new"), image("kept")

RULES = """
[[repositories]]
match = "team/*"
immutable-tags = ["v*"]
[[repositories.retention]]
tags = "pr-*"
keep-newest = 1
[[repositories.untagged]]
delete-after = "0s"
"""

PULLED = """
[[repositories]]
match = "*"
[[repositories.retention]]
tags = "pr-*"
keep-pulled-within = "1d"
"""


def size_of(*contents: Content) -> int:
    """Return the bytes of manifests and their blobs, each counted once."""
    blobs = {blob for content in contents for blob in content.blobs}
    return sum(map(len, blobs)) + sum(len(content.manifest) for content in contents)


def ago(days: int) -> int:
    """Return the time that was so many days ago."""
    return now() - days * DAY


async def fill(data: Path) -> None:
    """Make two repositories with tags of different ages."""
    for age, repository, content, tags in (
        (40, APP, OLD, ["pr-1", "v1"]),
        (35, APP, KEPT, ["pr-2"]),
        (1, APP, NEW, ["pr-3", "latest"]),
        (40, "other", image("other"), ["pr-1"]),
    ):
        async with opened_side(data, clock=partial(ago, age)) as side:
            await put(side, repository, content, *tags)


@pytest.fixture
def commands(data: Path) -> Commands:
    """Make a registry, and run commands on it."""
    asyncio.run(fill(data))
    return Commands(data)


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """Write a rules file; return its path."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return str(path)


def tags_of(commands: Commands, repository: str = APP) -> list[str]:
    """List the tags that are left."""
    return [tag["name"] for tag in commands.json("tag", "list", repository)]


def manifests_of(commands: Commands, repository: str = APP) -> set[str]:
    """List the manifests that are left."""
    return {found["digest"] for found in commands.json("manifest", "list", repository)}


class TestRun:
    """`portside retention run`."""

    def test_dry_run(self, commands: Commands, rules: str) -> None:
        """It says what would go, why, and the bytes, and changes nothing."""
        shown = commands.do("retention", "run", "--dry-run", "--rules", rules)
        lines = [re.split(r" {2,}", line.strip()) for line in shown.splitlines()]
        rule = f"{rules}, [[repositories]] 1, [[repositories."
        assert lines[:-1] == [
            ["repository", "what", "why"],
            [APP, "tag pr-1", f"not kept by any rule that matches: {rule}retention]] 1"],
            [APP, "tag pr-2", f"not kept by any rule that matches: {rule}retention]] 1"],
            [APP, KEPT.digest, f"untagged for long enough: {rule}untagged]] 1"],
        ]
        size = shown_size(size_of(KEPT))
        sentence = f"would be deleted; the garbage collector then frees {size}."
        assert lines[-1] == [f"2 tags and 1 manifest {sentence}"]
        assert tags_of(commands) == ["latest", "pr-1", "pr-2", "pr-3", "v1"]

    def test_run(self, commands: Commands, rules: str) -> None:
        """What goes is deleted, and can be restored; what is immutable stays."""
        (found,) = commands.json("retention", "run", "--rules", rules)
        assert found["repository"] == APP
        assert [tag["name"] for tag in found["tags"]] == ["pr-1", "pr-2"]
        assert [manifest["digest"] for manifest in found["manifests"]] == [KEPT.digest]
        assert (found["bytes"], found["deleted"]) == (size_of(KEPT), True)
        assert tags_of(commands) == ["latest", "pr-3", "v1"]
        assert manifests_of(commands) == {OLD.digest, NEW.digest}
        assert tags_of(commands, "other") == ["pr-1"]
        assert commands.do("retention", "run", "--rules", rules) == "Nothing to delete.\n"
        assert commands.json("retention", "run", "--rules", rules) == []

    def test_no_rules(self, commands: Commands, tmp_path: Path) -> None:
        """Rules that delete nothing delete nothing; a file has to be named, and to be right."""
        path = tmp_path / "none.toml"
        path.write_text('[[repositories]]\nmatch = "*"\nquota = "1GiB"\n')
        assert commands.do("retention", "run", "--rules", str(path)) == "Nothing to delete.\n"
        assert "rules is empty" in commands.refused("retention", "run")
        path.write_text('\n[[repositories]]\nmatch = "Team"\n')
        refused = commands.refused("retention", "run", "--rules", str(path))
        assert f"{path}, line 3, [[repositories]] 1, match: invalid pattern 'Team'" in refused

    def test_no_registry(self, data: Path, rules: str) -> None:
        """A command does not make a registry."""
        code, _, errors = run_inside("retention", "run", "--data", str(data), "--rules", rules)
        assert code == 1
        assert "does not contain a registry" in errors


class TestExplain:
    """`portside retention explain`."""

    @pytest.mark.parametrize(
        ("reference", "sentences"),
        [
            (f"{APP}:pr-1", ["goes: not kept by any rule", "stays: tag v1 stays"]),
            (f"{APP}:v1", ["stays: immutable tag: v*", "stays: tag v1 stays"]),
            (f"{APP}:pr-3", ["stays: one of the newest", "stays: tag latest stays"]),
            (f"{APP}:latest", ["stays: no rule deletes it", "stays: tag"]),
            (f"{APP}@{KEPT.digest}", ["goes: not kept", "goes: untagged for long enough"]),
            ("other:pr-1", ["stays: no rule deletes it", "stays: tag pr-1 stays"]),
        ],
    )
    def test_sentences(
        self, commands: Commands, rules: str, reference: str, sentences: list[str]
    ) -> None:
        """Each verdict is a line with what decides."""
        lines = commands.do("retention", "explain", reference, "--rules", rules).splitlines()
        for line, sentence in zip(lines, sentences, strict=True):
            assert sentence in line
        assert lines[-1].startswith("manifest sha256:")

    def test_json(self, commands: Commands, rules: str) -> None:
        """Programs get the same."""
        found = commands.json("retention", "explain", f"{APP}:v1", "--rules", rules)
        assert found == {
            "v1": {"goes": False, "reason": "immutable tag: v*"},
            OLD.digest: {"goes": False, "reason": "tag v1 stays"},
        }

    @pytest.mark.parametrize("reference", [f"{APP}:none", f"{APP}@{digest_of(b'')}", "none:1"])
    def test_unknown(self, commands: Commands, rules: str, reference: str) -> None:
        """What is not there cannot be explained."""
        refused = commands.refused("retention", "explain", reference, "--rules", rules)
        assert re.search(r"has no (tag|manifest)|nothing has been pushed", refused)


class TestPurge:
    """`portside purge`."""

    def purge(self, commands: Commands, *options: str) -> list[str]:
        """Purge, and list what goes."""
        found = commands.json("purge", "--repository", "*", *options)
        return [
            item.get("name", item["digest"])
            for repository in found
            for item in (*repository["tags"], *repository["manifests"])
        ]

    def test_tags(self, commands: Commands) -> None:
        """Old tags go, but for the newest."""
        options = ("--tags", "pr-*", "--older-than", "30d")
        assert self.purge(commands, *options, "--dry-run") == ["pr-1", "pr-1", "pr-2"]
        assert self.purge(commands, *options, "--keep", "2", "--dry-run") == ["pr-1"]
        assert self.purge(commands, *options, "--keep", "2") == ["pr-1"]
        assert tags_of(commands) == ["latest", "pr-2", "pr-3", "v1"]
        assert OLD.digest in manifests_of(commands)

    def test_untagged(self, commands: Commands) -> None:
        """Manifests that lose their last tag go with it."""
        both = ("--tags", "pr-*", "--untagged", "--older-than", "30d")
        code, printed, errors = run_inside(
            "purge", "--repository", "team/*", *both, *commands.place
        )
        assert (code, errors) == (0, "")
        assert "2 tags and 1 manifest deleted; the garbage collector then frees" in printed
        assert manifests_of(commands) == {OLD.digest, NEW.digest}
        assert tags_of(commands, "other") == ["pr-1"]

    def test_undone(self, commands: Commands) -> None:
        """The repository comes back as it was; a tag whose manifest stayed comes back by name."""
        before = tags_of(commands)
        both = ("--tags", "pr-*", "--untagged", "--older-than", "30d")
        assert len(self.purge(commands, *both)) == 5
        printed = commands.do("trash", "restore", APP, "other")
        assert f"Repository {APP} restored: 1 manifest, 1 tag." in printed
        assert "Repository other restored: 1 manifest, 1 tag." in printed
        commands.do("trash", "restore", f"{APP}:pr-1")
        assert tags_of(commands) == before

    def test_immutable(self, commands: Commands, rules: str) -> None:
        """The rules file protects immutable tags, and deletes nothing by itself here."""
        options = ("--tags", "*", "--older-than", "0s")
        purged = self.purge(commands, *options, "--rules", rules)
        assert sorted(purged) == ["latest", "pr-1", "pr-1", "pr-2", "pr-3"]
        assert tags_of(commands) == ["v1"]

    def test_locked(self, commands: Commands) -> None:
        """Locks protect from a purge, as from everything."""
        commands.do("tag", "lock", f"{APP}:pr-1")
        assert self.purge(commands, "--tags", "pr-*", "--older-than", "2d") == ["pr-1", "pr-2"]
        assert tags_of(commands) == ["latest", "pr-1", "pr-3", "v1"]
        assert tags_of(commands, "other") == []

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            (("--older-than", "1d"), "--tags, --untagged or both"),
            (("--tags", "*"), "Missing option '--older-than'"),
            (("--tags", "*", "--older-than", "1"), "invalid duration '1'"),
            (("--tags", "a/b", "--older-than", "1d"), "invalid pattern 'a/b'"),
            (("--tags", "*", "--older-than", "1d", "--keep", "0"), "--keep"),
        ],
    )
    def test_mistakes(self, commands: Commands, options: tuple[str, ...], problem: str) -> None:
        """A command line that says too little, or nonsense, deletes nothing."""
        assert problem in commands.refused("purge", "--repository", "*", *options)
        assert "invalid pattern 'a*b'" in commands.refused(
            "purge", "--repository", "a*b", "--tags", "*", "--older-than", "1d"
        )


async def pulled(metadata: MetadataStore) -> dict[str, int | None]:
    """Return when each manifest was pulled."""
    content = await metadata.read_retained(RepositoryName(APP))
    return {found.digest: found.pulled for found in content.manifests}


class TestServer:
    """A running registry."""

    def test_background(self, data: Path, rules: str) -> None:
        """It applies the rules by itself, and says so in the log; new rules take effect."""
        Path(rules).write_text('[[repositories]]\nmatch = "*"\n')
        options = ("--rules", rules, "--retention-interval", "1", "--workers", "2")
        with running_registry(data, *options) as registry, connect(registry.url) as client:
            for number, content in enumerate((OLD, KEPT, NEW)):
                push(client, APP, content, f"pr-{number}")
            Path(rules).write_text(RULES)
            tags = f"/v2/{APP}/tags/list"
            until(lambda: client.get(tags).json()["tags"] == ["pr-2"])
            until(lambda: client.get(f"/v2/{APP}/manifests/{OLD.digest}").status_code == 404)
            assert client.get(f"/v2/{APP}/manifests/{NEW.digest}").status_code == 200
        assert "retention deleted 2 tags and 2 manifests of team/app" in registry.log

    def test_immutable(self, data: Path, rules: str) -> None:
        """An immutable tag cannot be moved or deleted; the same manifest can be pushed again."""
        with running_registry(data, "--rules", rules) as registry, connect(registry.url) as client:
            push(client, APP, OLD, "v1")
            push(client, APP, OLD, "v1")
            push(client, APP, NEW, "latest")
            detail = assert_error(put_manifest(client, APP, NEW, "v1"), 409, "DENIED")
            assert "tag v1 of repository team/app is immutable" in detail
            assert detail.endswith("; push under another tag")
            for path in (
                f"/v2/{APP}/manifests/v1",
                f"/v2/{APP}/manifests/{OLD.digest}",
            ):
                detail = assert_error(client.delete(path), 409, "DENIED")
                assert detail.endswith(
                    "; to delete it, change the rules, or use `portside tag delete`"
                )
            assert client.get(f"/v2/{APP}/manifests/v1").headers["Docker-Content-Digest"] == (
                OLD.digest
            )
            assert client.delete(f"/v2/{APP}/manifests/latest").status_code == 202

    async def test_pulls(self, data: Path) -> None:
        """Pulls are stored, at the latest when the registry stops."""
        start = now()
        both = index(NEW)

        def serve() -> None:
            with running_registry(data, "--workers", "1") as registry:
                with connect(registry.url) as client:
                    push(client, APP, OLD, "old")
                    push(client, APP, both, "both")
                    for _ in range(3):
                        assert client.get(f"/v2/{APP}/manifests/both").status_code == 200
                registry.process.send_signal(signal.SIGTERM)
                assert registry.process.wait(PATIENCE) == 0

        await asyncio.to_thread(serve)
        async with opened_side(data) as side:
            found = await pulled(side.metadata)
        assert set(found) == {OLD.digest, NEW.digest, both.digest}
        assert start < (found[both.digest] or 0) < now()
        assert found[NEW.digest] is None

    def test_pulled_just_now(self, data: Path, tmp_path: Path, rules: str) -> None:
        """Pulls that another worker has not stored yet keep their tags.

        The registry waits for them, and so does the command, which applies rules to a repository of
        its own.
        """
        asyncio.run(fill(data))
        Path(rules).write_text('[[repositories]]\nmatch = "*"\n')
        (tmp_path / "other.toml").write_text(PULLED.replace("*", "other", 1))
        options = ("--rules", rules, "--retention-interval", "1", "--workers", "4")
        with running_registry(data, *options) as registry, connect(registry.url) as client:
            for path in (f"{APP}/manifests/pr-2", "other/manifests/pr-1"):
                assert client.get(f"/v2/{path}").status_code == 200
            Path(rules).write_text(PULLED.replace("*", "team/*", 1))
            Commands(data).do("retention", "run", "--rules", str(tmp_path / "other.toml"))
            assert client.get("/v2/other/tags/list").json()["tags"] == ["pr-1"]
            tags = f"/v2/{APP}/tags/list"
            until(lambda: client.get(tags).json()["tags"] == ["latest", "pr-2", "v1"])

    def test_broken_at_the_start(self, data: Path, rules: str) -> None:
        """A registry does not start with rules that it does not understand."""
        Path(rules).write_text("[[repositories]]\nmatch = 5\n")
        code, printed, errors = run_portside("serve", "--data", str(data), "--rules", rules)
        assert (code, printed) == (1, "")
        assert f"{rules}, line 2, [[repositories]] 1, match: expected a string" in errors
