"""`portside repository`: repositories, their locks, and their end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from portside.cli.identity import command_actor
from portside.cli.locking import Changed, add_lock_commands, lock_words
from portside.cli.objects import PAGE, REPOSITORY, all_option, reference_argument
from portside.cli.options import CommandGroup, settings_options
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
from portside.cli.registry import (
    BLOBS,
    REGISTRY,
    metadata_command,
    opened_metadata,
    opened_registry,
    read_settings,
)
from portside.config import Settings
from portside.operations.delete import Delete
from portside.spec.locks import LockChange
from portside.spec.names import QualifiedReference, RepositoryName
from portside.spec.pagination import PageRequest
from portside.stores.interfaces import MetadataStore
from portside.stores.properties import Deleted, RepositoryProperties


@click.group("repository", cls=CommandGroup)
def repository() -> None:
    """List, lock and delete repositories."""


@repository.command("list")
@all_option
@json_option
@metadata_command
async def list_repositories(metadata: MetadataStore, *, hidden: bool, as_json: bool) -> None:
    """List repositories, sorted by name."""

    async def read() -> AsyncIterator[list[tuple[RepositoryProperties, int]]]:
        last = ""
        while True:
            page = await metadata.list_repository_properties(PageRequest(PAGE, last), hidden=hidden)
            sizes = await metadata.measure_repositories([found.name for found in page.items])
            yield [(found, sizes[found.name]) for found in page.items]
            if not page.more:
                return
            last = page.items[-1].name

    await show_pages(
        read(),
        columns=("name", "manifests", "tags", "size", "created", "updated", "locks"),
        row=lambda item: _row(*item),
        document=lambda item: _document(*item),
        empty="No repositories.",
        as_json=as_json,
    )


@repository.command("show")
@reference_argument(REPOSITORY)
@json_option
@metadata_command
async def show_repository(
    metadata: MetadataStore, *, reference: QualifiedReference, as_json: bool
) -> None:
    """Show a repository."""
    found = await metadata.get_repository(reference.repository)
    size = (await metadata.measure_repositories([found.name]))[found.name]
    if as_json:
        show_json(_document(found, size))
        return
    show_details(
        [
            ("name", found.name),
            ("manifests", str(found.manifest_count)),
            ("tags", str(found.tag_count)),
            ("size", shown_size(size)),
            ("created", shown_time(found.created)),
            ("updated", shown_time(found.updated)),
            ("locks", ", ".join(lock_words(found.locks)) or "none"),
        ]
    )


async def _change(
    metadata: MetadataStore, reference: QualifiedReference, change: LockChange
) -> Changed:
    found = await metadata.change_repository(reference.repository, change, by=command_actor())
    size = (await metadata.measure_repositories([found.name]))[found.name]
    return found.locks, _document(found, size)


add_lock_commands(
    repository,
    "repository",
    REPOSITORY,
    "A lock against overwriting protects everything in the repository, one against deleting alone"
    " only the repository itself.",
    _change,
)


@repository.command("delete")
@reference_argument(REPOSITORY)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@settings_options(*REGISTRY, *BLOBS)
def delete_repository(
    *, reference: QualifiedReference, yes: bool, as_json: bool, **given: Any
) -> None:
    """Delete a repository: all its manifests, tags and blobs.

    Nothing is deleted if the repository, a tag or a manifest in it is locked. Blobs that other
    repositories use stay there.
    """
    settings = read_settings(given)
    name = reference.repository
    if not yes:
        _confirm(asyncio.run(_get(settings, name)))
    deleted = asyncio.run(_delete(settings, name))
    if as_json:
        show_json({"repository": name, **deleted._asdict()})
    else:
        manifests, tags = len(deleted.manifests), len(deleted.tags)
        went = f"{counted(manifests, 'manifest')}, {counted(tags, 'tag')}"
        click.echo(f"Repository {name} deleted: {went}.")


async def _get(settings: Settings, name: RepositoryName) -> RepositoryProperties:
    async with opened_metadata(settings) as metadata:
        return await metadata.get_repository(name)


async def _delete(settings: Settings, name: RepositoryName) -> Deleted:
    async with opened_registry(settings) as stores:
        await stores.require_storage()
        # --no-delete is for clients.
        delete = Delete(stores.metadata, stores.blobs, allowed=True)
        return await delete.repository(name, by=command_actor())


def _confirm(found: RepositoryProperties) -> None:
    """Ask whether a repository is to be deleted; raises UsageError and Abort."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("cannot ask for confirmation without a terminal; use --yes")
    content = f"{counted(found.manifest_count, 'manifest')} and {counted(found.tag_count, 'tag')}"
    click.confirm(f"Delete repository {found.name} with {content}?", abort=True, err=True)


def _row(found: RepositoryProperties, size: int) -> tuple[str, ...]:
    return (
        found.name,
        str(found.manifest_count),
        str(found.tag_count),
        shown_size(size),
        shown_time(found.created),
        shown_time(found.updated),
        ", ".join(lock_words(found.locks)),
    )


def _document(found: RepositoryProperties, size: int) -> dict[str, Any]:
    return {
        "name": found.name,
        "manifests": found.manifest_count,
        "tags": found.tag_count,
        "bytes": size,
        "created": iso_time(found.created),
        "updated": iso_time(found.updated),
        "locks": lock_words(found.locks),
    }
