"""`portside manifest`: manifests, their locks, and their end."""

from __future__ import annotations

from typing import Any

import click

from portside.cli.identity import command_actor
from portside.cli.locking import Changed, add_lock_commands, lock_words
from portside.cli.objects import (
    MANIFEST,
    ORDERS,
    REPOSITORY,
    Done,
    all_option,
    do_each,
    find_digest,
    order_option,
    read_pages,
    reference_argument,
    references_argument,
)
from portside.cli.options import CommandGroup
from portside.cli.output import (
    counted,
    iso_time,
    json_option,
    show_details,
    show_json,
    show_pages,
    shown_size,
    shown_time,
)
from portside.cli.registry import metadata_command
from portside.spec.locks import LockChange
from portside.spec.names import QualifiedReference, RepositoryName
from portside.spec.pagination import Order
from portside.spec.platforms import Platform, parse_index_platforms
from portside.stores.interfaces import MetadataStore
from portside.stores.properties import ManifestProperties
from portside.stores.usage import Freed

SHOWN_TAGS = 5
"""Tags of one manifest in a table; JSON has all."""


@click.group("manifest", cls=CommandGroup)
def manifest() -> None:
    """List, lock and delete manifests."""


@manifest.command("list")
@reference_argument(REPOSITORY)
@order_option
@all_option
@json_option
@metadata_command
async def list_manifests(
    metadata: MetadataStore,
    *,
    reference: QualifiedReference,
    order: str,
    hidden: bool,
    as_json: bool,
) -> None:
    """List the manifests of a repository."""
    name = reference.repository
    pages = read_pages(
        lambda page: metadata.list_manifest_properties(name, page, hidden=hidden),
        ORDERS[order],
        lambda found: found.digest,
    )
    await show_pages(
        pages,
        columns=("digest", "tags", "platforms", "size", "updated", "pushed by", "locks"),
        row=lambda found: (
            found.digest,
            _shown_tags(found),
            shown_platforms(found),
            shown_size(found.image_size),
            shown_time(found.updated),
            found.pushed_by or "-",
            ", ".join(lock_words(found.locks)),
        ),
        document=lambda found: _document(name, found),
        empty="No manifests.",
        as_json=as_json,
    )


@manifest.command("show")
@reference_argument(MANIFEST)
@json_option
@metadata_command
async def show_manifest(
    metadata: MetadataStore, *, reference: QualifiedReference, as_json: bool
) -> None:
    """Show a manifest, named by its digest (REPOSITORY@DIGEST) or by a tag (REPOSITORY:TAG).

    Deleting it frees the bytes that no other manifest needs, once they are collected. The second
    size is that of a manifest that is deleted with its dependents: what it lists and what refers to
    it as its subject, unless they have a tag or something else keeps them.
    """
    name = reference.repository
    digest = await find_digest(metadata, reference)
    found = await metadata.get_manifest_properties(name, digest)
    freed = await metadata.measure_manifest(name, digest)
    if as_json:
        show_json({**_document(name, found), "frees": freed._asdict()})
        return
    show_details(
        [
            ("repository", name),
            ("digest", found.digest),
            ("tags", ", ".join(found.tags) or "none"),
            ("media type", found.media_type),
            ("artifact type", found.artifact_type or "none"),
            ("config media type", found.config_media_type or "none"),
            ("platforms", shown_platforms(found) or "unknown"),
            ("size", shown_size(found.image_size)),
            ("manifest size", shown_size(found.size)),
            ("created", shown_time(found.created)),
            ("updated", shown_time(found.updated)),
            ("pushed by", found.pushed_by or "-"),
            ("last pull", "unknown" if found.pulled is None else shown_time(found.pulled)),
            ("locks", ", ".join(lock_words(found.locks)) or "none"),
            ("deleting frees", _shown_freed(freed)),
        ]
    )


def _shown_freed(freed: Freed) -> str:
    if not freed.dependents:
        return shown_size(freed.alone)
    dependents = counted(freed.dependents, "manifest")
    return f"{shown_size(freed.alone)}, or {shown_size(freed.together)} with {dependents}"


async def _change(
    metadata: MetadataStore, reference: QualifiedReference, change: LockChange
) -> Changed:
    digest = await find_digest(metadata, reference)
    found = await metadata.change_manifest(reference.repository, digest, change, by=command_actor())
    return found.locks, _document(reference.repository, found)


add_lock_commands(
    manifest,
    "manifest",
    MANIFEST,
    "Its tags can still be moved and deleted.",
    _change,
)


@manifest.command("delete")
@references_argument(MANIFEST)
@json_option
@metadata_command
async def delete_manifests(
    metadata: MetadataStore, *, references: tuple[QualifiedReference, ...], as_json: bool
) -> None:
    """Delete manifests, with all tags that point to them.

    A manifest is named by its digest (REPOSITORY@DIGEST) or by one of its tags (REPOSITORY:TAG).
    One that is locked, has a locked tag, or is listed by an index is not deleted.
    """

    async def act(reference: QualifiedReference) -> Done:
        name = reference.repository
        digest = await find_digest(metadata, reference)
        pages = read_pages(
            lambda page: metadata.list_tag_properties(name, page, digest, hidden=True),
            Order.NAME,
            lambda found: found.name,
        )
        tags = [found.name async for page in pages for found in page]
        await metadata.delete_manifest(name, digest, by=command_actor())
        lines = [f"Manifest {name}@{digest} deleted."]
        lines += [f"Tag {name}:{tag} deleted." for tag in tags]
        return Done("\n".join(lines), {"repository": name, "manifests": [digest], "tags": tags})

    await do_each(references, act, as_json=as_json)


def platforms_of(found: ManifestProperties) -> list[Platform]:
    """Return what an image runs on, or what the manifests of an index do."""
    if found.index is not None:
        return parse_index_platforms(found.index)
    platform = Platform(found.architecture, found.os)
    return [platform] if any(platform) else []


def shown_platforms(found: ManifestProperties) -> str:
    """Return the platforms for a table."""
    return ", ".join(map(str, platforms_of(found)))


def platform_documents(found: ManifestProperties) -> list[dict[str, str | None]]:
    """Return the platforms for JSON."""
    return [platform._asdict() for platform in platforms_of(found)]


def _shown_tags(found: ManifestProperties) -> str:
    more = len(found.tags) - SHOWN_TAGS
    shown = ", ".join(found.tags[:SHOWN_TAGS])
    return f"{shown} and {more} more" if more > 0 else shown


def _document(repository: RepositoryName, found: ManifestProperties) -> dict[str, Any]:
    return {
        "repository": repository,
        "digest": found.digest,
        "tags": list(found.tags),
        "media_type": found.media_type,
        "artifact_type": found.artifact_type,
        "config_media_type": found.config_media_type,
        "platforms": platform_documents(found),
        "image_size": found.image_size,
        "size": found.size,
        "created": iso_time(found.created),
        "updated": iso_time(found.updated),
        "pulled": iso_time(found.pulled),
        "pushed_by": found.pushed_by or None,
        "locks": lock_words(found.locks),
    }
