"""Microsoft's azure-containerregistry against access control, over TLS."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from azure.containerregistry import ContainerRegistryClient
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError

from support.access import ALICE, PULLER, PUSHER, VICTIM, guarded_registry
from support.certificates import write_certificate
from support.content import OCI_CONFIG, OCI_MANIFEST, descriptor, make_blob
from support.waiting import PATIENCE


@dataclass(frozen=True)
class Credential:
    """What the SDK takes for a credential of Entra: its token is one of Portside's."""

    token: str

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Return the token."""
        return AccessToken(self.token, int(time.time()) + 3600)


@dataclass(frozen=True)
class Azure:
    """A registry that serves TLS, and clients of it."""

    url: str
    certificate: str

    def client(self, token: str | None = None) -> ContainerRegistryClient:
        """Make an authenticated client, or the anonymous one."""
        return ContainerRegistryClient(
            self.url,
            Credential(token) if token is not None else None,
            api_version="2021-07-01",
            audience="https://containerregistry.azure.net",
            connection_verify=self.certificate,
        )

    def refresh_token(self, name: str, password: str) -> str:
        """Ask for a refresh token, as `az acr login` does."""
        answer = httpx.post(
            f"{self.url}/oauth2/exchange",
            data={"grant_type": "access_token", "access_token": f"{name}:{password}"},
            verify=ssl.create_default_context(cafile=self.certificate),
            timeout=PATIENCE,
        )
        return str(answer.json()["refresh_token"])


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """Serve TLS with access control."""
    folder = tmp_path_factory.mktemp("azure")
    certificate, key = write_certificate(folder)
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with guarded_registry(folder / "data", *options) as registry:
        yield Azure(registry.url, str(certificate))


@pytest.fixture
def alice(azure: Azure) -> Iterator[ContainerRegistryClient]:
    """Return the client of a user who may do everything."""
    with azure.client(ALICE.text) as client:
        yield client


def manifest(seed: str) -> tuple[bytes, dict[str, Any]]:
    """Make an image without layers: its config, and its manifest."""
    config = f'{{"architecture": "amd64", "os": "linux", "seed": "{seed}"}}'.encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [],
    }
    return config, document


def assert_everything_works(client: ContainerRegistryClient, repository: str, size: int) -> None:
    """Push, pull and delete a blob and a manifest."""
    content = make_blob(size, repository)
    digest, uploaded = client.upload_blob(repository, io.BytesIO(content))
    assert uploaded == size
    assert b"".join(client.download_blob(repository, digest)) == content
    client.delete_blob(repository, digest)
    with pytest.raises(ResourceNotFoundError):
        list(client.download_blob(repository, digest))
    config, document = manifest(repository)
    client.upload_blob(repository, io.BytesIO(config))
    pushed = client.set_manifest(repository, document, tag="v1", media_type=OCI_MANIFEST)
    assert client.get_manifest(repository, "v1").digest == pushed
    client.delete_manifest(repository, pushed)
    with pytest.raises(ResourceNotFoundError):
        client.get_manifest(repository, pushed)


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_name_and_password(alice: ContainerRegistryClient, repository: str, size: int) -> None:
    """NAME:PASSWORD is exchanged for a refresh token, with which everything works."""
    assert_everything_works(alice, repository, size)


def test_refresh_token(azure: Azure, repository: str) -> None:
    """A refresh token is a credential as well."""
    with azure.client(azure.refresh_token(*ALICE.pair)) as client:
        assert_everything_works(client, repository, 10)


def test_anonymous_client(azure: Azure, alice: ContainerRegistryClient, repository: str) -> None:
    """The anonymous client reads the public repository; it does nothing else."""
    content = make_blob(100, repository)
    public, private = f"public/{repository}", f"private/{repository}"
    config, document = manifest(repository)
    for name in (public, private):
        digest, _ = alice.upload_blob(name, io.BytesIO(content))
        alice.upload_blob(name, io.BytesIO(config))
        alice.set_manifest(name, document, tag="v1", media_type=OCI_MANIFEST)
    with azure.client() as nobody:
        assert b"".join(nobody.download_blob(public, digest)) == content
        assert nobody.get_manifest(public, "v1").manifest == document
        for refused in (
            lambda: list(nobody.download_blob(private, digest)),
            lambda: nobody.get_manifest(private, "v1"),
            lambda: nobody.upload_blob(public, io.BytesIO(b"new")),
            lambda: nobody.delete_blob(public, digest),
        ):
            with pytest.raises(ClientAuthenticationError):
                refused()
        assert b"".join(nobody.download_blob(public, digest)) == content


def test_pull_only(azure: Azure, repository: str) -> None:
    """A token that may only pull downloads; what else it tries is refused as ACR refuses it."""
    name, content = f"team/{repository}", make_blob(100, repository)
    _, document = manifest(repository)
    with azure.client(PUSHER.text) as pusher, azure.client(PULLER.text) as puller:
        digest, _ = pusher.upload_blob(name, io.BytesIO(content))
        assert b"".join(puller.download_blob(name, digest)) == content
        for denied in (
            lambda: puller.upload_blob(name, io.BytesIO(b"new")),
            lambda: puller.set_manifest(name, document, media_type=OCI_MANIFEST),
            lambda: puller.delete_blob(name, digest),
            lambda: list(puller.download_blob(f"private/{repository}", digest)),
        ):
            with pytest.raises(ClientAuthenticationError, match="Unauthorized"):
                denied()
        assert b"".join(puller.download_blob(name, digest)) == content


def test_read_only_properties(azure: Azure, repository: str) -> None:
    """A token that may read properties lists and shows; it changes and deletes nothing."""
    name = f"team/{repository}"
    config, document = manifest(repository)
    with azure.client(PUSHER.text) as pusher, azure.client(PULLER.text) as puller:
        pusher.upload_blob(name, io.BytesIO(config))
        digest = pusher.set_manifest(name, document, tag="v1", media_type=OCI_MANIFEST)
        for denied in (
            lambda: puller.update_repository_properties(name, can_write=False),
            lambda: puller.update_tag_properties(name, "v1", can_delete=False),
            lambda: puller.update_manifest_properties(name, digest, can_read=False),
            lambda: puller.delete_tag(name, "v1"),
            lambda: puller.delete_manifest(name, digest),
            lambda: puller.delete_repository(name),
            lambda: pusher.get_repository_properties(name),
            lambda: list(pusher.list_tag_properties(name)),
        ):
            with pytest.raises(ClientAuthenticationError):
                denied()
        assert name in list(puller.list_repository_names(results_per_page=1))
        assert [tag.name for tag in puller.list_tag_properties(name)] == ["v1"]
        shown = puller.get_manifest_properties(name, "v1")
        assert (shown.digest, shown.can_read) == (digest, True)
        assert puller.get_repository_properties(name).can_write is True


def test_anonymous_properties(
    azure: Azure, alice: ContainerRegistryClient, repository: str
) -> None:
    """The anonymous client, who may only pull, is refused properties of what it may pull."""
    public = f"public/{repository}"
    config, document = manifest(repository)
    alice.upload_blob(public, io.BytesIO(config))
    alice.set_manifest(public, document, tag="v1", media_type=OCI_MANIFEST)
    with azure.client() as nobody:
        assert nobody.get_manifest(public, "v1").manifest == document
        for refused in (
            lambda: nobody.get_repository_properties(public),
            lambda: list(nobody.list_tag_properties(public)),
            lambda: nobody.update_tag_properties(public, "v1", can_write=False),
            lambda: nobody.delete_repository(public),
        ):
            with pytest.raises(ClientAuthenticationError):
                refused()
    assert alice.get_tag_properties(public, "v1").can_write is True


@pytest.mark.parametrize("token", [f"{VICTIM.name}:a wrong password", "a.b.c", "nothing"])
def test_wrong_credential(azure: Azure, repository: str, token: str) -> None:
    """Credentials that are not the registry's are not exchanged."""
    with azure.client(token) as client, pytest.raises(ClientAuthenticationError):
        client.get_manifest(f"private/{repository}", "v1")


def test_forged_refresh_token(azure: Azure, repository: str) -> None:
    """A refresh token that was changed by a character is none."""
    token = azure.refresh_token(*PUSHER.pair)
    changed = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    with azure.client(changed) as client, pytest.raises(ClientAuthenticationError):
        client.get_manifest(f"team/{repository}", "v1")
