"""The documents of ACR's own API, under `/acr/v1`.

Names and shapes are those of ACR's description ("Azure Container Registry", 2021-07-01), and of
what its SDKs read. Times are RFC 3339 with seven digits and `Z`, as ACR writes them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from portside.spec.errors import AttributesInvalid, ParameterInvalid, RestoreInvalid
from portside.spec.locks import NOTHING, Lock, LockChange
from portside.spec.platforms import parse_index

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class ChangeableAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """What may be done with an object, whoever asks; false is a lock."""

    delete_enabled: bool
    write_enabled: bool
    read_enabled: bool
    list_enabled: bool


class AttributesChange(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """The attributes that a PATCH changes; the others stay as they are."""

    delete_enabled: bool | UnsetType = UNSET
    write_enabled: bool | UnsetType = UNSET
    read_enabled: bool | UnsetType = UNSET
    list_enabled: bool | UnsetType = UNSET


class RepositoryAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """A repository."""

    registry: str
    image_name: str
    created_time: Time
    last_update_time: Time
    manifest_count: int
    tag_count: int
    changeable_attributes: ChangeableAttributes


class DeletedRepository(msgspec.Struct, frozen=True, rename="camel"):
    """What was deleted with a repository."""

    manifests_deleted: list[str]
    tags_deleted: list[str]


class TagAttributesBase(msgspec.Struct, frozen=True, rename="camel"):
    """A tag; `signed` is about Docker Content Trust, which is not offered."""

    name: str
    digest: str
    created_time: Time
    last_update_time: Time
    changeable_attributes: ChangeableAttributes
    signed: bool = False


class TagAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """A tag, and where it is."""

    registry: str
    image_name: str
    tag: TagAttributesBase


class TagList(msgspec.Struct, frozen=True, rename="camel"):
    """A page of tags; None if there are none, which is what ACR's clients look for."""

    registry: str
    image_name: str
    tags: list[TagAttributesBase] | None


class ReferenceAttributes(msgspec.Struct, frozen=True, omit_defaults=True):
    """A manifest that an index lists, and what it runs on."""

    digest: str
    architecture: str | UnsetType = UNSET
    os: str | UnsetType = UNSET


class ManifestAttributesBase(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A manifest; `image_size` is in bytes."""

    digest: str
    image_size: int
    created_time: Time
    last_update_time: Time
    media_type: str
    changeable_attributes: ChangeableAttributes
    architecture: str | UnsetType = UNSET
    os: str | UnsetType = UNSET
    config_media_type: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    references: list[ReferenceAttributes] | UnsetType = UNSET


class ManifestAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest, and where it is."""

    registry: str
    image_name: str
    manifest: ManifestAttributesBase


class ManifestList(msgspec.Struct, frozen=True, rename="camel"):
    """A page of manifests; None if there are none, as in a list of tags."""

    registry: str
    image_name: str
    manifests: list[ManifestAttributesBase] | None


class DeletedRepositoryAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """A repository that was deleted, and can be restored."""

    created_at: Time
    deleted_at: Time
    repository: str


class DeletedRepositoryList(msgspec.Struct, frozen=True):
    """A page of deleted repositories."""

    repositories: list[DeletedRepositoryAttributes]


class DeletedManifestAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest that was deleted, and can be restored."""

    created_at: Time
    deleted_at: Time
    digest: str


class DeletedManifestList(msgspec.Struct, frozen=True, rename="camel"):
    """A page of deleted manifests; None if there are none, as in a list of manifests."""

    registry: str
    image_name: str
    manifests: list[DeletedManifestAttributes] | None


class DeletedTagAttributes(msgspec.Struct, frozen=True, rename="camel"):
    """A tag that was deleted, and what it pointed to since `created_at`."""

    created_at: Time
    deleted_at: Time
    digest: str
    tag: str


class DeletedTagList(msgspec.Struct, frozen=True, rename="camel"):
    """A page of deleted tags; None if there are none, as in a list of tags."""

    registry: str
    image_name: str
    tags: list[DeletedTagAttributes] | None


class RestoreRequest(msgspec.Struct, frozen=True):
    """The tag that a restored manifest gets; without one, those that were deleted with it."""

    tag: str | None = None


class RestoredArtifact(msgspec.Struct, frozen=True):
    """A manifest that was restored, and the tag that was asked for."""

    digest: str
    tag: str | None


def attributes_of(locks: Lock) -> ChangeableAttributes:
    """Return locks as attributes."""
    return ChangeableAttributes(
        delete_enabled=not locks & Lock.DELETE,
        write_enabled=not locks & Lock.WRITE,
        read_enabled=not locks & Lock.READ,
        list_enabled=not locks & Lock.LIST,
    )


_decode_change = msgspec.json.Decoder(AttributesChange).decode


def parse_change(body: bytes) -> LockChange:
    """Read the body of a PATCH, all of it or nothing.

    An empty body is refused: a client that lost it would take its object for locked.

    Raises AttributesInvalid.
    """
    if not body:
        raise AttributesInvalid("the body is empty; to change nothing, send {}")
    try:
        change = _decode_change(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shape = (
            "expected a JSON object with some of deleteEnabled, writeEnabled, readEnabled and"
            f" listEnabled, each true or false: {error}"
        )
        raise AttributesInvalid(shape[:600]) from error
    wanted = {
        Lock.DELETE: change.delete_enabled,
        Lock.WRITE: change.write_enabled,
        Lock.READ: change.read_enabled,
        Lock.LIST: change.list_enabled,
    }
    # Every member is one of these attributes, and no value has a colon.
    if body.count(b":") != sum(enabled is not UNSET for enabled in wanted.values()):
        raise AttributesInvalid("an attribute is there twice")
    lock = unlock = NOTHING
    for one, enabled in wanted.items():
        if enabled is True:
            unlock |= one
        elif enabled is False:
            lock |= one
    return LockChange(lock, unlock)


_decode_restore = msgspec.json.Decoder(RestoreRequest).decode


def parse_restore(body: bytes) -> str | None:
    """Read the tag that a manifest is restored with; None if the body names none, or is empty.

    Raises RestoreInvalid.
    """
    if not body:
        return None
    try:
        return _decode_restore(body).tag or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shape = f'expected a JSON object such as {{"tag": "v1"}}: {error}'
        raise RestoreInvalid(shape[:600]) from error


_FORCE = {"": False, "false": False, "true": True}


def parse_force(text: str | None) -> bool:
    """Read the parameter `force`, in any case; raises ParameterInvalid."""
    force = _FORCE.get((text or "").lower())
    if force is None:
        raise ParameterInvalid(f"force must be true or false, not {(text or '')[:40]!r}")
    return force


def references_of(index: bytes) -> list[ReferenceAttributes]:
    """Read what an index lists, in its order; nothing of one that cannot be read."""
    return [
        ReferenceAttributes(digest, platform.architecture or UNSET, platform.os or UNSET)
        for digest, platform in parse_index(index)
    ]
