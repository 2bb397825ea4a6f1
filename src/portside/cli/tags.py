"""`portside tag`: tags, their locks, and their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import click

from portside.cli.identity import command_actor
from portside.cli.locking import Changed, add_lock_commands, lock_words
from portside.cli.manifests import platform_documents, shown_platforms
from portside.cli.objects import (
    ORDERS,
    REPOSITORY,
    TAG,
    Done,
    all_option,
    do_each,
    order_option,
    read_pages,
    reference_argument,
    references_argument,
)
from portside.cli.options import CommandGroup
from portside.cli.output import (
    iso_time,
    json_option,
    show_details,
    show_json,
    show_pages,
    shown_size,
    shown_time,
)
from portside.cli.registry import metadata_command
from portside.cli.tag_history import restore_tag, show_history
from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.locks import LockChange
from portside.spec.names import QualifiedReference, RepositoryName
from portside.spec.pagination import Order
from portside.stores.interfaces import MetadataStore
from portside.stores.properties import ManifestProperties, TagProperties


class _TaggedManifest(NamedTuple):
    """A tag with its manifest, None if that was deleted a moment ago."""

    tag: TagProperties
    manifest: ManifestProperties | None


@click.group("tag", cls=CommandGroup)
def tag() -> None:
    """List, lock, delete and restore tags."""


tag.add_command(show_history)
tag.add_command(restore_tag)


@tag.command("list")
@reference_argument(REPOSITORY)
@click.option("--manifest", "of_manifest", metavar="DIGEST", help="List the tags of one manifest.")
@order_option
@all_option
@json_option
@metadata_command
async def list_tags(
    metadata: MetadataStore,
    *,
    reference: QualifiedReference,
    of_manifest: str | None,
    order: str,
    hidden: bool,
    as_json: bool,
) -> None:
    """List the tags of a repository."""
    name = reference.repository
    digest = _parse_digest(of_manifest) if of_manifest is not None else None
    if digest is not None:
        await metadata.get_manifest_properties(name, digest)
    await show_pages(
        _read(metadata, name, digest, ORDERS[order], hidden=hidden),
        columns=("name", "platforms", "size", "updated", "pushed by", "locks", "digest"),
        row=_row,
        document=lambda found: _document(name, found),
        empty="No tags.",
        as_json=as_json,
    )


@tag.command("show")
@reference_argument(TAG)
@json_option
@metadata_command
async def show_tag(
    metadata: MetadataStore, *, reference: QualifiedReference, as_json: bool
) -> None:
    """Show a tag, and what its manifest is."""
    name, wanted = reference.named_tag
    found = await _with_manifest(metadata, name, await metadata.get_tag(name, wanted))
    if as_json:
        show_json(_document(name, found))
        return
    described, manifest = found
    pairs = [("repository", name), ("name", described.name), ("digest", described.digest)]
    if manifest is not None:
        pairs += [
            ("media type", manifest.media_type),
            ("platforms", shown_platforms(manifest) or "unknown"),
            ("size", shown_size(manifest.image_size)),
            ("pushed by", manifest.pushed_by or "-"),
        ]
    pairs += [
        ("created", shown_time(described.created)),
        ("updated", shown_time(described.updated)),
        ("locks", ", ".join(lock_words(described.locks)) or "none"),
    ]
    show_details(pairs)


async def _change(
    metadata: MetadataStore, reference: QualifiedReference, change: LockChange
) -> Changed:
    name, wanted = reference.named_tag
    found = await metadata.change_tag(name, wanted, change, by=command_actor())
    return found.locks, _document(name, await _with_manifest(metadata, name, found))


add_lock_commands(
    tag,
    "tag",
    TAG,
    "The manifest that a locked tag points to cannot be deleted either.",
    _change,
)


@tag.command("delete")
@references_argument(TAG)
@json_option
@metadata_command
async def delete_tags(
    metadata: MetadataStore, *, references: tuple[QualifiedReference, ...], as_json: bool
) -> None:
    """Delete tags; their manifests stay.

    A locked tag is not deleted.
    """

    async def act(reference: QualifiedReference) -> Done:
        name, wanted = reference.named_tag
        await metadata.delete_tag(name, wanted, by=command_actor())
        document = {"repository": name, "manifests": [], "tags": [wanted]}
        return Done(f"Tag {reference} deleted.", document)

    await do_each(references, act, as_json=as_json)


async def _read(
    metadata: MetadataStore,
    name: RepositoryName,
    digest: Digest | None,
    order: Order,
    *,
    hidden: bool,
) -> AsyncIterator[list[_TaggedManifest]]:
    pages = read_pages(
        lambda page: metadata.list_tag_properties(name, page, digest, hidden=hidden),
        order,
        lambda found: found.name,
    )
    async for page in pages:
        digests = [Digest(found.digest) for found in page]
        described = await metadata.describe_manifests(name, digests) if page else []
        manifests = {found.digest: found for found in described}
        yield [_TaggedManifest(found, manifests.get(found.digest)) for found in page]


async def _with_manifest(
    metadata: MetadataStore, name: RepositoryName, found: TagProperties
) -> _TaggedManifest:
    manifests = await metadata.describe_manifests(name, [Digest(found.digest)])
    return _TaggedManifest(found, manifests[0] if manifests else None)


def _parse_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except RegistryError as error:
        raise click.UsageError("; ".join(error.details)) from error


def _row(found: _TaggedManifest) -> tuple[str, ...]:
    described, manifest = found
    return (
        described.name,
        shown_platforms(manifest) if manifest else "",
        shown_size(manifest.image_size if manifest else None),
        shown_time(described.updated),
        (manifest and manifest.pushed_by) or "-",
        ", ".join(lock_words(described.locks)),
        described.digest,
    )


def _document(repository: RepositoryName, found: _TaggedManifest) -> dict[str, Any]:
    described, manifest = found
    return {
        "repository": repository,
        "name": described.name,
        "digest": described.digest,
        "created": iso_time(described.created),
        "updated": iso_time(described.updated),
        "locks": lock_words(described.locks),
        "media_type": manifest.media_type if manifest else None,
        "platforms": platform_documents(manifest) if manifest else [],
        "image_size": manifest.image_size if manifest else None,
        "pushed_by": (manifest.pushed_by or None) if manifest else None,
    }
