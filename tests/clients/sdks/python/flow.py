"""Do everything that azure-containerregistry can do, and print what came of it as JSON.

usage: flow.py ENDPOINT REPOSITORY [TOKEN]

Without a token the client is anonymous. REQUESTS_CA_BUNDLE names the certificate to trust.
`tests/clients/test_azure_sdks.py` says what is expected.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from azure.containerregistry import (
    ArtifactManifestOrder,
    ArtifactTagOrder,
    ContainerRegistryClient,
)
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
PAGE = 2


class StaticCredential:
    """Returns the token that it was made with, to whoever asks."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return the token, good for an hour."""
        return AccessToken(self._token, int(time.time()) + 3600)


def push(client: ContainerRegistryClient, name: str, number: int, tag: str) -> tuple[str, Any]:
    """Push an image of one layer; returns its digest and its document."""
    blobs = {
        OCI_CONFIG: f'{{"architecture":"amd64","os":"linux","author":"{number}"}}',
        OCI_LAYER: f"layer {number} of {name}",
    }
    config, layer = (
        {
            "mediaType": media_type,
            "digest": client.upload_blob(name, io.BytesIO(text.encode()))[0],
            "size": len(text),
        }
        for media_type, text in blobs.items()
    )
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [layer],
    }
    return client.set_manifest(name, document, tag=tag, media_type=OCI_MANIFEST), document


def status_of(call: Callable[[], Any]) -> int:
    """Return the status that a call fails with; 0 if it succeeds."""
    try:
        call()
    except HttpResponseError as error:
        return error.status_code or -1
    return 0


def flags(properties: Any) -> list[bool | None]:
    """Return what may be done: delete, write, read, list."""
    p = properties
    return [p.can_delete, p.can_write, p.can_read, p.can_list]


def flow(client: ContainerRegistryClient, name: str) -> dict[str, Any]:
    """Do everything, in a repository that does not exist yet."""
    pushed = [push(client, name, number, tag) for number, tag in enumerate("cab")]
    digests = [digest for digest, _ in pushed]
    document = pushed[-1][1]
    client.set_manifest(name, document, tag="latest", media_type=OCI_MANIFEST)

    def tags(**options: Any) -> list[str]:
        listed = client.list_tag_properties(name, results_per_page=PAGE, **options)
        return [tag.name for tag in listed]

    def manifests(**options: Any) -> list[str]:
        listed = client.list_manifest_properties(name, results_per_page=PAGE, **options)
        return [manifest.digest for manifest in listed]

    def set_manifest(tag: str) -> str:
        return client.set_manifest(name, document, tag=tag, media_type=OCI_MANIFEST)

    found: dict[str, Any] = {
        "digests": digests,
        "repositories": list(client.list_repository_names(results_per_page=1)),
        "tags": {
            "by name": tags(),
            "oldest first": tags(order_by=ArtifactTagOrder.LAST_UPDATED_ON_ASCENDING),
            "newest first": tags(order_by=ArtifactTagOrder.LAST_UPDATED_ON_DESCENDING),
        },
        "manifests": {
            "by digest": manifests(),
            "oldest first": manifests(order_by=ArtifactManifestOrder.LAST_UPDATED_ON_ASCENDING),
            "newest first": manifests(order_by=ArtifactManifestOrder.LAST_UPDATED_ON_DESCENDING),
        },
    }
    repository = client.get_repository_properties(name)
    found["repository"] = {
        "name": repository.name,
        "manifests": repository.manifest_count,
        "tags": repository.tag_count,
        "flags": flags(repository),
    }
    tag = client.get_tag_properties(name, "latest")
    found["tag"] = {"name": tag.name, "digest": tag.digest, "flags": flags(tag)}
    manifest = client.get_manifest_properties(name, "latest")
    found["manifest"] = {
        "digest": manifest.digest,
        "architecture": manifest.architecture,
        "os": manifest.operating_system,
        "size": manifest.size_in_bytes,
        "tags": manifest.tags,
        "flags": flags(manifest),
    }

    pulled = client.get_manifest(name, "latest")
    assert pulled.manifest is not None
    layer = pulled.manifest["layers"][0]["digest"]
    config = pulled.manifest["config"]["digest"]
    found["pulled"] = {
        "digest": pulled.digest,
        "media type": pulled.media_type,
        "config": b"".join(client.download_blob(name, config)).decode(),
        "layer": b"".join(client.download_blob(name, layer)).decode(),
    }

    found["changed"] = {
        "tag": flags(client.update_tag_properties(name, "a", can_write=False, can_delete=False)),
        "manifest": flags(
            client.update_manifest_properties(
                name, digests[0], can_write=False, can_read=False, can_list=False
            )
        ),
    }
    found["refused"] = {
        "untag": status_of(lambda: client.delete_tag(name, "a")),
        "move tag": status_of(lambda: set_manifest("a")),
        "delete manifest of tag": status_of(lambda: client.delete_manifest(name, digests[1])),
        "delete manifest": status_of(lambda: client.delete_manifest(name, digests[0])),
        "pull manifest": status_of(lambda: client.get_manifest(name, digests[0])),
        "delete repository": status_of(lambda: client.delete_repository(name)),
    }
    client.update_tag_properties(name, "a", can_write=True, can_delete=True, can_list=False)
    found["hidden"] = {"tags": tags(), "manifests": manifests()}
    client.update_tag_properties(name, "a", can_list=True)
    client.update_manifest_properties(
        name, digests[0], can_write=True, can_read=True, can_list=True
    )
    found["changed"]["repository"] = flags(
        client.update_repository_properties(name, can_write=False)
    )
    found["refused in a locked repository"] = {
        "push": status_of(lambda: set_manifest("new")),
        "untag": status_of(lambda: client.delete_tag(name, "c")),
        "delete manifest": status_of(lambda: client.delete_manifest(name, digests[0])),
        "delete repository": status_of(lambda: client.delete_repository(name)),
    }
    found["unlocked"] = flags(client.update_repository_properties(name, can_write=True))

    gone = {}
    client.delete_tag(name, "c")
    client.delete_tag(name, "c")
    gone["tag"] = status_of(lambda: client.get_tag_properties(name, "c"))
    client.delete_manifest(name, digests[0])
    client.delete_manifest(name, digests[0])
    gone["manifest"] = status_of(lambda: client.get_manifest_properties(name, digests[0]))
    unused = pushed[0][1]["layers"][0]["digest"]
    client.delete_blob(name, unused)
    gone["blob"] = status_of(lambda: list(client.download_blob(name, unused)))
    client.delete_repository(name)
    client.delete_repository(name)
    gone["repository"] = status_of(lambda: client.get_repository_properties(name))
    found["gone"] = gone
    return found


def main(endpoint: str, repository: str, token: str | None = None) -> None:
    """Print what the flow found."""
    credential = StaticCredential(token) if token is not None else None
    with ContainerRegistryClient(endpoint, credential) as client:
        sys.stdout.write(json.dumps(flow(client, repository)))


if __name__ == "__main__":
    main(*sys.argv[1:])
