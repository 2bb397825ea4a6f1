"""`portside usage`, and `portside collect --dry-run`."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from portside.cli.output import shown_size
from portside.operations.collect import ORPHANED_AGE
from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from support.commands import Commands
from support.content import Content, artifact, image
from support.copying import opened_side, push

FIRST, SECOND = image("first", layer_size=3000), image("second", layer_size=5)
SMALL, OTHER = RepositoryName("team/small"), RepositoryName("other")
SHARED, GONE = artifact("shared"), image("gone")


async def fill(data: Path) -> None:
    """Make three repositories: two share blobs, and one of them has something in the trash."""
    async with opened_side(data, "") as side:
        await push(side, "team/large", FIRST, "v1")
        await push(side, "team/large", SHARED)
        await push(side, "team/small", SHARED, "v1", "v2")
        await push(side, "team/small", GONE)
        await side.metadata.delete_manifest(SMALL, Digest(GONE.digest))
        await push(side, "other", SECOND)
        await side.metadata.delete_repository(OTHER)


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry of one test."""
    asyncio.run(fill(data))
    return Commands(data)


def blobs(*contents: Content) -> int:
    """Return the bytes of the blobs of some content."""
    return sum(len(blob) for content in contents for blob in content.blobs)


def payloads(*contents: Content) -> int:
    """Return the bytes of the manifests of some content."""
    return sum(len(content.manifest) for content in contents)


def size(*contents: Content) -> int:
    """Return the bytes of some content."""
    return blobs(*contents) + payloads(*contents)


def test_table(portside: Commands) -> None:
    """A line for each repository, the largest first, and the total, which counts blobs once."""
    header, *lines = portside.do("usage").splitlines()
    columns = "repository  manifests  tags  size  exclusive  shared  deleted  unreferenced"
    assert header.split() == columns.split()
    cells = [re.split(r" {2,}", line) for line in lines]
    assert [row[0] for row in cells] == ["team/large", "team/small", "other", "total"]
    shared = f"{blobs(SHARED)} B"
    assert cells[1] == [
        "team/small",
        "1",
        "2",
        shown_size(size(SHARED, GONE)),
        shown_size(size(GONE) + payloads(SHARED)),
        shared,
        shown_size(size(GONE)),
        "0 B",
    ]
    assert cells[0][3:] == [
        shown_size(size(FIRST, SHARED)),
        shown_size(size(FIRST) + payloads(SHARED)),
        shared,
        "0 B",
        "0 B",
    ]


def test_json(portside: Commands) -> None:
    """The same figures, exactly; the total is of what a pattern matches."""
    found = portside.json("usage")
    assert [one["name"] for one in found["repositories"]] == ["team/large", "team/small", "other"]
    assert found["total"] == {
        "manifests": 3,
        "tags": 3,
        "bytes": size(FIRST, SHARED, GONE, SECOND) + payloads(SHARED),
        "exclusive_bytes": size(FIRST, SHARED, GONE, SECOND) + payloads(SHARED),
        "shared_bytes": 0,
        "deleted_bytes": size(GONE, SECOND),
        "unreferenced_bytes": 0,
    }
    one = portside.json("usage", "--repository", "team/small")
    assert one["repositories"] == [found["repositories"][1]]
    figures = {**one["repositories"][0]}
    assert (figures.pop("name"), figures.pop("quota_bytes")) == ("team/small", None)
    assert one["total"] == figures
    team = portside.json("usage", "--repository", "team/*")
    assert team["total"]["bytes"] == size(FIRST, SHARED, GONE) + payloads(SHARED)
    assert team["total"]["shared_bytes"] == 0


def test_quotas(portside: Commands, tmp_path: Path) -> None:
    """With rules, each repository has its quota, and the share that is used of it."""
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[repositories]]\nmatch = "team/*"\nquota = "100KiB"\n'
        '[[repositories]]\nmatch = "team/small"\nquota = "200B"\n'
    )
    found = portside.json("usage", "--rules", str(rules))
    quotas = {one["name"]: one["quota_bytes"] for one in found["repositories"]}
    assert quotas == {"team/large": 100 * 1024, "team/small": 200, "other": None}
    header, *lines = portside.do("usage", "--rules", str(rules)).splitlines()
    assert header.split()[-3:] == ["unreferenced", "quota", "used"]
    cells = {row[0]: row[8:] for row in (re.split(r" {2,}", line) for line in lines)}
    large = (blobs(FIRST, SHARED) + payloads(FIRST, SHARED)) / (100 * 1024)
    small = (blobs(SHARED, GONE) + payloads(SHARED, GONE)) / 200
    assert cells["team/large"] == ["100.0 KiB", f"{large:.0%}"]
    assert cells["team/small"] == ["200 B", f"{small:.0%}"]
    assert cells["other"][0] == "none"
    rules.write_text('[[repositories]]\nmatch = "nobody"\nquota = "1KiB"\n')
    without = portside.do("usage")
    assert "quota" not in without
    assert portside.do("usage", "--rules", str(rules)) == without


def test_nothing_and_nonsense(portside: Commands) -> None:
    """A pattern that matches nothing, and what is not a pattern."""
    assert portside.do("usage", "--repository", "nobody/*") == "No repositories.\n"
    assert "invalid pattern 'a*b'" in portside.refused("usage", "--repository", "a*b")


@pytest.mark.parametrize("grace", ["0", "3600"])
@pytest.mark.parametrize("keep", ["0", "3600"])
def test_dry_run(portside: Commands, grace: str, keep: str) -> None:
    """It changes nothing, and says what the command then does, orphaned bytes included."""
    old = portside.data / "blobs" / "sha256" / "00" / ("00" * 32)
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(b"orphaned")
    probe = portside.data / "uploads" / ".probe-0"
    probe.write_bytes(b"older")
    past = probe.stat().st_mtime - ORPHANED_AGE - 1
    os.utime(probe, (past, past))
    options = ("--grace", grace, "--keep-deleted", keep)
    stored = sorted(portside.data.rglob("blobs/**/*"))
    planned = portside.do("collect", "--dry-run", *options)
    assert planned == portside.do("collect", "--dry-run", *options)
    assert sorted(portside.data.rglob("blobs/**/*")) == stored
    assert probe.exists()
    done = portside.do("collect", *options)
    assert re.findall(r"\d+", planned) == re.findall(r"\d+", done)[:4]
    manifests = 2 if keep == "0" else 0
    assert planned.startswith(f"Would purge {manifests} deleted manifest")
    assert not probe.exists()
    again = portside.do("collect", "--dry-run", *options)
    assert re.findall(r"\d+", again) == ["0"] * 4
