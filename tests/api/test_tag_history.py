"""The extension `_portside`: the history of tags, and the way back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.test_lists import follow
from portside.config import Settings
from support.content import Content, digest_of, image, index
from support.identities import basic, seed_identities
from support.server import running_registry
from support.wire import assert_error, connect, push, put_manifest

FIRST, SECOND = image("first"), image("second")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

pytestmark = pytest.mark.every_database


def history(client: httpx.Client, repository: str, tag: str = "v1") -> list[dict[str, Any]]:
    """Return the changes of a tag, newest first."""
    answer = client.get(f"/v2/{repository}/_portside/tags/history/{tag}")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document.pop("name"), document.pop("tag")) == (repository, tag)
    changes: list[dict[str, Any]] = document.pop("changes")
    assert document == {}
    return changes


def restore(
    client: httpx.Client,
    repository: str,
    tag: str = "v1",
    headers: dict[str, str] | None = None,
    **query: str,
) -> httpx.Response:
    """Point a tag back."""
    path = f"/v2/{repository}/_portside/tags/restore/{tag}"
    return client.post(path, params=query, headers=headers)


def points_to(client: httpx.Client, repository: str, content: Content, tag: str = "v1") -> None:
    """Find a tag at a manifest, whole."""
    answer = client.get(f"/v2/{repository}/manifests/{tag}")
    assert answer.content == content.manifest
    for blob in content.blobs:
        assert client.get(f"/v2/{repository}/blobs/{digest_of(blob)}").content == blob


@pytest.fixture
def moved(client: httpx.Client, repository: str) -> str:
    """Push a tag, move it and delete it."""
    push(client, repository, FIRST, "v1")
    push(client, repository, SECOND, "v1")
    assert client.delete(f"/v2/{repository}/manifests/v1").status_code == 202
    return repository


class TestList:
    """GET /v2/<name>/_portside/tags/history/<tag>."""

    def test_changes(self, client: httpx.Client, moved: str) -> None:
        """Each is listed with its exact time and what has become of the manifest."""
        client.delete(f"/v2/{moved}/manifests/{FIRST.digest}")
        changes = history(client, moved)
        times = [change.pop("time") for change in changes]
        assert all(map(TIME.fullmatch, times))
        assert times == sorted(times, reverse=True)
        assert changes == [
            {
                "action": action,
                "digest": content.digest,
                "identity": None,
                "manifest": state,
            }
            for action, content, state in (
                ("deleted", SECOND, "present"),
                ("set", SECOND, "present"),
                ("set", FIRST, "deleted"),
            )
        ]

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_pages(self, client: httpx.Client, moved: str, n: int) -> None:
        """Link leads through the list."""
        path = f"/v2/{moved}/_portside/tags/history/v1?n={n}"
        pages = follow(client, path, "changes")
        assert [len(page) for page in pages] == {1: [1, 1, 1], 2: [2, 1], 3: [3]}[n]
        assert [change for page in pages for change in page] == history(client, moved)

    def test_no_entries(self, client: httpx.Client, moved: str) -> None:
        """n=0 lists nothing, and a time before the first change is behind the last entry."""
        path = f"/v2/{moved}/_portside/tags/history/v1"
        for query in ({"n": "0"}, {"last": "1970-01-01T00:00:00Z"}):
            answer = client.get(path, params=query)
            assert answer.json()["changes"] == []
            assert "Link" not in answer.headers

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("n=-1", "PAGINATION_NUMBER_INVALID"),
            ("last=yesterday", "UNSUPPORTED"),
            ("last=2027-01-31T12:00:00", "UNSUPPORTED"),
            ("last=0001-01-01T00:00:00%2B12:00", "UNSUPPORTED"),
        ],
    )
    def test_mistakes(self, client: httpx.Client, moved: str, query: str, code: str) -> None:
        """A time has a zone, and both parameters are checked."""
        answer = client.get(f"/v2/{moved}/_portside/tags/history/v1?{query}")
        assert_error(answer, 400, code)

    @pytest.mark.parametrize(("name", "tag"), [("{}", "other"), ("no/such", "v1"), ("{}", "-")])
    def test_unknown(self, client: httpx.Client, moved: str, name: str, tag: str) -> None:
        """A tag that never was has no history."""
        path = f"/v2/{name.format(moved)}/_portside/tags/history/{tag}"
        assert_error(client.get(path), 404, "TAG_UNKNOWN")


class TestRestore:
    """POST /v2/<name>/_portside/tags/restore/<tag>."""

    def test_by_digest(self, client: httpx.Client, moved: str) -> None:
        """A deleted tag exists again; the answer says what was done."""
        answer = restore(client, moved, digest=FIRST.digest)
        assert answer.status_code == 200
        assert answer.json() == {
            "name": moved,
            "tag": "v1",
            "digest": FIRST.digest,
            "before": None,
            "manifests": [],
        }
        points_to(client, moved, FIRST)
        assert history(client, moved)[0]["action"] == "restored"
        again = restore(client, moved, digest=FIRST.digest).json()
        assert (again["before"], again["digest"]) == (FIRST.digest, FIRST.digest)
        assert len(history(client, moved)) == 4

    def test_by_time(self, client: httpx.Client, moved: str) -> None:
        """The time of a change is one at which the tag points to what it then pointed to."""
        deleted, second, first = (change["time"] for change in history(client, moved))
        assert restore(client, moved, at=first).json()["digest"] == FIRST.digest
        points_to(client, moved, FIRST)
        assert restore(client, moved, at=second).json()["before"] == FIRST.digest
        points_to(client, moved, SECOND)
        in_other_zone = first.replace("Z", "+00:00")
        path = f"/v2/{moved}/_portside/tags/restore/v1?at={in_other_zone}"
        assert client.post(path).json()["digest"] == FIRST.digest
        detail = assert_error(restore(client, moved, at=deleted), 404, "TAG_UNKNOWN")
        assert f"it was deleted at {deleted}" in detail
        points_to(client, moved, FIRST)
        assert_error(restore(client, moved, at="1999-01-01T00:00Z"), 404, "TAG_UNKNOWN")

    def test_a_deleted_image(self, client: httpx.Client, repository: str) -> None:
        """An index comes out of the trash with its images, and can be pulled whole."""
        child = image("child")
        both = index(child)
        push(client, repository, both, "v1")
        put_manifest(client, repository, both, "v2")
        for digest in (both.digest, child.digest):
            assert client.delete(f"/v2/{repository}/manifests/{digest}").status_code == 202
        answer = restore(client, repository, digest=both.digest)
        assert sorted(answer.json()["manifests"]) == sorted([both.digest, child.digest])
        points_to(client, repository, both)
        assert client.get(f"/v2/{repository}/manifests/{child.digest}").status_code == 200
        assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["v1"]

    def test_what_is_not_there(self, client: httpx.Client, moved: str) -> None:
        """The error says that the manifest has to be pushed again."""
        absent = digest_of(b"absent")
        detail = assert_error(restore(client, moved, digest=absent), 404, "MANIFEST_UNKNOWN")
        assert absent in detail
        assert "push it again" in detail

    def test_a_locked_tag(self, client: httpx.Client, repository: str) -> None:
        """It stays where it is."""
        push(client, repository, FIRST, "v1")
        push(client, repository, SECOND, "v1")
        locked = client.patch(
            f"/acr/v1/{repository}/_tags/v1", json={"writeEnabled": False}, auth=("any", "any")
        )
        assert locked.status_code == 200
        answer = restore(client, repository, digest=FIRST.digest)
        assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
        points_to(client, repository, SECOND)

    def test_a_condition(self, client: httpx.Client, repository: str) -> None:
        """With If-Match, a tag that was moved by somebody else is not touched."""
        push(client, repository, FIRST, "v1")
        push(client, repository, SECOND, "v1")
        expected = {"If-Match": f'"{FIRST.digest}"'}
        answer = restore(client, repository, headers=expected, digest=FIRST.digest)
        assert_error(answer, 412, "PRECONDITION_FAILED")
        expected = {"If-Match": f'"{SECOND.digest}"'}
        answer = restore(client, repository, headers=expected, digest=FIRST.digest)
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("", "UNSUPPORTED"),
            (f"digest={FIRST.digest}&at=2027-01-31T12:00:00Z", "UNSUPPORTED"),
            ("at=", "UNSUPPORTED"),
            ("at=2027-01-31", "UNSUPPORTED"),
            ("digest=sha256:1", "DIGEST_INVALID"),
        ],
        ids=range(5),
    )
    def test_mistakes(self, client: httpx.Client, moved: str, query: str, code: str) -> None:
        """Nothing is restored unless it is clear what to."""
        answer = client.post(f"/v2/{moved}/_portside/tags/restore/v1?{query}")
        assert_error(answer, 400, code)
        assert len(history(client, moved)) == 3


def test_an_immutable_tag(data: Path, tmp_path: Path) -> None:
    """What the rules keep from moving is not moved back either."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[repositories]]\nmatch = "*"\nimmutable-tags = ["v*"]\n')
    with (
        running_registry(data, "--rules", str(rules)) as registry,
        connect(registry.url) as client,
    ):
        push(client, "a", FIRST, "v1")
        push(client, "a", SECOND, "other")
        detail = assert_error(restore(client, "a", digest=SECOND.digest), 409, "DENIED")
        assert "tag v1 of repository a is immutable" in detail
        assert restore(client, "a", "other", digest=FIRST.digest).status_code == 200


@pytest.mark.parametrize("keep", ["0", "3600"])
def test_deleted_for_good(data: Path, keep: str) -> None:
    """What can no longer be restored is as good as purged, before the collector comes by."""
    with (
        running_registry(data, "--keep-deleted", keep, "--no-gc") as registry,
        connect(registry.url) as client,
    ):
        push(client, "a", FIRST, "v1")
        client.delete(f"/v2/a/manifests/{FIRST.digest}")
        state = history(client, "a")[0]["manifest"]
        answer = restore(client, "a", digest=FIRST.digest)
    assert (state, answer.status_code) == (("purged", 404) if keep == "0" else ("deleted", 200))


def test_identities(data: Path) -> None:
    """Each change has the name of who made it."""
    settings = Settings(data=str(data), password_cost=4)
    seed_identities(settings)
    with (
        running_registry(data, env={"PORTSIDE_PASSWORD_COST": "4"}) as registry,
        connect(registry.url, headers={"Authorization": basic("all")}) as client,
    ):
        push(client, "team/app", FIRST, "v1")
        client.headers["Authorization"] = basic("pushes")
        put_manifest(client, "team/app", FIRST, "v1")
        assert restore(client, "team/app", "v2", digest=FIRST.digest).status_code == 200
        client.headers["Authorization"] = basic("all")
        client.delete("/v2/team/app/manifests/v1")
        names = [change["identity"] for change in history(client, "team/app")]
        names += [change["identity"] for change in history(client, "team/app", "v2")]
    assert names == ["all", "all", "pushes"]
