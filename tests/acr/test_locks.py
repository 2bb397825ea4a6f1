"""Locks over HTTP: what each refuses to whoever asks, under /v2 and /acr/v1, and what it hides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.content import artifact, digest_of, image, index
from support.server import RunningRegistry, running_registry
from support.wire import (
    assert_error,
    connect,
    open_upload,
    push,
    push_blob,
    put_manifest,
    raw_request,
)

FIRST, SECOND = image("first"), image("second")
FREE, THERE = b"a blob that no manifest needs", b"a blob of another repository"
FREE_DIGEST, THERE_DIGEST = digest_of(FREE), digest_of(THERE)
OTHER = "locks/other"

Operation = Callable[[httpx.Client, str], httpx.Response]


ANY = ("any", "credentials")
"""What an open registry accepts."""


def finish(client: httpx.Client, repository: str) -> httpx.Response:
    """Finish an upload that was opened before the repository was locked."""
    location = SESSIONS[repository]
    return client.put(location, params={"digest": digest_of(b"late")}, content=b"te")


def append(client: httpx.Client, repository: str) -> httpx.Response:
    """Send a chunk of an upload that was opened before the repository was locked."""
    return client.patch(SESSIONS[repository], content=b"la")


SESSIONS: dict[str, str] = {}
"""An open upload session of each repository."""

OPERATIONS: dict[str, Operation] = {
    "push": lambda client, name: put_manifest(client, name, SECOND, "v1"),
    "push again": lambda client, name: put_manifest(client, name, FIRST, "v1"),
    "push another tag": lambda client, name: put_manifest(client, name, SECOND, "v2"),
    "push a new tag": lambda client, name: put_manifest(client, name, FIRST, "v3"),
    "push by digest": lambda client, name: put_manifest(client, name, FIRST),
    "start upload": lambda client, name: client.post(f"/v2/{name}/blobs/uploads/"),
    "push blob": lambda client, name: client.post(
        f"/v2/{name}/blobs/uploads/", params={"digest": digest_of(b"new")}, content=b"new"
    ),
    "append": append,
    "finish upload": finish,
    "mount here": lambda client, name: client.post(
        f"/v2/{name}/blobs/uploads/", params={"mount": THERE_DIGEST, "from": OTHER}
    ),
    "mount elsewhere": lambda client, name: client.post(
        f"/v2/{OTHER}/blobs/uploads/", params={"mount": FREE_DIGEST, "from": name}
    ),
    "pull tag": lambda client, name: client.get(f"/v2/{name}/manifests/v1"),
    "pull another tag": lambda client, name: client.get(f"/v2/{name}/manifests/v2"),
    "pull manifest": lambda client, name: client.get(f"/v2/{name}/manifests/{FIRST.digest}"),
    "head manifest": lambda client, name: client.head(f"/v2/{name}/manifests/{FIRST.digest}"),
    "pull blob": lambda client, name: client.get(f"/v2/{name}/blobs/{FREE_DIGEST}"),
    "head blob": lambda client, name: client.head(f"/v2/{name}/blobs/{FREE_DIGEST}"),
    "untag": lambda client, name: client.delete(f"/v2/{name}/manifests/v1"),
    "delete tag": lambda client, name: client.delete(f"/acr/v1/{name}/_tags/v1"),
    "delete another tag": lambda client, name: client.delete(f"/acr/v1/{name}/_tags/v2"),
    "delete manifest": lambda client, name: client.delete(f"/v2/{name}/manifests/{FIRST.digest}"),
    "delete another manifest": lambda client, name: client.delete(
        f"/v2/{name}/manifests/{SECOND.digest}"
    ),
    "delete blob": lambda client, name: client.delete(f"/v2/{name}/blobs/{FREE_DIGEST}"),
    "delete repository": lambda client, name: client.delete(f"/acr/v1/{name}"),
}
"""Operations in an order in which each one still finds what it needs."""

PUSHES = [
    *("push", "push again", "push another tag", "push a new tag", "push by digest"),
    *("start upload", "push blob", "append", "finish upload", "mount here"),
]
PULLS = ["pull tag", "pull another tag", "pull manifest", "head manifest", "pull blob", "head blob"]
OF_TAG = ["untag", "delete tag", "delete manifest", "delete repository"]
DELETES = [*OF_TAG, "delete another tag", "delete another manifest", "delete blob"]

REFUSED: dict[tuple[str, str], list[str]] = {
    ("repository", "writeEnabled"): [*PUSHES, *DELETES],
    ("repository", "deleteEnabled"): ["delete repository"],
    ("repository", "readEnabled"): PULLS,
    ("repository", "listEnabled"): [],
    ("tag", "writeEnabled"): ["push", "push again", *OF_TAG],
    ("tag", "deleteEnabled"): OF_TAG,
    ("tag", "readEnabled"): ["pull tag"],
    ("tag", "listEnabled"): [],
    ("manifest", "writeEnabled"): ["delete manifest", "delete repository"],
    ("manifest", "deleteEnabled"): ["delete manifest", "delete repository"],
    ("manifest", "readEnabled"): ["pull tag", "pull manifest", "head manifest"],
    ("manifest", "listEnabled"): [],
}
"""What each lock refuses, written down by hand: `v1` points to the manifest, `v2` to another."""

NAMED = {
    "repository": "repository {name}",
    "tag": "tag v1 of ",
    "manifest": f"manifest {FIRST.digest} of repository {{name}}",
}
PATHS = {"repository": "", "tag": "/_tags/v1", "manifest": f"/_manifests/{FIRST.digest}"}

pytestmark = pytest.mark.every_database


def fill(client: httpx.Client, name: str) -> None:
    """Push all that the operations are about."""
    for content, tag in ((FIRST, "v1"), (SECOND, "v2")):
        push(client, name, content, tag)
    push_blob(client, name, FREE)
    push_blob(client, OTHER, THERE)
    SESSIONS[name] = open_upload(client, name)


@pytest.mark.parametrize(("place", "flag"), REFUSED)
def test_refusals(client: httpx.Client, repository: str, place: str, flag: str) -> None:
    """A lock refuses what it should, whoever asks, and says what is locked; the rest goes on."""
    fill(client, repository)
    path = f"/acr/v1/{repository}{PATHS[place]}"
    refused = REFUSED[place, flag]
    assert client.patch(path, json={flag: False}).status_code == 200
    for operation in refused:
        answer = OPERATIONS[operation](client, repository)
        assert answer.status_code == 405, operation
        if answer.request.method != "HEAD":
            detail = assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
            assert NAMED[place].format(name=repository) in detail, operation
            assert f"repository {repository} is locked" in detail
            assert f"{flag} is false" in detail
    if flag == "readEnabled" and place == "repository":
        assert OPERATIONS["mount elsewhere"](client, repository).status_code == 202
    for operation, run in OPERATIONS.items():
        if operation not in refused and operation != "delete repository":
            answer = run(client, repository)
            allowed = {200, 201, 202} | ({404} if operation in DELETES else set())
            assert answer.status_code in allowed, (operation, answer.text)
    answer = client.patch(path, json={flag: True})
    if answer.status_code == 200:
        assert client.delete(f"/acr/v1/{repository}").status_code == 202


def entries(client: httpx.Client, path: str, key: str, field: str = "") -> list[Any]:
    """Read a list."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return [item[field] if field else item for item in answer.json()[key] or ()]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_is_refused_before_its_bytes(
    registry: RunningRegistry, client: httpx.Client, repository: str, *, chunked: bool
) -> None:
    """A client that waits for a 100 sends nothing of a chunk for a locked repository."""
    push_blob(client, repository, FREE)
    location = open_upload(client, repository)
    lock = f"/acr/v1/{repository}"
    assert client.patch(lock, json={"writeEnabled": False}).status_code == 200
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {10**12}"
    for method, query in (("PATCH", ""), ("PUT", f"?digest={FREE_DIGEST}")):
        status, _ = raw_request(
            registry.host,
            registry.port,
            method,
            f"{location}{query}".encode(),
            f"{length}\r\nExpect: 100-continue\r\n",
        )
        assert status == 405
    assert client.get(location).status_code == 204
    assert client.patch(lock, json={"writeEnabled": True}).status_code == 200
    digest = digest_of(b"unlocked")
    finished = client.put(location, params={"digest": digest}, content=b"unlocked")
    assert finished.status_code == 201


class TestLists:
    """listEnabled."""

    def test_tag(self, client: httpx.Client, repository: str) -> None:
        """A hidden tag is in no list, and can be had by name."""
        fill(client, repository)
        hidden = f"/acr/v1/{repository}/_tags/v1"
        assert client.patch(hidden, json={"listEnabled": False}).status_code == 200
        assert entries(client, f"/v2/{repository}/tags/list", "tags") == ["v2"]
        for query in ("", "?orderby=timeasc", "?orderby=timedesc"):
            found = entries(client, f"/acr/v1/{repository}/_tags{query}", "tags", "name")
            assert found == ["v2"]
        of_manifest = f"/acr/v1/{repository}/_tags?digest={FIRST.digest}"
        assert entries(client, of_manifest, "tags") == []
        manifest = client.get(f"/acr/v1/{repository}/_manifests/{FIRST.digest}").json()
        assert "tags" not in manifest["manifest"]
        assert client.get(hidden).json()["tag"]["digest"] == FIRST.digest
        assert client.get(f"/v2/{repository}/manifests/v1").content == FIRST.manifest
        assert client.get(f"/acr/v1/{repository}").json()["tagCount"] == 2

    def test_manifest(self, client: httpx.Client, repository: str) -> None:
        """A hidden manifest is in no list of manifests or referrers, and can be had by digest."""
        subject = image(repository)
        referrer = artifact(repository, subject=subject.descriptor)
        for content in (subject, referrer):
            push(client, repository, content)
        hidden = f"/acr/v1/{repository}/_manifests/{referrer.digest}"
        assert client.patch(hidden, json={"listEnabled": False}).status_code == 200
        for query in ("", "?orderby=timeasc", "?orderby=timedesc"):
            path = f"/acr/v1/{repository}/_manifests{query}"
            assert entries(client, path, "manifests", "digest") == [subject.digest]
        path = f"/v2/{repository}/referrers/{subject.digest}"
        assert entries(client, path, "manifests") == []
        assert client.get(hidden).status_code == 200
        assert client.get(f"/v2/{repository}/manifests/{referrer.digest}").status_code == 200

    def test_repository(self, client: httpx.Client, repository: str) -> None:
        """A hidden repository is in no catalog; what is in it can be listed by its name."""
        for name in ("a", "b"):
            push(client, f"{repository}/{name}", image(name), "v1")
        hidden = f"/acr/v1/{repository}/a"
        assert client.patch(hidden, json={"listEnabled": False}).status_code == 200
        for catalog in ("/v2/_catalog", "/acr/v1/_catalog"):
            listed = entries(client, f"{catalog}?last={repository}&n=1", "repositories")
            assert listed == [f"{repository}/b"]
        assert entries(client, f"{hidden}/_tags", "tags", "name") == ["v1"]
        assert entries(client, f"/v2/{repository}/a/tags/list", "tags") == ["v1"]
        assert client.get(hidden).json()["changeableAttributes"]["listEnabled"] is False


class TestPurge:
    """What deletes much at once."""

    @pytest.mark.parametrize("place", ["tag", "manifest"])
    @pytest.mark.parametrize("flag", ["writeEnabled", "deleteEnabled"])
    def test_repository(self, client: httpx.Client, repository: str, place: str, flag: str) -> None:
        """A repository with one locked tag or manifest is not deleted, nor is anything in it."""
        fill(client, repository)
        lock = f"/acr/v1/{repository}{PATHS[place]}"
        assert client.patch(lock, json={flag: False}).status_code == 200
        before = client.get(f"/acr/v1/{repository}").json()
        answer = client.delete(f"/acr/v1/{repository}")
        detail = assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
        assert NAMED[place].format(name=repository) in detail
        assert client.get(f"/acr/v1/{repository}").json() == before
        blob = digest_of(FIRST.blobs[0])
        assert client.head(f"/v2/{repository}/blobs/{blob}").status_code == 200

    def test_a_moved_tag_stays_locked(self, client: httpx.Client, repository: str) -> None:
        """A tag that cannot be deleted can be moved, and cannot be deleted then."""
        fill(client, repository)
        tag = f"/acr/v1/{repository}/_tags/v1"
        assert client.patch(tag, json={"deleteEnabled": False}).status_code == 200
        assert put_manifest(client, repository, SECOND, "v1").status_code == 201
        assert client.delete(tag).status_code == 405
        assert client.delete(f"/v2/{repository}/manifests/{SECOND.digest}").status_code == 405
        assert client.delete(f"/v2/{repository}/manifests/{FIRST.digest}").status_code == 202

    def test_two_flags(self, client: httpx.Client, repository: str) -> None:
        """A refusal names every flag that forbids the operation."""
        fill(client, repository)
        tag = f"/acr/v1/{repository}/_tags/v1"
        client.patch(tag, json={"deleteEnabled": False, "writeEnabled": False})
        detail = assert_error(client.delete(tag), 405, "REGISTRY_DISALLOWED_OPERATION")
        assert "deleteEnabled and writeEnabled are false" in detail

    def test_children(self, client: httpx.Client, repository: str) -> None:
        """Locking an index locks nothing that it lists; the index itself needs that anyway."""
        content = index(FIRST, SECOND)
        push(client, repository, content, "all")
        lock = f"/acr/v1/{repository}/_manifests/{content.digest}"
        assert client.patch(lock, json={"deleteEnabled": False}).status_code == 200
        child = client.delete(f"/v2/{repository}/manifests/{FIRST.digest}")
        assert_error(child, 405, "UNSUPPORTED")


def test_locks_outlive_a_restart(data: Any) -> None:
    """Locks are stored, and hold for everybody."""
    with running_registry(data) as registry, connect(registry.url, auth=ANY) as client:
        push(client, "a", FIRST, "v1")
        assert client.patch("/acr/v1/a/_tags/v1", json={"writeEnabled": False}).status_code == 200
    with running_registry(data) as registry, connect(registry.url, auth=ANY) as client:
        assert client.delete("/acr/v1/a/_tags/v1").status_code == 405
