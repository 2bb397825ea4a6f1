"""Random sequences of calls to the real server, compared with a simple model."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    rule,
    run_state_machine_as_test,
)

from support.content import Content, artifact, digest_of, image, index, make_blob
from support.homes import DISK
from support.server import RunningRegistry
from support.wire import connect

REPOSITORIES = ("one", "two/three")
TAGS = ("v1", "v2", "latest")
BLOBS = [make_blob(size, size) for size in (0, 1, 200, 3000)]
IMAGES = [image(number, layers=2, layer_size=50) for number in range(3)]
SUBJECT = IMAGES[0]
ARTIFACTS = [artifact(number, subject=SUBJECT.descriptor) for number in range(2)]
INDEXES = [index(IMAGES[0], IMAGES[1]), index(*ARTIFACTS)]
MANIFESTS = [*IMAGES, *ARTIFACTS, *INDEXES]
ALL_BLOBS = [*BLOBS, *(blob for content in MANIFESTS for blob in content.blobs)]

repositories = st.sampled_from(REPOSITORIES)
blobs = st.sampled_from(ALL_BLOBS)
manifests = st.sampled_from(MANIFESTS)
tags = st.sampled_from(TAGS)


# The model knows nothing of stores: whatever keeps the registry has to look the same.
pytestmark = pytest.mark.every_home


class Repository:
    """What the model knows of one repository."""

    def __init__(self) -> None:
        self.blobs: set[str] = set()
        self.manifests: dict[str, Content] = {}
        self.tags: dict[str, str] = {}
        self.exists = False


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
        self.model[repository].blobs.add(digest_of(content))
        self.model[repository].exists = True

    @rule(repository=repositories, content=blobs)
    def push_at_once(self, repository: str, content: bytes) -> None:
        answer = self.client.post(
            self.path(repository, "blobs/uploads/"),
            params={"digest": digest_of(content)},
            content=content,
        )
        assert answer.status_code == 201
        self.link(repository, content)

    @rule(repository=repositories, content=manifests)
    def push_what_a_manifest_needs(self, repository: str, content: Content) -> None:
        for blob in content.blobs:
            self.push_at_once(repository, blob)
        for child in content.children:
            self.push_what_a_manifest_needs(repository, child)
            self.push_manifest(repository, child, None)

    @rule(target=sessions, repository=repositories)
    def open(self, repository: str) -> Session:
        answer = self.client.post(self.path(repository, "blobs/uploads/"))
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
        assert answer.status_code == 400
        self.ask(session)

    @rule(session=consumes(sessions), last=st.binary(max_size=20))
    def finish(self, session: Session, last: bytes) -> None:
        content = session.content + last
        query = {"digest": digest_of(content)}
        answer = self.client.put(session.location, params=query, content=last)
        assert answer.status_code == 201
        self.link(session.repository, content)
        assert self.client.get(answer.headers["Location"]).content == content
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
        if digest in self.model[source].blobs:
            assert answer.status_code == 201
            self.link(repository, content)
        else:
            assert answer.status_code == 202
            assert self.client.delete(answer.headers["Location"]).status_code == 204

    @rule(repository=repositories, content=blobs)
    def pull_blob(self, repository: str, content: bytes) -> None:
        path = self.path(repository, f"blobs/{digest_of(content)}")
        known = digest_of(content) in self.model[repository].blobs
        answer = self.client.get(path)
        assert answer.status_code == (200 if known else 404)
        assert self.client.head(path).status_code == answer.status_code
        assert not known or answer.content == content

    @rule(repository=repositories, content=blobs)
    def delete_blob(self, repository: str, content: bytes) -> None:
        known = self.model[repository]
        digest = digest_of(content)
        used = any(content in held.blobs for held in known.manifests.values())
        expected = 404 if digest not in known.blobs else 405 if used else 202
        answer = self.client.delete(self.path(repository, f"blobs/{digest}"))
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
        if missing:
            assert answer.status_code == 400
            assert len(answer.json()["errors"]) == missing
            return
        assert answer.status_code == 201
        known.exists = True
        known.manifests[content.digest] = content
        if tag:
            known.tags[tag] = content.digest

    @rule(repository=repositories, tag=tags)
    def pull_tag(self, repository: str, tag: str) -> None:
        known = self.model[repository]
        answer = self.client.get(self.path(repository, f"manifests/{tag}"))
        if tag in known.tags:
            assert answer.content == known.manifests[known.tags[tag]].manifest
        else:
            assert answer.status_code == 404

    @rule(repository=repositories, tag=tags)
    def delete_tag(self, repository: str, tag: str) -> None:
        known = self.model[repository].tags.pop(tag, None)
        answer = self.client.delete(self.path(repository, f"manifests/{tag}"))
        assert answer.status_code == (202 if known else 404)

    @rule(repository=repositories, content=manifests)
    def delete_manifest(self, repository: str, content: Content) -> None:
        known = self.model[repository]
        listed = any(content in held.children for held in known.manifests.values())
        expected = 404 if content.digest not in known.manifests else 405 if listed else 202
        answer = self.client.delete(self.path(repository, f"manifests/{content.digest}"))
        assert answer.status_code == expected
        if expected == 202:
            del known.manifests[content.digest]
            known.tags = {
                tag: digest for tag, digest in known.tags.items() if digest != content.digest
            }

    @rule(repository=repositories)
    def list_everything(self, repository: str) -> None:
        known = self.model[repository]
        answer = self.client.get(self.path(repository, "tags/list"))
        if known.exists:
            assert answer.json()["tags"] == sorted(known.tags)
        else:
            assert answer.status_code == 404
        query: dict[str, Any] = {"last": f"{self.prefix}/", "n": len(REPOSITORIES)}
        listed = self.client.get("/v2/_catalog", params=query).json()["repositories"]
        name = f"{self.prefix}/{repository}"
        assert (name in listed) == bool(known.manifests)
        path = self.path(repository, f"referrers/{SUBJECT.digest}")
        found = {item["digest"] for item in self.client.get(path).json()["manifests"]}
        assert found == {content.digest for content in ARTIFACTS} & set(known.manifests)


@pytest.fixture
def modelled(registry: RunningRegistry) -> Iterator[type[RegistryModel]]:
    """Connect the model to the real server."""
    with connect(registry.url, timeout=30) as client:
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
