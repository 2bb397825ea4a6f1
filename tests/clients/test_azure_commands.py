"""What `az acr` and `acr` send is answered as they need it: lists, properties, locks and purges.

The commands themselves are not run: `az` asks Azure where a registry is, and `acr` is not published
as a package. `support.azure_cli` and `support.acr_cli` send what they send.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from support.access import ALICE, KEEPER, SWEEPER, guarded_registry
from support.acr_cli import END_OF_LIFE, LIFECYCLE, Acr
from support.azure_cli import Az, RegistryException
from support.content import Content, image
from support.server import RunningRegistry
from support.wire import connect, push

PAGE = 3


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve with access control; pages are small, as these clients ask for 100 entries."""
    data = tmp_path_factory.mktemp("commands") / "data"
    with guarded_registry(data, "--page-limit", str(PAGE)) as running:
        yield running


@pytest.fixture
def team(repository: str) -> str:
    """Name a repository in which tokens may do something."""
    return f"team/{repository}"


@pytest.fixture
def client(guarded: RunningRegistry) -> Iterator[httpx.Client]:
    """Talk to the registry as a user who may do everything, with a password in every request."""
    with connect(guarded.url, auth=ALICE.pair) as client:
        yield client


@pytest.fixture(params=["password", "token of Entra"])
def az(guarded: RunningRegistry, request: pytest.FixtureRequest) -> Iterator[Az]:
    """Return `az`, with `-u alice -p …`, or logged in to Azure."""
    is_login = request.param == "password"
    az = Az(guarded.url, **{"login": ALICE.pair} if is_login else {"entra": ALICE.text})
    yield az
    az.close()


@pytest.fixture(params=["password", "token"])
def acr(
    guarded: RunningRegistry, client: httpx.Client, request: pytest.FixtureRequest
) -> Iterator[Acr]:
    """Return `acr`: it sends the password, or a token that it got for all repositories at once."""
    if request.param == "password":
        yield Acr(client)
        return
    with connect(guarded.url) as bearer:
        exchange = {"grant_type": "access_token", "service": "x", "access_token": ALICE.text}
        refresh_token = bearer.post("/oauth2/exchange", data=exchange).json()["refresh_token"]
        answer = bearer.post(
            "/oauth2/token",
            data={
                "grant_type": "refresh_token",
                "service": "x",
                "scope": "registry:catalog:* repository:*:*",
                "refresh_token": refresh_token,
            },
        )
        bearer.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield Acr(bearer)


def push_images(client: httpx.Client, name: str, tags: str) -> dict[str, Content]:
    """Push an image for each letter, in this order."""
    images = {tag: image((name, tag)) for tag in tags}
    for tag, content in images.items():
        push(client, name, content, tag)
    return images


def test_az_lists(az: Az, client: httpx.Client, team: str) -> None:
    """`az acr` lists across pages, by name and by time, and stops at `--top`."""
    images = push_images(client, team, "cadbe")
    assert team in az.repositories()
    assert [tag["name"] for tag in az.tags(team)] == list("abcde")
    assert [tag["name"] for tag in az.tags(team, orderby="timedesc")] == list("ebdac")
    assert [tag["name"] for tag in az.tags(team, top=2, orderby="timeasc")] == list("ca")
    digests = [content.digest for content in images.values()]
    assert [item["digest"] for item in az.manifests(team)] == sorted(digests)
    assert [item["digest"] for item in az.manifests(team, orderby="timeasc")] == digests
    assert [item["tags"] for item in az.manifests(team, orderby="timeasc")] == [*map(list, "cadbe")]
    for content in images.values():
        az.delete(f"{team}@{content.digest}")
    assert az.tags(team) == []
    assert az.manifests(team) == []


def test_az_properties(az: Az, client: httpx.Client, team: str) -> None:
    """`az acr repository show|update|untag|delete` do what they say, and locks refuse them."""
    images = push_images(client, team, "abc")
    assert az.show(team)["tagCount"] == 3
    assert az.show(f"{team}:a")["digest"] == images["a"].digest
    assert az.show(f"{team}@{images['a'].digest}")["tags"] == ["a"]
    locked = az.update(f"{team}:a", deleteEnabled=False, writeEnabled=False)
    assert locked["changeableAttributes"] == {
        "deleteEnabled": False,
        "writeEnabled": False,
        "readEnabled": True,
        "listEnabled": True,
    }
    for refused in (
        lambda: az.untag(f"{team}:a"),
        lambda: az.delete(f"{team}:a"),
        lambda: az.delete(f"{team}@{images['a'].digest}"),
        lambda: az.delete(team),
    ):
        with pytest.raises(RegistryException) as caught:
            refused()
        assert caught.value.status == 405
    az.update(f"{team}:a", deleteEnabled=True, writeEnabled=True)
    az.untag(f"{team}:a")
    az.delete(f"{team}:b")
    for unknown in (f"{team}:a", f"{team}:b", f"{team}@{images['b'].digest}"):
        with pytest.raises(RegistryException) as caught:
            az.show(unknown)
        assert caught.value.status == 404
    deleted = az.delete(team)
    assert deleted["tagsDeleted"] == ["c"]
    assert sorted(deleted["manifestsDeleted"]) == sorted(images[tag].digest for tag in "ac")


def test_az_undo(az: Az, client: httpx.Client, team: str) -> None:
    """`az acr … list-deleted` and `restore` find and bring back what was deleted, across pages."""
    images = push_images(client, team, "abcd")
    for tag in "bcad":
        az.delete(f"{team}:{tag}")
    digests = [images[tag].digest for tag in "bcad"]
    assert [item["digest"] for item in az.deleted_manifests(team)] == digests
    deleted = az.deleted_tags(team)
    assert [item["tag"] for item in deleted] == list("bcad")
    assert [item["digest"] for item in deleted] == digests
    assert all(item["createdAt"] < item["deletedAt"] for item in deleted)
    assert az.restore(f"{team}:a") == {"digest": images["a"].digest, "tag": "a"}
    assert client.get(f"/v2/{team}/manifests/a").content == images["a"].manifest
    # A tag that was pushed again is moved by force alone.
    push(client, team, images["c"], "b")
    with pytest.raises(RegistryException) as caught:
        az.restore(f"{team}:b")
    assert caught.value.status == 409
    assert az.restore(f"{team}:b", force=True)["digest"] == images["b"].digest
    assert az.restore(team, images["d"].digest) == {"digest": images["d"].digest, "tag": None}
    assert client.get(f"/v2/{team}/tags/list").json()["tags"] == list("abd")
    az.untag(f"{team}:a")
    assert [item["tag"] for item in az.deleted_tags(f"{team}:a")] == ["a"]
    assert az.restore(f"{team}:a")["digest"] == images["a"].digest
    with pytest.raises(RegistryException) as caught:
        az.restore(f"{team}:a", f"sha256:{'0' * 64}", force=True)
    assert caught.value.status == 404


def test_az_undo_of_a_repository(az: Az, client: httpx.Client, team: str) -> None:
    """A deleted repository is listed, and its images come back one by one."""
    images = push_images(client, team, "ab")
    az.delete(team)
    (found,) = (item for item in az.deleted_repositories() if item["repository"] == team)
    assert found.keys() == {"createdAt", "deletedAt", "repository"}
    assert {item["digest"] for item in az.deleted_manifests(team)} == {
        content.digest for content in images.values()
    }
    az.restore(f"{team}:b")
    assert client.get(f"/v2/{team}/manifests/b").content == images["b"].manifest
    assert team not in [item["repository"] for item in az.deleted_repositories()]
    assert [item["digest"] for item in az.deleted_manifests(team)] == [images["a"].digest]


def test_az_may_not_restore(guarded: RunningRegistry, client: httpx.Client, team: str) -> None:
    """To restore takes what a push takes: who may only delete is refused."""
    push_images(client, team, "a")
    az = Az(guarded.url, login=SWEEPER.pair)
    az.delete(f"{team}:a")
    assert [item["tag"] for item in az.deleted_tags(team)] == ["a"]
    with pytest.raises(RegistryException) as caught:
        az.restore(f"{team}:a")
    assert caught.value.status == 401
    assert client.get(f"/v2/{team}/tags/list").status_code == 200
    az.close()


def test_az_login(guarded: RunningRegistry, client: httpx.Client, team: str) -> None:
    """The token that `az acr login --expose-token` prints is a password."""
    content = push_images(client, team, "a")["a"]
    az = Az(guarded.url, entra=ALICE.text)
    name, password = az.login()
    az.close()
    with connect(guarded.url, auth=(name, password)) as docker:
        scope = f"repository:{team}:pull"
        answer = docker.get("/oauth2/token", params={"service": "x", "scope": scope})
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    with connect(guarded.url, headers=bearer) as docker:
        assert docker.get(f"/v2/{team}/manifests/a").content == content.manifest


def test_acr_lists(acr: Acr, client: httpx.Client, team: str) -> None:
    """`acr tag|manifest list` ask until there is null; deleting gives the statuses they take."""
    images = push_images(client, team, "abcdef")
    assert [tag["name"] for tag in acr.tags(team)] == list("abcdef")
    digests = sorted(content.digest for content in images.values())
    assert [manifest["digest"] for manifest in acr.manifests(team)] == digests
    assert acr.delete_tag(team, "a") == 202
    assert acr.delete_tag(team, "a") == 404
    assert acr.delete_manifest(team, images["b"].digest) == 202
    assert acr.delete_manifest(team, images["b"].digest) == 404
    assert [tag["name"] for tag in acr.tags(team)] == list("cdef")


def test_purge(acr: Acr, client: httpx.Client, team: str) -> None:
    """Everything goes across pages, though each page is deleted before the next is asked for."""
    images = push_images(client, team, "abcdefgh")
    purged = acr.purge(team, ".*")
    assert purged.tags == list("hgfedcba")
    assert purged.manifests == sorted(content.digest for content in images.values())
    assert purged.kept == []
    assert acr.purge(team, ".*") == type(purged)([], [], [])


@pytest.mark.parametrize(
    ("kind", "lock"),
    [
        ("tag", "deleteEnabled"),
        ("tag", "writeEnabled"),
        ("tag and manifest", "deleteEnabled"),
        ("tag and manifest", "writeEnabled"),
        ("repository", "writeEnabled"),
    ],
)
def test_locked_release(
    guarded: RunningRegistry, client: httpx.Client, team: str, kind: str, lock: str
) -> None:
    """A locked release survives every purge, of whoever may delete; the rest goes."""
    release = push_images(client, team, "abcdr")["r"]
    paths = {
        "tag": ["/_tags/r"],
        "tag and manifest": ["/_tags/r", f"/_manifests/{release.digest}"],
        "repository": [""],
    }
    for path in paths[kind]:
        answer = client.patch(f"/acr/v1/{team}{path}", json={lock: False})
        assert answer.status_code == 200
    with connect(guarded.url, auth=KEEPER.pair) as keeper:
        for purger in (Acr(keeper), Acr(client)):
            for pattern in ("^r$", ".*"):
                assert "r" in purger.purge(team, pattern).kept
    for reference in ("r", release.digest):
        assert client.get(f"/v2/{team}/manifests/{reference}").content == release.manifest
    left = [tag["name"] for tag in Acr(client).tags(team)]
    assert left == (list("abcdr") if kind == "repository" else ["r"])


def test_may_not_unlock(guarded: RunningRegistry, client: httpx.Client, team: str) -> None:
    """`--include-locked` fails for a token that may delete, but not write properties."""
    release = push_images(client, team, "r")["r"]
    client.patch(f"/acr/v1/{team}/_tags/r", json={"deleteEnabled": False})
    with connect(guarded.url, auth=SWEEPER.pair) as sweeper:
        with pytest.raises(AssertionError, match="401"):
            Acr(sweeper).purge(team, ".*", unlock=True)
        assert Acr(sweeper).purge(team, ".*").kept == ["r"]
    assert client.get(f"/v2/{team}/manifests/r").content == release.manifest


def test_purge_of_locked(acr: Acr, client: httpx.Client, team: str) -> None:
    """`--include-locked` unlocks first, for whoever may."""
    images = push_images(client, team, "ab")
    for path in ("_tags/a", f"_manifests/{images['b'].digest}"):
        client.patch(f"/acr/v1/{team}/{path}", json={"deleteEnabled": False})
    assert acr.purge(team, ".*", unlock=True).kept == []
    assert client.get(f"/acr/v1/{team}").json()["manifestCount"] == 0


def test_annotate(acr: Acr, client: httpx.Client, team: str) -> None:
    """`acr annotate` adds an artifact that refers to the manifest."""
    content = push_images(client, team, "a")["a"]
    digest = acr.annotate(team, content.digest, "2026-11-28T00:00:00Z")
    (referrer,) = client.get(f"/v2/{team}/referrers/{content.digest}").json()["manifests"]
    assert (referrer["digest"], referrer["artifactType"]) == (digest, LIFECYCLE)
    assert referrer["annotations"] == {END_OF_LIFE: "2026-11-28T00:00:00Z"}
