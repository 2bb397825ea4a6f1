"""Media types that the registry knows."""

from __future__ import annotations

import re

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA_1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ORAS_ARTIFACT = "application/vnd.cncf.oras.artifact.manifest.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"

_KNOWN = {
    known.lower(): known
    for known in (
        OCI_MANIFEST,
        OCI_INDEX,
        DOCKER_MANIFEST,
        DOCKER_LIST,
        DOCKER_SCHEMA_1,
        DOCKER_SCHEMA_1_SIGNED,
        ORAS_ARTIFACT,
        OCI_ARTIFACT,
    )
}

IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
"""The configs that say what an image runs on."""

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
OCTET_STREAM = "application/octet-stream"

# The image-spec's "non-distributable" layers and Docker's foreign ones need not be in the registry.
_FOREIGN_PREFIXES = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


MAX_LENGTH = 255
"""Characters: 127 for a type, 127 for a subtype, and the slash."""

# RFC 6838, section 4.2: type-name "/" subtype-name, of 127 characters each at most.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


def is_media_type(text: str) -> bool:
    """Whether a text is a media type without parameters."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def is_manifest_type(media_type: str) -> bool:
    """Whether manifests may have this type: those that are known, and other types of JSON."""
    lowered = media_type.lower()
    return lowered in _KNOWN or (
        lowered.startswith("application/") and (lowered == JSON or lowered.endswith("+json"))
    )


def essence(content_type: str) -> str:
    """Strip the parameters of a Content-Type ("type/subtype;q=1" is "type/subtype")."""
    return content_type.partition(";")[0].strip()


def canonical(media_type: str) -> str:
    """Return the usual spelling of a known type; case does not matter (RFC 9110, 8.3.1)."""
    return _KNOWN.get(media_type.lower(), media_type)


def is_foreign(media_type: str) -> bool:
    """Whether content of this type may be stored elsewhere."""
    return media_type.startswith(_FOREIGN_PREFIXES)
