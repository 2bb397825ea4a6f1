"""Random sequences of calls to the real server, compared with a simple model."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    multiple,
    rule,
    run_state_machine_as_test,
)

from support.content import Content, artifact, digest_of, image, index, make_blob
from support.homes import DISK
from support.server import RunningRegistry
from support.wire import ANYBODY, connect

REPOSITORIES = ("one", "two/three")
TAGS = ("v1", "v2", "latest")
BLOBS = [make_blob(size, size) for size in (0, 1, 200, 3000)]
IMAGES = [image(number, layers=2, layer_size=50) for number in range(3)]
SUBJECT = IMAGES[0]
ARTIFACTS = [artifact(number, subject=SUBJECT.descriptor) for number in range(2)]
INDEXES = [index(IMAGES[0], IMAGES[1]), index(*ARTIFACTS)]
MANIFESTS = [*IMAGES, *ARTIFACTS, *INDEXES]
ALL_BLOBS = [*BLOBS, *(blob for content in MANIFESTS for blob in content.blobs)]

FLAGS = ("deleteEnabled", "writeEnabled", "readEnabled", "listEnabled")
ON_DELETE = ("deleteEnabled", "writeEnabled")
"""Either of these, if it is false, forbids deleting."""

Place = tuple[str, str]
"""What can be locked: a kind, and the name of a tag or the digest of a manifest."""

REPOSITORY: Place = ("repository", "")

repositories = st.sampled_from(REPOSITORIES)
blobs = st.sampled_from(ALL_BLOBS)
manifests = st.sampled_from(MANIFESTS)
tags = st.sampled_from(TAGS)
places = st.one_of(
    st.just(REPOSITORY),
    st.tuples(st.just("tag"), tags),
    st.tuples(st.just("manifest"), st.sampled_from([content.digest for content in MANIFESTS])),
)


# The model knows nothing of stores: whatever keeps the registry has to look the same.
pytestmark = pytest.mark.every_home


class Repository:
    """What the model knows of one repository."""

    def __init__(self) -> None:
        self.blobs: set[str] = set()
        self.manifests: dict[str, Content] = {}
        self.tags: dict[str, str] = {}
        self.exists = False
        self.was_deleted = False
        self.locks: dict[Place, set[str]] = {}
        self.pushed: list[Place] = []

    def is_locked(self, place: Place, *flags: str) -> bool:
        """Whether one of some attributes is false."""
        return not self.locks.get(place, set()).isdisjoint(flags)

    @property
    def is_write_locked(self) -> bool:
        """Whether nothing may be written."""
        return self.is_locked(REPOSITORY, "writeEnabled")

    def push(self, *places: Place) -> None:
        """Note that tags and manifests are the newest ones."""
        self.pushed = [place for place in self.pushed if place not in places]
        self.pushed += places

    def forget(self, *places: Place) -> None:
        """Note that tags and manifests were deleted."""
        self.pushed = [place for place in self.pushed if place not in places]
        for place in places:
            self.locks.pop(place, None)
            if place[0] == "tag":
                del self.tags[place[1]]
            else:
                del self.manifests[place[1]]

    def listed(self, kind: str) -> list[str]:
        """List tags or manifests that may be listed, the oldest first."""
        return [
            name
            for place in self.pushed
            for found, name in [place]
            if found == kind and not self.is_locked(place, "listEnabled")
        ]

    def holds(self, place: Place) -> bool:
        """Whether the repository, or a tag or a manifest in it, is there."""
        return place in self.pushed if place != REPOSITORY else self.exists


class Session:
    """What the model knows of one upload session."""

    def __init__(self, repository: str, location: str) -> None:
        self.repository = repository
        self.location = location
        self.content = b""


class RegistryModel(RuleBasedStateMachine):
    """Each rule makes one call, and says what the answer has to be."""

    client: httpx.Client
    sessions: Bundle[Session] = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"model/{uuid.uuid4().hex}"
        self.model = {name: Repository() for name in REPOSITORIES}

    def path(self, repository: str, rest: str) -> str:
        """Name something in a repository of this run."""
        return f"/v2/{self.prefix}/{repository}/{rest}"

    def link(self, repository: str, content: bytes) -> None:
        """Note that a blob was linked."""
        known = self.model[repository]
        known.blobs.add(digest_of(content))
        known.exists = known.exists or not known.was_deleted

    @rule(repository=repositories, content=blobs)
    def push_at_once(self, repository: str, content: bytes) -> None:
        answer = self.client.post(
            self.path(repository, "blobs/uploads/"),
            params={"digest": digest_of(content)},
            content=content,
        )
        if self.is_refused(answer, repository):
            return
        assert answer.status_code == 201
        self.link(repository, content)

    def is_refused(self, answer: httpx.Response, repository: str) -> bool:
        """Whether a repository takes no writes now, which the answer says as well."""
        if not self.model[repository].is_write_locked:
            return False
        assert answer.status_code == 405
        assert answer.json()["errors"][0]["code"] == "REGISTRY_DISALLOWED_OPERATION"
        return True

    @rule(repository=repositories, content=manifests)
    def push_what_a_manifest_needs(self, repository: str, content: Content) -> None:
        for blob in content.blobs:
            self.push_at_once(repository, blob)
        for child in content.children:
            self.push_what_a_manifest_needs(repository, child)
            self.push_manifest(repository, child, None)

    @rule(target=sessions, repository=repositories)
    def open(self, repository: str) -> Any:
        answer = self.client.post(self.path(repository, "blobs/uploads/"))
        if self.is_refused(answer, repository):
            return multiple()
        assert answer.status_code == 202
        return Session(repository, answer.headers["Location"])

    @rule(session=sessions, piece=st.binary(max_size=20), shift=st.integers(-1, 1))
    def append(self, session: Session, piece: bytes, shift: int) -> None:
        start = len(session.content) + shift
        headers = {}
        if shift or piece:
            headers["Content-Range"] = f"{max(start, 0)}-{max(start, 0) + max(len(piece) - 1, 0)}"
        answer = self.client.patch(session.location, content=piece, headers=headers)
        if not headers or (piece and max(start, 0) == len(session.content)):
            assert answer.status_code == 202
            session.content += piece
        else:
            assert answer.status_code in {400, 416}
        self.ask(session)

    @rule(session=sessions)
    def ask(self, session: Session) -> None:
        answer = self.client.get(session.location)
        assert answer.status_code == 204
        assert answer.headers["Range"] == f"0-{max(len(session.content) - 1, 0)}"

    @rule(session=sessions, content=blobs)
    def finish_wrongly(self, session: Session, content: bytes) -> None:
        wrong = {"digest": digest_of(content + b"wrong")}
        answer = self.client.put(session.location, params=wrong, content=content)
        locked = self.model[session.repository].is_write_locked
        assert answer.status_code in ({400, 405} if locked else {400})
        self.ask(session)

    @rule(session=consumes(sessions), last=st.binary(max_size=20))
    def finish(self, session: Session, last: bytes) -> None:
        content = session.content + last
        query = {"digest": digest_of(content)}
        answer = self.client.put(session.location, params=query, content=last)
        if self.is_refused(answer, session.repository):
            assert self.client.delete(session.location).status_code == 204
            return
        assert answer.status_code == 201
        self.link(session.repository, content)
        pulled = self.client.get(answer.headers["Location"])
        if self.model[session.repository].is_locked(REPOSITORY, "readEnabled"):
            assert pulled.status_code == 405
        else:
            assert pulled.content == content
        assert self.client.get(session.location).status_code == 404

    @rule(session=consumes(sessions))
    def cancel(self, session: Session) -> None:
        assert self.client.delete(session.location).status_code == 204
        assert self.client.patch(session.location, content=b"x").status_code == 404

    @rule(repository=repositories, source=repositories, content=blobs)
    def mount(self, repository: str, source: str, content: bytes) -> None:
        digest = digest_of(content)
        query = {"mount": digest, "from": f"{self.prefix}/{source}"}
        answer = self.client.post(self.path(repository, "blobs/uploads/"), params=query)
        if self.is_refused(answer, repository):
            return
        from_it = self.model[source]
        if digest in from_it.blobs and not from_it.is_locked(REPOSITORY, "readEnabled"):
            assert answer.status_code == 201
            self.link(repository, content)
        else:
            assert answer.status_code == 202
            assert self.client.delete(answer.headers["Location"]).status_code == 204

    @rule(repository=repositories, content=blobs)
    def pull_blob(self, repository: str, content: bytes) -> None:
        path = self.path(repository, f"blobs/{digest_of(content)}")
        known = digest_of(content) in self.model[repository].blobs
        locked = self.model[repository].is_locked(REPOSITORY, "readEnabled")
        answer = self.client.get(path)
        assert answer.status_code == (404 if not known else 405 if locked else 200)
        assert self.client.head(path).status_code == answer.status_code
        assert not known or locked or answer.content == content

    @rule(repository=repositories, content=blobs)
    def delete_blob(self, repository: str, content: bytes) -> None:
        known = self.model[repository]
        digest = digest_of(content)
        used = any(content in held.blobs for held in known.manifests.values())
        expected = 404 if digest not in known.blobs else 405 if used else 202
        answer = self.client.delete(self.path(repository, f"blobs/{digest}"))
        if self.is_refused(answer, repository):
            return
        assert answer.status_code == expected
        if expected == 202:
            known.blobs.discard(digest)

    @rule(repository=repositories, content=manifests, tag=st.none() | tags)
    def push_manifest(self, repository: str, content: Content, tag: str | None) -> None:
        known = self.model[repository]
        missing = sum(digest_of(blob) not in known.blobs for blob in set(content.blobs))
        missing += sum(child.digest not in known.manifests for child in content.children)
        answer = self.client.put(
            self.path(repository, f"manifests/{tag or content.digest}"),
            content=content.manifest,
            headers={"Content-Type": content.media_type},
        )
        if self.is_refused(answer, repository):
            return
        if tag and known.is_locked(("tag", tag), "writeEnabled"):
            assert answer.status_code == 405
            return
        if missing:
            assert answer.status_code == 400
            assert len(answer.json()["errors"]) == missing
            return
        assert answer.status_code == 201
        known.exists, known.was_deleted = True, False
        known.manifests[content.digest] = content
        known.push(("manifest", content.digest))
        if tag:
            known.tags[tag] = content.digest
            known.push(("tag", tag))

    @rule(repository=repositories, tag=tags)
    def pull_tag(self, repository: str, tag: str) -> None:
        known = self.model[repository]
        answer = self.client.get(self.path(repository, f"manifests/{tag}"))
        if tag not in known.tags:
            assert answer.status_code == 404
            return
        digest = known.tags[tag]
        if any(
            known.is_locked(place, "readEnabled")
            for place in (REPOSITORY, ("tag", tag), ("manifest", digest))
        ):
            assert answer.status_code == 405
        else:
            assert answer.content == known.manifests[digest].manifest

    @rule(repository=repositories, tag=tags, acr=st.booleans())
    def delete_tag(self, repository: str, tag: str, *, acr: bool) -> None:
        known, place = self.model[repository], ("tag", tag)
        path = self.path(repository, f"manifests/{tag}")
        answer = self.client.delete(self.acr(repository, place) if acr else path)
        locked = known.is_write_locked or known.is_locked(place, *ON_DELETE)
        expected = 404 if not known.holds(place) else 405 if locked else 202
        assert answer.status_code == expected
        if expected == 202:
            known.forget(place)

    @rule(repository=repositories, content=manifests)
    def delete_manifest(self, repository: str, content: Content) -> None:
        known = self.model[repository]
        listed = any(content in held.children for held in known.manifests.values())
        gone: list[Place] = [("manifest", content.digest)]
        gone += [("tag", tag) for tag, digest in known.tags.items() if digest == content.digest]
        locked = known.is_write_locked or any(known.is_locked(place, *ON_DELETE) for place in gone)
        expected = 404 if not known.holds(gone[0]) else 405 if listed or locked else 202
        answer = self.client.delete(self.path(repository, f"manifests/{content.digest}"))
        assert answer.status_code == expected
        if expected == 202:
            known.forget(*gone)

    def acr(self, repository: str, place: Place = REPOSITORY) -> str:
        """Name something in a repository of this run, as ACR's SDKs do."""
        kind, name = place
        path = f"/acr/v1/{quote(f'{self.prefix}/{repository}', safe='')}"
        return path if place == REPOSITORY else f"{path}/_{kind}s/{quote(name, safe='')}"

    @rule(repository=repositories, content=manifests, tag=tags)
    def push_all(self, repository: str, content: Content, tag: str) -> None:
        self.push_what_a_manifest_needs(repository, content)
        self.push_manifest(repository, content, tag)

    @rule(
        repository=repositories,
        absent=places,
        choice=st.integers(0, 20),
        flags=st.sets(st.sampled_from(FLAGS), min_size=1),
        enabled=st.booleans(),
    )
    def lock(
        self, repository: str, absent: Place, choice: int, flags: set[str], *, enabled: bool
    ) -> None:
        # The newest first, as most draws are small.
        candidates = [*reversed(self.model[repository].pushed), REPOSITORY, absent]
        place = candidates[choice % len(candidates)]
        self.change(repository, place, dict.fromkeys(flags, enabled))

    @rule(repository=repositories)
    def unlock(self, repository: str) -> None:
        for place in list(self.model[repository].locks) or [REPOSITORY]:
            self.change(repository, place, dict.fromkeys(FLAGS, True))

    def change(self, repository: str, place: Place, change: dict[str, bool]) -> None:
        """Change the locks of something, which may not be there."""
        known = self.model[repository]
        answer = self.client.patch(self.acr(repository, place), json=change)
        if not known.holds(place):
            assert answer.status_code == 404
            return
        locks = known.locks.setdefault(place, set())
        for flag, enabled in change.items():
            (locks.discard if enabled else locks.add)(flag)
        assert answer.status_code == 200
        assert answer.json() == self.properties(repository, place)
        self.try_what_is_locked(repository, place)

    def try_what_is_locked(self, repository: str, place: Place) -> None:
        """Pull what has a lock, and try to delete it if that lock forbids it."""
        known, (kind, name) = self.model[repository], place
        is_kept = known.is_locked(place, *ON_DELETE)
        if kind == "tag":
            self.pull_tag(repository, name)
            for acr in (False, True) if is_kept else ():
                self.delete_tag(repository, name, acr=acr)
        elif kind == "manifest" and is_kept:
            self.delete_manifest(repository, known.manifests[name])
        if is_kept:
            self.delete_repository(repository)

    @rule(repository=repositories, place=places)
    def look(self, repository: str, place: Place) -> None:
        if self.model[repository].holds(place):
            self.properties(repository, place)
        else:
            assert self.client.get(self.acr(repository, place)).status_code == 404

    def properties(self, repository: str, place: Place) -> Any:
        """Read the properties of what is there, and compare them."""
        known, (kind, name) = self.model[repository], place
        document = self.client.get(self.acr(repository, place)).json()
        found = document if place == REPOSITORY else document[kind]
        locks = known.locks.get(place, set())
        assert found["changeableAttributes"] == {flag: flag not in locks for flag in FLAGS}
        if place == REPOSITORY:
            counts = found["manifestCount"], found["tagCount"]
            assert counts == (len(known.manifests), len(known.tags))
        elif kind == "tag":
            assert found["digest"] == known.tags[name]
        else:
            listed = [tag for tag in known.listed("tag") if known.tags[tag] == name]
            assert found.get("tags", []) == sorted(listed)
        return document

    @rule(repository=repositories, kind=st.sampled_from(["tag", "manifest"]), n=st.integers(1, 3))
    def list_by_time(self, repository: str, kind: str, n: int) -> None:
        known = self.model[repository]
        if not known.exists:
            assert self.client.get(f"{self.acr(repository)}/_{kind}s").status_code == 404
            return
        expected = known.listed(kind)
        field = "name" if kind == "tag" else "digest"
        for order, wanted in (("timeasc", expected), ("timedesc", expected[::-1])):
            found: list[str] = []
            link = f"{self.acr(repository)}/_{kind}s?n={n}&orderby={order}"
            while link:
                answer = self.client.get(link)
                found += [item[field] for item in answer.json()[f"{kind}s"] or ()]
                link = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
            assert found == wanted

    @rule(repository=repositories, chance=st.integers(0, 5))
    def delete_repository(self, repository: str, chance: int = 5) -> None:
        if chance < 5:
            # Sequences in which everything goes again and again show little else.
            return
        known = self.model[repository]
        answer = self.client.delete(self.acr(repository))
        locked = any(known.is_locked(place, *ON_DELETE) for place in known.locks)
        expected = 404 if not known.exists else 405 if locked else 202
        assert answer.status_code == expected
        if expected == 202:
            assert answer.json() == {
                "manifestsDeleted": sorted(known.manifests),
                "tagsDeleted": sorted(known.tags),
            }
            self.model[repository] = Repository()
            self.model[repository].was_deleted = True

    @rule(repository=repositories)
    def list_everything(self, repository: str) -> None:
        known = self.model[repository]
        answer = self.client.get(self.path(repository, "tags/list"))
        if known.exists:
            assert answer.json()["tags"] == sorted(known.listed("tag"))
        else:
            assert answer.status_code == 404
        query: dict[str, Any] = {"last": f"{self.prefix}/", "n": len(REPOSITORIES)}
        listed = self.client.get("/v2/_catalog", params=query).json()["repositories"]
        name = f"{self.prefix}/{repository}"
        is_shown = not known.is_locked(REPOSITORY, "listEnabled")
        assert (name in listed) == (bool(known.manifests) and is_shown)
        path = self.path(repository, f"referrers/{SUBJECT.digest}")
        found = {item["digest"] for item in self.client.get(path).json()["manifests"]}
        assert found == {content.digest for content in ARTIFACTS} & set(known.listed("manifest"))


@pytest.fixture
def modelled(registry: RunningRegistry) -> Iterator[type[RegistryModel]]:
    """Connect the model to the real server."""
    with connect(registry.url, headers=ANYBODY) as client:
        yield type("Modelled", (RegistryModel,), {"client": client})


@pytest.mark.long
def test_the_registry_behaves_like_the_model(
    modelled: type[RegistryModel], request: pytest.FixtureRequest
) -> None:
    """No sequence of calls tells the registry from the model."""
    kind = request.node.callspec.params["registry"]
    run_state_machine_as_test(
        modelled,
        settings=settings(
            max_examples=40 if kind == DISK else 12,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
