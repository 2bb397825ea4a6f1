"""Where things are, as relative references: they hold behind every proxy and for every client."""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession


def blob_location(repository: RepositoryName, digest: Digest) -> str:
    """Give the path of a blob."""
    return f"/v2/{repository}/blobs/{digest}"


def manifest_location(repository: RepositoryName, digest: Digest) -> str:
    """Give the path of a manifest."""
    return f"/v2/{repository}/manifests/{digest}"


def upload_location(session: UploadSession) -> str:
    """Give the path of an upload session."""
    return f"/v2/{session.repository}/blobs/uploads/{session.id}"
