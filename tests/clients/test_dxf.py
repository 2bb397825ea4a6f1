"""python-dxf logs in as its scopes are challenged, and pushes, tags, mounts, pulls and deletes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from dxf import DXF, DXFBase

from support.access import ALICE, PULLER, Login, guarded_registry
from support.certificates import write_certificate
from support.content import digest_of
from support.server import RunningRegistry


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write a certificate and its key: this client sends passwords by TLS alone."""
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[RunningRegistry]:
    """Serve with access control and TLS."""
    options = ("--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]))
    data = tmp_path_factory.mktemp("dxf") / "data"
    with guarded_registry(data, *options) as running:
        yield running


class Dxf:
    """Makes clients of one registry, which log in when they are challenged."""

    def __init__(self, registry: RunningRegistry, certificate: Path) -> None:
        self._host = registry.address
        self._certificate = str(certificate)

    def repository(self, name: str, login: Login) -> DXF:
        """Return a client of one repository."""

        def authenticate(client: DXFBase, response: requests.Response) -> None:
            client.authenticate(*login.pair, response=response)

        return DXF(self._host, name, authenticate, tlsverify=self._certificate)


@pytest.fixture
def dxf(guarded: RunningRegistry, certificate: tuple[Path, Path]) -> Dxf:
    """Return the way to make clients."""
    return Dxf(guarded, certificate[0])


def pulled(client: DXF, digest: str) -> bytes:
    """Pull a blob whole."""
    pieces = client.pull_blob(digest)
    assert not isinstance(pieces, tuple)
    return b"".join(pieces)


def test_push_tag_pull_delete(dxf: Dxf, repository: str, tmp_path: Path) -> None:
    """A file comes back, by its alias as well; the alias is listed and deleted."""
    content = b"some content" * 1000
    path = tmp_path / "content"
    path.write_bytes(content)
    with dxf.repository(repository, ALICE) as client:
        digest = client.push_blob(str(path))
        assert digest == digest_of(content)
        client.set_alias("latest", digest)
        assert client.list_aliases() == ["latest"]
        assert client.get_alias("latest") == [digest]
        assert pulled(client, digest) == content
        client.del_alias("latest")
        assert client.list_aliases() == []


def test_mount(dxf: Dxf, repository: str, tmp_path: Path) -> None:
    """A blob is mounted from another repository by a client that learns its scopes on the way."""
    path = tmp_path / "content"
    path.write_bytes(repository.encode())
    with (
        dxf.repository(f"{repository}/source", ALICE) as source,
        dxf.repository(repository, ALICE) as target,
    ):
        digest = source.push_blob(str(path))
        target.mount_blob(f"{repository}/source", digest)
        assert pulled(target, digest) == repository.encode()


def test_refused(dxf: Dxf, tmp_path: Path) -> None:
    """A token that may only pull is refused when it pushes."""
    path = tmp_path / "content"
    path.write_bytes(b"content")
    with (
        dxf.repository("team/refused", PULLER) as client,
        pytest.raises(requests.HTTPError, match=r"401|403"),
    ):
        client.push_blob(str(path))
