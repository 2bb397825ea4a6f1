"""oras for Python logs in, pushes, pulls and is refused, by both of its ways to authenticate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import oras.client
import oras.decorator
import pytest

from support.access import ALICE, PULLER, PUSHER, VICTIM, Login, guarded_registry
from support.server import RunningRegistry
from support.wire import assert_error, connect

WAYS = [("bearer", "token"), ("bearer", "basic"), ("basic", "basic")]
"""What the registry asks for, and what the client is told to use.

Told to use tokens, which is its default, this client takes any realm for the address of a token
server: where a registry asks for Basic alone, it has to be told so.
"""


@pytest.fixture(scope="module")
def by_scheme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningRegistry]]:
    """Serve with each scheme."""
    with ExitStack() as stack:

        def serve(scheme: str) -> RunningRegistry:
            data = tmp_path_factory.mktemp(scheme) / "data"
            return stack.enter_context(guarded_registry(data, "--auth-scheme", scheme))

        yield {scheme: serve(scheme) for scheme in ("bearer", "basic")}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder and a home of the test's own, with a file to push."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    # The client asks six times, and waits two minutes in all, where it cannot authenticate.
    monkeypatch.setattr(oras.decorator, "time", SimpleNamespace(sleep=lambda _: None))
    (tmp_path / "chart.tgz").write_bytes(str(tmp_path).encode() * 100)
    return tmp_path


class Oras:
    """Makes clients of one registry, and says what is where."""

    def __init__(self, registry: RunningRegistry, backend: str) -> None:
        self.registry = registry
        self._backend = backend

    def client(self, login: Login | None = None) -> oras.client.OrasClient:
        """Make a client, which has logged in if somebody is named."""
        made = oras.client.OrasClient(
            hostname=self.registry.address, insecure=True, auth_backend=self._backend
        )
        if login is not None:
            made.login(*login.pair, hostname=self.registry.address)
        return made

    def target(self, repository: str, tag: str = "1") -> str:
        """Name an artifact."""
        return f"{self.registry.address}/{repository}:{tag}"

    def assert_absent(self, repository: str) -> None:
        """Expect that nothing was pushed."""
        with connect(self.registry.url, auth=ALICE.pair) as plain:
            assert_error(plain.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")


@pytest.fixture(params=WAYS, ids="-".join)
def oras_py(request: pytest.FixtureRequest, by_scheme: dict[str, RunningRegistry]) -> Oras:
    """Return one of the ways."""
    scheme, backend = request.param
    return Oras(by_scheme[scheme], backend)


@pytest.fixture
def with_tokens(by_scheme: dict[str, RunningRegistry]) -> Oras:
    """Return the way that is the default of both sides."""
    return Oras(by_scheme["bearer"], "token")


def test_login_push_pull_logout(oras_py: Oras, repository: str, home: Path) -> None:
    """After a login, clients push and pull by what it left in the file; after a logout, none."""
    target = oras_py.target(f"team/{repository}")
    client = oras_py.client(PUSHER)
    assert client.push(files=["chart.tgz"], target=target).status_code == 201
    pulled = oras_py.client().pull(target=target, outdir=str(home / "out"))
    assert [Path(path).read_bytes() for path in pulled] == [(home / "chart.tgz").read_bytes()]
    another = oras_py.target(f"team/{repository}", "2")
    assert oras_py.client().push(files=["chart.tgz"], target=another).status_code == 201
    client.logout(oras_py.registry.address)
    (home / ".docker" / "config.json").unlink()
    with pytest.raises((ValueError, AttributeError)):  # its Basic fails over having no password
        oras_py.client().pull(target=target, outdir=str(home / "out"))


def test_chunked(oras_py: Oras, repository: str) -> None:
    """A push in chunks is let through from the first request to the last."""
    target = oras_py.target(f"team/{repository}")
    client = oras_py.client(PUSHER)
    answer = client.push(files=["chart.tgz"], target=target, do_chunked=True, chunk_size=1000)
    assert answer.status_code == 201


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
def test_one_client_for_everything(
    by_scheme: dict[str, RunningRegistry], scheme: str, repository: str, home: Path
) -> None:
    """With Basic, one client pulls, pushes, lists and deletes under either scheme.

    With tokens it cannot: it never asks for another token than its first one.
    """
    oras_py = Oras(by_scheme[scheme], "basic")
    client = oras_py.client(ALICE)
    first, second = (oras_py.target(repository, tag) for tag in ("1", "2"))
    client.push(files=["chart.tgz"], target=first)
    client.pull(target=first, outdir=str(home / "out"))
    (home / "chart.tgz").write_bytes(b"another version")  # it deletes by digest
    client.push(files=["chart.tgz"], target=second)
    assert client.delete_tags(first, "1") == ["1"]
    assert client.get_tags(second) == ["2"]


def test_wrong_password(oras_py: Oras, repository: str, home: Path) -> None:
    """A wrong password opens nothing; this client's login does not ask the registry."""
    client = oras_py.client(Login(VICTIM.name, "a wrong password"))
    with pytest.raises(ValueError, match=r"authentication|Unauthorized|Too Many"):
        client.pull(target=oras_py.target(repository), outdir=str(home / "out"))


def test_pull_only(oras_py: Oras, repository: str, home: Path) -> None:
    """A token that may only pull pulls; its push is refused, and pushes nothing."""
    there = oras_py.target(f"team/{repository}/there")
    oras_py.client(PUSHER).push(files=["chart.tgz"], target=there)
    client = oras_py.client(PULLER)
    assert client.pull(target=there, outdir=str(home / "out"))
    new = f"team/{repository}/new"
    # Of a 403 that it sees with a token, the client only says that it has no answer to it.
    with pytest.raises(ValueError, match=r"DENIED|Cannot respond"):
        client.push(files=["chart.tgz"], target=oras_py.target(new))
    oras_py.assert_absent(new)


def test_elsewhere(oras_py: Oras, repository: str) -> None:
    """What is outside of the scope map is denied."""
    with pytest.raises(ValueError, match="DENIED"):
        oras_py.client(PUSHER).push(files=["chart.tgz"], target=oras_py.target(repository))
    oras_py.assert_absent(repository)


def test_without_login(oras_py: Oras, repository: str, home: Path) -> None:
    """Everybody reads the public repository."""
    target = oras_py.target(f"public/{repository}")
    oras_py.client(ALICE).push(files=["chart.tgz"], target=target)
    (home / ".docker" / "config.json").unlink()
    assert oras_py.client().pull(target=target, outdir=str(home / "out"))


def test_private_without_login(with_tokens: Oras, repository: str, home: Path) -> None:
    """Without a login the private one cannot be read, and the public one not pushed to."""
    target = with_tokens.target(repository)
    with_tokens.client(ALICE).push(files=["chart.tgz"], target=target)
    (home / ".docker" / "config.json").unlink()
    with pytest.raises(ValueError, match="Unauthorized"):
        with_tokens.client().pull(target=target, outdir=str(home / "out"))
    public = f"public/{repository}"
    with pytest.raises(ValueError, match="UNAUTHORIZED"):
        with_tokens.client().push(files=["chart.tgz"], target=with_tokens.target(public))
    with_tokens.assert_absent(public)
