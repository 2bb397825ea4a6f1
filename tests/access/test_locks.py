"""Every endpoint, identity, kind of credentials and lock: authorization comes before locks.

Callers who may not perform an operation get the answer of a repository that does not exist,
whatever is locked. Callers who may are refused what the lock forbids, and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from portside.config import Settings
from portside.spec.actions import Action, Actions
from portside.spec.dialects import AuthScheme
from portside.spec.endpoints import Endpoint
from support.access import COST
from support.content import digest_of, image
from support.identities import (
    ASKING,
    NOTHING,
    PASSWORD,
    REPOSITORY,
    STORED,
    basic,
    is_allowed,
    seed_identities,
)
from support.inside import serve_inside
from support.wire import assert_error, open_upload, push, push_blob

IMAGE, DELETED = image("locks"), image("deleted")
FREE, LATE = b"a blob that no manifest needs", b"what was opened before the lock"
FREE_DIGEST = digest_of(FREE)
MANIFEST = {"content": IMAGE.manifest, "headers": {"Content-Type": IMAGE.media_type}}
LOCK_NOTHING: dict[str, Any] = {"json": {}}

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ping": ("", {}),
    "list_extensions": ("", {}),
    "list_repositories": ("", {}),
    "stream_events": ("", {"params": {"follow": "false"}}),
    "list_acr_repositories": ("", {}),
    "list_deleted_repositories": ("", {}),
    "list_deleted_manifests": ("", {}),
    "list_deleted_tags": ("", {}),
    "get_manifest": ("v1", {}),
    "head_manifest": (IMAGE.digest, {}),
    "get_blob": (FREE_DIGEST, {}),
    "head_blob": (FREE_DIGEST, {}),
    "list_tags": ("", {}),
    "list_referrers": (IMAGE.digest, {}),
    "get_repository": ("", {}),
    "list_tag_properties": ("", {}),
    "get_tag": ("v1", {}),
    "list_manifest_properties": ("", {}),
    "get_manifest_properties": (IMAGE.digest, {}),
    "change_repository": ("", LOCK_NOTHING),
    "change_tag": ("v1", LOCK_NOTHING),
    "change_manifest": (IMAGE.digest, LOCK_NOTHING),
    "list_tag_changes": ("v1", {}),
    "put_manifest": ("v1", MANIFEST),
    "restore_tag": ("v1", {"params": {"digest": IMAGE.digest}}),
    "restore_deleted_manifest": (DELETED.digest, {"json": {}}),
    "start_upload": ("", {}),
    "append_upload": ("", {"content": LATE}),
    "finish_upload": ("", {"content": LATE, "params": {"digest": digest_of(LATE)}}),
    "get_upload": ("", {}),
    "cancel_upload": ("", {}),
    "delete_tag": ("v1", {}),
    "delete_manifest": (IMAGE.digest, {}),
    "delete_blob": (FREE_DIGEST, {}),
    "delete_repository": ("", {}),
}
"""The end of the path of each operation, and the rest of its request. Operations come in an order
in which each still finds what it needs; each of those on upload sessions has one of its own."""

ON_SESSIONS = ("append_upload", "finish_upload", "get_upload", "cancel_upload")
ABSENT_SESSION = "0" * 32

PUSHES = {
    "put_manifest",
    "restore_tag",
    "restore_deleted_manifest",
    "start_upload",
    "append_upload",
    "finish_upload",
}
PULLS = {"get_manifest", "head_manifest", "get_blob", "head_blob"}
OF_MANIFEST = {"delete_manifest", "delete_repository"}
OF_TAG = {"delete_tag", *OF_MANIFEST}

REFUSED: dict[tuple[str, str], set[str]] = {
    ("repository", "writeEnabled"): PUSHES | OF_TAG | {"delete_blob"},
    ("repository", "deleteEnabled"): {"delete_repository"},
    ("repository", "readEnabled"): PULLS,
    ("repository", "listEnabled"): set(),
    ("tag", "writeEnabled"): {"put_manifest", "restore_tag", *OF_TAG},
    ("tag", "deleteEnabled"): OF_TAG,
    ("tag", "readEnabled"): {"get_manifest"},
    ("tag", "listEnabled"): set(),
    ("manifest", "writeEnabled"): OF_MANIFEST,
    ("manifest", "deleteEnabled"): OF_MANIFEST,
    ("manifest", "readEnabled"): {"get_manifest", "head_manifest"},
    ("manifest", "listEnabled"): set(),
    ("nothing", ""): set(),
}
"""What each lock refuses, written down by hand."""

PATHS = {"repository": "", "tag": "/_tags/v1", "manifest": f"/_manifests/{IMAGE.digest}"}
NAMED = {
    "repository": "repository {name} is locked: ",
    "tag": "tag v1 of ",
    "manifest": f"manifest {IMAGE.digest} of repository {{name}} is locked: ",
}

KEEPER = {"Authorization": basic("all")}
"""Credentials of the identity that fills repositories, and locks them."""


@dataclass(frozen=True)
class Caller:
    """Credentials of one kind; `actions` is None if they are not accepted at all.

    `denied` is the status of what an accepted caller may not do under `/v2`.
    """

    name: str
    kind: str
    actions: Actions | None
    denied: int = 403

    def __str__(self) -> str:
        return f"{self.kind} of {self.name}"

    def may(self, endpoint: Endpoint) -> bool:
        """Whether the policy allows it; anonymous callers see no repository, so they list none."""
        if self.actions is None or (endpoint.action is Action.CATALOG and not self.name):
            return False
        return is_allowed(endpoint, self.actions)

    def denied_at(self, endpoint: Endpoint) -> int:
        """Return the status of a denial; ACR's clients get no 403."""
        return 401 if self.actions is None or endpoint.is_of_acr else self.denied

    def headers(self, client: httpx.Client, repository: str) -> dict[str, str]:
        """Return what the caller sends for a repository."""
        if self.kind == "nothing":
            return {}
        if self.kind == "wrong password":
            return {"Authorization": basic(self.name, "wrong")}
        if self.kind == "password":
            return {"Authorization": basic(self.name)}
        scope = f"repository:{repository}:*" if self.kind == "token" else ""
        answer = client.get(
            "/oauth2/token",
            params={"service": "portside", "scope": [scope, "registry:catalog:*"]},
            auth=(self.name, PASSWORD) if self.name else None,
        )
        return {"Authorization": f"Bearer {answer.json()['token']}"}


CALLERS = [
    Caller("", "nothing", None),
    Caller("all", "wrong password", None),
    *(Caller(who.name, "password", who.allowed if who.may_log_in else None) for who in STORED),
]
WITH_TOKENS = [
    *CALLERS,
    *(Caller(who.name, "token", who.allowed) for who in STORED if who.may_log_in),
    Caller("all", "token without scope", NOTHING, denied=401),
    Caller("", "token", NOTHING, denied=401),
]


@dataclass(frozen=True)
class Repository:
    """A repository with one thing locked, and its upload sessions."""

    name: str
    sessions: dict[str, str]


@dataclass
class Locking:
    """A registry with access control, in which repositories are filled and locked."""

    client: httpx.Client
    callers: list[Caller]

    def name(self) -> str:
        """Name a repository that is not used elsewhere."""
        return f"{REPOSITORY}/{uuid.uuid4().hex}"

    @cached_property
    def denials(self) -> dict[tuple[Caller, str], Shown]:
        """What is answered about a repository that does not exist, where that is a denial."""
        absent = Repository(self.name(), dict.fromkeys(ON_SESSIONS, ABSENT_SESSION))
        found = {}
        for caller in self.callers:
            headers = caller.headers(self.client, absent.name)
            for endpoint in ASKING:
                if not caller.may(endpoint):
                    answer = send(self.client, endpoint, absent, headers)
                    found[caller, endpoint.operation] = shown(answer, absent)
        return found


@pytest.fixture(scope="module", params=[AuthScheme.BEARER, AuthScheme.BASIC])
def locking(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Locking]:
    """Serve the identities under each scheme."""
    data: Path = tmp_path_factory.mktemp("locking") / "data"
    scheme: AuthScheme = request.param
    settings = Settings(data=str(data), auth_scheme=scheme, login_failures=0, password_cost=COST)
    seed_identities(settings, below="/*")
    callers = CALLERS if scheme is AuthScheme.BASIC else WITH_TOKENS
    with serve_inside(settings) as client:
        yield Locking(client, callers)


def fill(locking: Locking, place: str, flag: str) -> Repository:
    """Push what the requests are about, open sessions, and then lock."""
    name, client = locking.name(), locking.client
    client.headers.update(KEEPER)
    push(client, name, IMAGE, "v1")
    push(client, name, DELETED)
    assert client.delete(f"/v2/{name}/manifests/{DELETED.digest}").status_code == 202
    push_blob(client, name, FREE)
    sessions = {operation: open_upload(client, name) for operation in ON_SESSIONS}
    if flag:
        answer = client.patch(f"/acr/v1/{name}{PATHS[place]}", json={flag: False})
        assert answer.status_code == 200
    del client.headers["Authorization"]
    return Repository(name, {key: path.rpartition("/")[2] for key, path in sessions.items()})


def send(
    client: httpx.Client, endpoint: Endpoint, repository: Repository, headers: dict[str, str]
) -> httpx.Response:
    """Send the request of an endpoint."""
    last, options = REQUESTS[endpoint.operation]
    last = repository.sessions.get(endpoint.operation, last)
    variables = dict.fromkeys(("reference", "digest", "tag", "session"), last)
    path = endpoint.path.format(name=repository.name, **variables)
    sent = {**options, "headers": {**options.get("headers", {}), **headers}}
    return client.request(endpoint.method, path, **sent)


Shown = tuple[int, str, str]
"""The status, the challenge and the body of an answer, without the name of its repository."""


def shown(answer: httpx.Response, repository: Repository) -> Shown:
    """Return all that an answer shows of a repository but its name."""
    challenge = answer.headers.get("www-authenticate", "")
    name = repository.name
    said = answer.text.replace(answer.headers["X-Request-Id"], "ID")
    return answer.status_code, challenge.replace(name, "X"), said.replace(name, "X")


BY_OPERATION = {endpoint.operation: endpoint for endpoint in ASKING}
IN_ORDER = [BY_OPERATION[operation] for operation in REQUESTS]


def test_each_endpoint_is_here() -> None:
    """No endpoint can be added without a request in this matrix."""
    assert set(REQUESTS) == set(BY_OPERATION)


@pytest.mark.parametrize(("place", "flag"), REFUSED)
def test_every_caller(locking: Locking, place: str, flag: str) -> None:
    """Authorization comes first, then the lock, then the operation."""
    untouched = fill(locking, place, flag)
    for caller in locking.callers:
        repository = fill(locking, place, flag) if caller.actions else untouched
        headers = caller.headers(locking.client, repository.name)
        for endpoint in IN_ORDER:
            answer = send(locking.client, endpoint, repository, headers)
            case = f"{endpoint.operation} with {caller}"
            if not caller.may(endpoint):
                assert answer.status_code == caller.denied_at(endpoint), case
                denial = locking.denials[caller, endpoint.operation]
                assert shown(answer, repository) == denial, case
            elif endpoint.operation in REFUSED[place, flag]:
                check_refusal(answer, repository, place, flag, case)
            else:
                assert answer.status_code == endpoint.status, (case, answer.text)


def check_refusal(
    answer: httpx.Response, repository: Repository, place: str, flag: str, case: str
) -> None:
    """Find the refusal of a lock, which names what is locked, and by which attribute."""
    assert answer.status_code == 405, (case, answer.text)
    if answer.request.method == "HEAD":
        return
    detail = assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
    assert NAMED[place].format(name=repository.name) in detail, case
    assert f"repository {repository.name} is locked: {flag} is false" in detail, case


@pytest.mark.parametrize("flag", ["deleteEnabled", "writeEnabled", "listEnabled", "readEnabled"])
def test_a_mount_from_what_one_may_not_read(locking: Locking, flag: str) -> None:
    """An upload session is opened, whether the source is locked, or exists, or neither."""
    locked, free = fill(locking, "repository", flag), fill(locking, "nothing", "")
    for caller in (caller for caller in locking.callers if caller.name == "pushes"):
        for source in (locked.name, free.name, locking.name()):
            target = locking.name()
            answer = locking.client.post(
                f"/v2/{target}/blobs/uploads/",
                params={"mount": FREE_DIGEST, "from": source},
                headers=caller.headers(locking.client, target),
            )
            assert answer.status_code == 202, (str(caller), answer.text)
