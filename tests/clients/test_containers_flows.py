"""The requests of clients that cannot be installed here, sent as those send them.

Each class names the functions that it follows; nothing of them is copied.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from support.access import ALICE, FORMER, PULLER, PUSHER, VICTIM, Login, guarded_registry
from support.content import digest_of, image
from support.server import RunningRegistry
from support.wire import (
    OCTETS,
    assert_error,
    connect,
    push,
    push_blob,
    put_manifest,
    without_request_id,
)

TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105  # a name, and public

# As the conformance suite of the distribution-spec reads a challenge.
_CHALLENGE = re.compile(r"(?i)(bearer|basic)\s+(.*)")
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')


@pytest.fixture(scope="module")
def by_scheme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningRegistry]]:
    """Serve with each scheme."""
    with ExitStack() as stack:

        def serve(scheme: str) -> RunningRegistry:
            data = tmp_path_factory.mktemp(scheme) / "data"
            options = ("--auth-scheme", scheme, "--login-refresh-tokens")
            return stack.enter_context(guarded_registry(data, *options))

        yield {scheme: serve(scheme) for scheme in ("bearer", "basic")}


@pytest.fixture
def bearer(by_scheme: dict[str, RunningRegistry]) -> Iterator[httpx.Client]:
    """Talk to the registry that has a token server."""
    with connect(by_scheme["bearer"].url) as client:
        yield client


@pytest.fixture
def basic(by_scheme: dict[str, RunningRegistry]) -> Iterator[httpx.Client]:
    """Talk to the registry that asks for Basic alone."""
    with connect(by_scheme["basic"].url) as client:
        yield client


@pytest.fixture
def unique() -> str:
    """Return a word that no other test uses."""
    return uuid.uuid4().hex


def challenge_of(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """Read the one challenge of an answer: the scheme in small letters, and the parameters."""
    assert answer.status_code == 401, answer.text
    (header,) = answer.headers.get_list("www-authenticate")
    found = _CHALLENGE.fullmatch(header)
    assert found is not None, header
    parameters = _PARAMETER.findall(found[2])
    assert ",".join(f'{name}="{value}"' for name, value in parameters) == found[2]
    return found[1].lower(), dict(parameters)


def authorised(client: httpx.Client, token: str) -> httpx.Client:
    """Return a client that sends a token with every request; the caller closes the first one."""
    return connect(client.base_url, headers={"Authorization": f"Bearer {token}"})


def assert_lives(document: dict[str, Any]) -> None:
    """Expect a life of a minute at least, and a time of issue that Go can parse."""
    assert document["expires_in"] >= 60
    assert document["issued_at"].endswith("Z")
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(document["issued_at"])
    assert abs(age) < dt.timedelta(seconds=30)


class Docker:
    """What dockerd does, and the docker command where it does without dockerd.

    moby/moby daemon/pkg/registry `PingV2Registry` and `loginV2`, docker/cli internal/registry
    `loginV2`; docker/distribution registry/client/auth `endpointAuthorizer.ModifyRequest`,
    `tokenHandler.fetchTokenWithBasicAuth` and `tokenHandler.fetchTokenWithOAuth`.
    """

    def __init__(self, http: httpx.Client, login: Login | None = None, identity: str = "") -> None:
        self.http = http
        self._login = login
        self.identity = identity
        self.scheme, self._parameters = challenge_of(http.get("/v2/"))

    def ask(self, *scopes: str) -> httpx.Response:
        """Ask for a token; the scopes are the client's own, not those of the challenge."""
        realm, service = self._parameters["realm"], self._parameters["service"]
        if self.identity:
            form = {
                "scope": " ".join(scopes),
                "service": service,
                "client_id": "docker",
                "grant_type": "refresh_token",
                "refresh_token": self.identity,
            }
            return self.http.post(realm, data=form)
        query: dict[str, Any] = {
            "service": service,
            "scope": list(scopes),
            "offline_token": "true",
            "client_id": "docker",
        }
        if self._login is None:
            return self.http.get(realm, params=query)
        return self.http.get(
            realm, params={**query, "account": self._login.name}, auth=self._login.pair
        )

    def token(self, *scopes: str) -> str:
        """Ask for a token, and get one."""
        answer = self.ask(*scopes)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert_lives(document)
        assert document["token"] == document["access_token"]
        self.identity = document.get("refresh_token", self.identity)
        return str(document["token"])

    def log_in(self) -> str:
        """Log in; returns the identity token that is kept in the place of the password."""
        answer = self.http.get("/v2/", headers={"Authorization": f"Bearer {self.token()}"})
        assert answer.status_code == 200
        assert self.identity
        return self.identity


class TestDocker:
    """`docker login`, `docker push` and `docker pull`, by tokens."""

    def test_login_and_again(self, bearer: httpx.Client) -> None:
        """A login gives an identity token, which is good for the next login."""
        identity = Docker(bearer, PUSHER).log_in()
        assert Docker(bearer, identity=identity).log_in()

    @pytest.mark.parametrize(
        "wrong", [Login(VICTIM.name, "wrong"), FORMER], ids=["wrong", "former"]
    )
    def test_login_refused(self, bearer: httpx.Client, wrong: Login) -> None:
        """A wrong password, or that of a disabled user, is refused by the token server."""
        assert_error(Docker(bearer, wrong).ask(), 401, "UNAUTHORIZED")

    def test_wrong_identity_token(self, bearer: httpx.Client) -> None:
        """A text that is not a refresh token is refused."""
        access_token = Docker(bearer, PUSHER).token()
        for wrong in ("nothing", "a.b.c", access_token):
            assert_error(Docker(bearer, identity=wrong).ask(), 401, "UNAUTHORIZED")

    def test_push_and_pull(self, bearer: httpx.Client, unique: str) -> None:
        """With the identity token, an image is pushed and pulled by a token of one scope."""
        docker = Docker(bearer, identity=Docker(bearer, PUSHER).log_in())
        repository = f"team/{unique}"
        content = image(unique)
        with authorised(bearer, docker.token(f"repository:{repository}:pull,push")) as pushing:
            push(pushing, repository, content, "1")
        with authorised(bearer, docker.token(f"repository:{repository}:pull")) as pulling:
            assert pulling.get(f"/v2/{repository}/manifests/1").content == content.manifest
            answer = pulling.post(f"/v2/{repository}/blobs/uploads/")
        scheme, parameters = challenge_of(answer)
        assert scheme == "bearer"
        assert parameters["error"] == "insufficient_scope"
        assert parameters["scope"] == f"repository:{repository}:pull,push"

    def test_mount(self, bearer: httpx.Client, unique: str) -> None:
        """The scope of the source is asked for in addition, and the blob is mounted."""
        docker = Docker(bearer, PUSHER)
        first, second = f"team/{unique}/first", f"team/{unique}/second"
        with authorised(bearer, docker.token(f"repository:{first}:pull,push")) as pushing:
            digest = push_blob(pushing, first, unique.encode())
        scopes = (f"repository:{second}:pull,push", f"repository:{first}:pull")
        with authorised(bearer, docker.token(*scopes)) as mounting:
            answer = mounting.post(
                f"/v2/{second}/blobs/uploads/", params={"from": first, "mount": digest}
            )
        assert answer.status_code == 201
        assert answer.headers["Docker-Content-Digest"] == digest

    def test_mount_from_what_may_not_be_read(self, bearer: httpx.Client, unique: str) -> None:
        """The answer does not tell whether the blob is there: an upload begins, and succeeds."""
        source, target = f"private/{unique}", f"team/{unique}"
        with connect(bearer.base_url, auth=ALICE.pair) as alice:
            there = push_blob(alice, source, unique.encode())
        docker = Docker(bearer, PUSHER)
        scopes = (f"repository:{target}:pull,push", f"repository:{source}:pull")
        with authorised(bearer, docker.token(*scopes)) as mounting:
            answers = [
                mounting.post(
                    f"/v2/{target}/blobs/uploads/", params={"from": source, "mount": digest}
                )
                for digest in (there, digest_of(b"absent"))
            ]
            assert [answer.status_code for answer in answers] == [202, 202]
            assert set(answers[0].headers) == set(answers[1].headers)
            finished = mounting.put(
                answers[0].headers["Location"],
                params={"digest": there},
                content=unique.encode(),
                headers=OCTETS,
            )
            assert finished.status_code == 201

    def test_pull_only(self, bearer: httpx.Client, unique: str) -> None:
        """Asking for more than is allowed returns a token; pushing with it is denied."""
        repository = f"team/{unique}"
        token = Docker(bearer, PULLER).token(f"repository:{repository}:pull,push")
        with authorised(bearer, token) as puller:
            assert puller.head(f"/v2/{repository}/blobs/{digest_of(b'')}").status_code == 404
            denied = puller.post(f"/v2/{repository}/blobs/uploads/")
            assert "puller" in assert_error(denied, 403, "DENIED")
            assert_error(put_manifest(puller, repository, image(unique), "1"), 403, "DENIED")

    def test_without_login(self, bearer: httpx.Client, unique: str) -> None:
        """Without a login there is a token too, which reads the public repository alone."""
        public, private = f"public/{unique}", f"private/{unique}"
        content = image(unique)
        with connect(bearer.base_url, auth=ALICE.pair) as alice:
            for repository in (public, private):
                push(alice, repository, content, "1")
        docker = Docker(bearer)
        with authorised(bearer, docker.token(f"repository:{public}:pull")) as nobody:
            assert nobody.get(f"/v2/{public}/manifests/1").content == content.manifest
        with authorised(bearer, docker.token(f"repository:{private}:pull")) as nobody:
            answers = [nobody.get(f"/v2/{private}/manifests/{tag}") for tag in ("1", "absent")]
        assert {challenge_of(answer)[1]["error"] for answer in answers} == {"insufficient_scope"}
        shown = {without_request_id(answer.text, answer) for answer in answers}
        assert len(shown) == 1
        assert not docker.identity


class TestDockerWithBasic:
    """The same where the registry asks for Basic: `basicHandler.AuthorizeRequest`."""

    def test_login(self, basic: httpx.Client) -> None:
        """The challenge is Basic; the ping succeeds with a right password, and only so."""
        scheme, parameters = challenge_of(basic.get("/v2/"))
        assert scheme == "basic"
        assert parameters == {"realm": "portside"}
        assert basic.get("/v2/", auth=PULLER.pair).status_code == 200
        for wrong in (Login(VICTIM.name, "wrong"), FORMER):
            challenge_of(basic.get("/v2/", auth=wrong.pair))

    def test_push_and_pull(self, basic: httpx.Client, unique: str) -> None:
        """Every request carries the password."""
        content = image(unique)
        repository = f"team/{unique}"
        with connect(basic.base_url, auth=PUSHER.pair) as pusher:
            push(pusher, repository, content, "1")
        got = basic.get(f"/v2/{repository}/manifests/1", auth=PULLER.pair)
        assert got.content == content.manifest
        denied = basic.post(f"/v2/{repository}/blobs/uploads/", auth=PULLER.pair)
        assert_error(denied, 403, "DENIED")


class Containerd:
    """What containerd does, and BuildKit, which has its functions from there.

    containerd/containerd core/remotes/docker `dockerAuthorizer.AddResponses` and
    `authHandler.doBearerAuth`, core/remotes/docker/auth `GenerateTokenOptions`,
    `FetchTokenWithOAuth` and `FetchToken`; moby/buildkit util/resolver `authFetcher.fetchToken`.
    The scopes are those of the challenge. With an empty name, the secret is an identity token.
    """

    def __init__(self, http: httpx.Client, refused: httpx.Response, login: Login | None) -> None:
        self.http = http
        self._login = login
        self.scheme, self._parameters = challenge_of(refused)
        self._scopes = self._parameters.get("scope", "").split()

    def post(self) -> httpx.Response:
        """Ask by a form, as RFC 6749 has it."""
        assert self._login is not None
        form = {
            "scope": " ".join(self._scopes),
            "service": self._parameters["service"],
            "client_id": "containerd-client",
        }
        if self._login.name:
            form |= {"grant_type": "password"}
            form |= {"username": self._login.name, "password": self._login.password}
        else:
            form |= {"grant_type": "refresh_token", "refresh_token": self._login.password}
        return self.http.post(self._parameters["realm"], data=form)

    def get(self) -> httpx.Response:
        """Ask by a query and Basic."""
        query: dict[str, Any] = {"service": self._parameters["service"], "scope": self._scopes}
        auth = self._login.pair if self._login is not None else None
        return self.http.get(self._parameters["realm"], params=query, auth=auth)


def token_of(answer: httpx.Response) -> str:
    """Take the token out of an answer."""
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert_lives(document)
    assert document["access_token"] == document["token"]
    return str(document["access_token"])


@pytest.fixture
def identity(bearer: httpx.Client) -> Login:
    """Return the pusher's identity token, as credentials with an empty name."""
    return Login("", Docker(bearer, PUSHER).log_in())


class TestContainerd:
    """containerd, nerdctl, BuildKit and buildx."""

    @pytest.mark.parametrize("by", ["post", "get"])
    @pytest.mark.parametrize("who", ["password", "identity"])
    def test_push(
        self, bearer: httpx.Client, identity: Login, unique: str, by: str, who: str
    ) -> None:
        """A refused request is followed by one for a token, by a form or by a query."""
        repository = f"team/{unique}"
        refused = bearer.post(f"/v2/{repository}/blobs/uploads/")
        login = identity if who == "identity" else PUSHER
        containerd = Containerd(bearer, refused, login)
        answer = containerd.post() if by == "post" else containerd.get()
        with authorised(bearer, token_of(answer)) as pushing:
            push(pushing, repository, image(unique), "1")

    def test_scope_that_is_given(self, bearer: httpx.Client, unique: str) -> None:
        """The answer to a form names the scope that is given, which may be less than asked for."""
        refused = bearer.post(f"/v2/team/{unique}/blobs/uploads/")
        for login, actions in ((PUSHER, "pull,push"), (PULLER, "pull")):
            document = Containerd(bearer, refused, login).post().json()
            assert document["scope"] == f"repository:team/{unique}:{actions}"
            assert "refresh_token" not in document

    def test_refresh_token_when_asked_for(self, bearer: httpx.Client) -> None:
        """`access_type=offline` gives a refresh token."""
        form = {"grant_type": "password", "service": "portside", "access_type": "offline"}
        named = {"username": PUSHER.name, "password": PUSHER.password, "client_id": "x"}
        token = bearer.post("/oauth2/token", data=form | named).json()["refresh_token"]
        assert Docker(bearer, identity=token).log_in()

    @pytest.mark.parametrize("name", ["victim", ""])
    def test_wrong_password(self, bearer: httpx.Client, unique: str, name: str) -> None:
        """After a 401 to the form the query is tried; it is refused as well."""
        refused = bearer.get(f"/v2/team/{unique}/manifests/1")
        containerd = Containerd(bearer, refused, Login(name, "wrong"))
        assert_error(containerd.post(), 401, "UNAUTHORIZED")
        assert_error(containerd.get(), 401, "UNAUTHORIZED")

    def test_without_login(self, bearer: httpx.Client, unique: str) -> None:
        """The public repository is read without a token: none is asked for."""
        repository, content = f"public/{unique}", image(unique)
        with connect(bearer.base_url, auth=ALICE.pair) as alice:
            push(alice, repository, content, "1")
        assert bearer.get(f"/v2/{repository}/manifests/1").content == content.manifest

    def test_without_login_in_private(self, bearer: httpx.Client, unique: str) -> None:
        """An anonymous token does not open the private repository; the second challenge ends it."""
        path = f"/v2/private/{unique}/manifests/1"
        token = token_of(Containerd(bearer, bearer.get(path), None).get())
        refused = bearer.get(path, headers={"Authorization": f"Bearer {token}"})
        assert challenge_of(refused)[1]["error"] == "insufficient_scope"

    def test_where_there_are_no_tokens(self, basic: httpx.Client, unique: str) -> None:
        """Basic is asked for; a client that still asks for a token is sent on, and finds none.

        404 is a status after which `doBearerAuth` falls back to the query.
        """
        refused = basic.post(f"/v2/team/{unique}/blobs/uploads/")
        assert Containerd(basic, refused, PUSHER).scheme == "basic"
        form = {"grant_type": "password", "username": PUSHER.name, "password": PUSHER.password}
        assert_error(basic.post("/oauth2/token", data=form), 404, "UNSUPPORTED")
        assert_error(basic.get("/oauth2/token", auth=PUSHER.pair), 404, "UNSUPPORTED")
        accepted = basic.post(f"/v2/team/{unique}/blobs/uploads/", auth=PUSHER.pair)
        assert accepted.status_code == 202

    def test_many_builds_with_an_identity_token(
        self, bearer: httpx.Client, identity: Login, unique: str
    ) -> None:
        """However often BuildKit asks by a query first, it is not taken for somebody guessing."""
        containerd = Containerd(bearer, bearer.get(f"/v2/team/{unique}/manifests/1"), identity)
        assert {containerd.get().status_code for _ in range(12)} == {200}


class TestAzLogin:
    """`az acr login`, which gets a refresh token and hands it to `docker login`.

    Azure/azure-cli azure/cli/command_modules/acr/_docker_utils.py `_handle_challenge_phase`,
    which splits the challenge at its commas, and `_get_aad_token_after_challenge`.
    """

    def test_exchange_and_login(self, bearer: httpx.Client, unique: str) -> None:
        """The refresh token is the password of the user of zeros, for `docker login` and after."""
        form = {
            "grant_type": "access_token",
            "service": challenge_of(bearer.get("/v2/"))[1]["service"],
            "tenant": "00000000-1111-2222-3333-444444444444",
            "access_token": PUSHER.text,
        }
        answer = bearer.post("/oauth2/exchange", data=form)
        assert answer.status_code == 200, answer.text
        docker = Docker(bearer, Login(TOKEN_USER, answer.json()["refresh_token"]))
        identity = docker.log_in()
        repository = f"team/{unique}"
        token = Docker(bearer, identity=identity).token(f"repository:{repository}:pull,push")
        with authorised(bearer, token) as pushing:
            push(pushing, repository, image(unique), "1")

    def test_expose_token(self, bearer: httpx.Client, unique: str) -> None:
        """An access token comes for a refresh token; the service is the address then."""
        refresh_token = Docker(bearer, PULLER).log_in()
        scope = f"repository:team/{unique}:pull,push"
        form = {"grant_type": "refresh_token", "service": bearer.base_url.host, "scope": scope}
        answer = bearer.post("/oauth2/token", data=form | {"refresh_token": refresh_token})
        token = token_of(answer)
        path = f"/v2/team/{unique}/tags/list"
        found = bearer.get(path, headers={"Authorization": f"Bearer {token}"})
        assert_error(found, 404, "NAME_UNKNOWN")

    @pytest.mark.parametrize("token", ["", "nothing", "a.b.c", f"{VICTIM.name}:wrong"])
    def test_exchange_refused(self, bearer: httpx.Client, token: str) -> None:
        """A text that is not a credential is not exchanged, nor accepted as a password."""
        form = {"grant_type": "access_token", "service": "portside", "access_token": token}
        assert_error(bearer.post("/oauth2/exchange", data=form), 401, "UNAUTHORIZED")
        assert_error(Docker(bearer, Login(TOKEN_USER, token)).ask(), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
def test_one_challenge(by_scheme: dict[str, RunningRegistry], scheme: str, unique: str) -> None:
    """Go's `Header.Get` sees the first header of a name: there is one, with quoted values.

    containers/image docker `iterateAuthHeader` and containerd's `ParseAuthHeader` read them all,
    and split none of them in two.
    """
    with connect(by_scheme[scheme].url) as client:
        for method, path, scope in (
            ("GET", "/v2/", None),
            ("GET", "/v2/_catalog", "registry:catalog:*"),
            ("GET", f"/v2/team/{unique}/manifests/1", f"repository:team/{unique}:pull"),
            ("HEAD", f"/v2/team/{unique}/manifests/1", f"repository:team/{unique}:pull"),
            ("POST", f"/v2/team/{unique}/blobs/uploads/", f"repository:team/{unique}:pull,push"),
            ("DELETE", f"/v2/team/{unique}/manifests/1", f"repository:team/{unique}:delete"),
        ):
            found, parameters = challenge_of(client.request(method, path))
            expected = {"realm": "portside"}
            if scheme == "bearer":
                expected = {"realm": f"{client.base_url}/oauth2/token", "service": "portside"}
                expected |= {"scope": scope} if scope else {}
            assert found == scheme
            assert parameters == expected


def test_first_look_of_a_push(bearer: httpx.Client, unique: str) -> None:
    """Who looks for a blob is told to ask for a token to push with (oras-py#187).

    A user who may only pull gets a token for that.
    """
    refused = bearer.head(f"/v2/team/{unique}/blobs/{digest_of(b'')}")
    assert challenge_of(refused)[1]["scope"] == f"repository:team/{unique}:pull,push"
    token = token_of(Containerd(bearer, refused, PULLER).get())
    found = bearer.head(refused.url, headers={"Authorization": f"Bearer {token}"})
    assert found.status_code == 404
