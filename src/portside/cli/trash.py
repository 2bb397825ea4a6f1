"""`portside trash`: what was deleted, and how it comes back or goes for good."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from portside.bootstrap import now
from portside.bootstrap.periods import as_served
from portside.cli.identity import command_actor
from portside.cli.objects import PAGE, Done, ReferenceForm, do_each, references_argument
from portside.cli.options import CommandGroup, settings_options
from portside.cli.output import (
    counted,
    iso_time,
    json_option,
    show_json,
    show_pages,
    shown_size,
    shown_time,
)
from portside.cli.registry import REGISTRY, opened_metadata, read_settings, registry_command
from portside.config import Settings
from portside.operations.restore import Restore
from portside.spec.errors import NameUnknown
from portside.spec.names import QualifiedReference, RepositoryName
from portside.spec.pagination import START, Order, OrderedPageRequest, Page, PageRequest, Position
from portside.spec.patterns import EVERY_NAME, NameRange, PatternInvalid, RepositoryPattern
from portside.stores.interfaces import MetadataStore
from portside.stores.trash import TrashedManifest, TrashedRepository, TrashedTag

Command = TypeVar("Command", bound=Callable[..., Any])
Trashed = TypeVar("Trashed", TrashedManifest, TrashedTag)

DELETED = ReferenceForm("REPOSITORY, REPOSITORY@DIGEST or REPOSITORY:TAG", lambda _: True)
PURGED = ReferenceForm("REPOSITORY@DIGEST", lambda given: bool(given.digest) and not given.tag)


class _Item(NamedTuple):
    """A line of the list: `what` is the argument that restores it."""

    what: str
    kind: str
    deleted: int
    deleted_by: str
    size: int | None
    content: str
    document: dict[str, Any]


def _parse_pattern(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[NameRange, ...]:
    """Return the names that a pattern matches, or all; raises BadParameter."""
    if text is None:
        return EVERY_NAME
    try:
        return (RepositoryPattern.parse(text).names,)
    except PatternInvalid as error:
        raise click.BadParameter(str(error)) from error


def _pattern_option(help_text: str) -> Callable[[Command], Command]:
    return click.option(
        "--repository", "names", metavar="PATTERN", callback=_parse_pattern, help=help_text
    )


@click.group("trash", cls=CommandGroup)
def trash() -> None:
    """List, restore and purge what was deleted."""


@trash.command("list")
@_pattern_option("List only these repositories, such as 'team/*'.")
@json_option
@registry_command("keep_deleted")
async def list_trash(*, names: tuple[NameRange, ...], as_json: bool, **given: Any) -> None:
    """List what was deleted and can be restored.

    The first column is what `portside trash restore` takes. Each repository has its deleted
    manifests before its deleted tags, the longest deleted first. A tag that was deleted with its
    manifest is shown with it. What can be restored depends on the --keep-deleted of the server that
    was started last, unless this command is given another value.
    """
    settings = read_settings(given)
    async with opened_metadata(settings) as metadata:
        restore = _restore(await as_served(settings, metadata, given), metadata)

        def document(item: _Item) -> dict[str, Any]:
            return {
                "kind": item.kind,
                **item.document,
                "deleted": iso_time(item.deleted),
                "deleted_by": item.deleted_by or None,
                "kept_until": iso_time(restore.kept_until(item.deleted)),
            }

        await show_pages(
            _read(restore, names),
            columns=("deleted content", "deleted", "by", "kept until", "size", "with"),
            row=lambda item: (
                item.what,
                shown_time(item.deleted),
                item.deleted_by or "-",
                shown_time(restore.kept_until(item.deleted)),
                shown_size(item.size) if item.kind == "manifest" else "",
                item.content,
            ),
            document=document,
            empty="Nothing that was deleted can be restored.",
            as_json=as_json,
        )


@trash.command("restore")
@references_argument(DELETED)
@click.option("--force", is_flag=True, help="Move a tag that points to another manifest by now.")
@json_option
@registry_command("keep_deleted")
async def restore_deleted(
    *, references: tuple[QualifiedReference, ...], force: bool, as_json: bool, **given: Any
) -> None:
    """Restore deleted repositories, manifests (REPOSITORY@DIGEST) and tags (REPOSITORY:TAG).

    A repository comes back as it was when it was deleted; in one that is in use, all deleted
    manifests come back. A manifest comes back with what it refers to, and with the tags that were
    deleted with it. A tag points again to what it pointed to last, and that manifest is restored if
    it was deleted; REPOSITORY:TAG@DIGEST names another manifest. A tag that was pushed again since
    stays where it points.

    A manifest of a repository stays in the trash if something that it needs was purged. It is
    named, and the exit code is 1.
    """
    settings = read_settings(given)
    incomplete: list[str] = []
    async with opened_metadata(settings) as metadata:
        restore = _restore(await as_served(settings, metadata, given), metadata)

        async def act(reference: QualifiedReference) -> Done:
            done = await _restore_one(restore, reference, force=force)
            incomplete.extend(done.document["incomplete"])
            return done

        await do_each(references, act, as_json=as_json)
    if incomplete:
        sys.exit(1)


@trash.command("empty")
@references_argument(PURGED, required=False)
@_pattern_option("Purge only what was deleted in these repositories, such as 'team/*'.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@settings_options(*REGISTRY, "keep_deleted")
def empty_trash(
    *,
    references: tuple[QualifiedReference, ...],
    names: tuple[NameRange, ...],
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Purge deleted manifests now, all or those that are named; they cannot be restored any more.

    A manifest that is named (REPOSITORY@DIGEST) goes with what `portside trash restore` would
    restore with it, and with the deleted indexes that list it. What another index lists stays.

    Their space is free once the garbage collector has removed their blobs; `portside collect
    --grace 0` does so at once. Deleted tags of manifests that are still there take up no space, and
    can be restored nevertheless.
    """
    settings = read_settings(given)
    if references and names != EVERY_NAME:
        raise click.UsageError("--repository cannot be combined with REPOSITORY@DIGEST")
    if not yes:
        found = len(references) or asyncio.run(_count(settings, names))
        _confirm(found, with_others=bool(references))
    if references:
        asyncio.run(_purge(settings, references, as_json=as_json))
        return
    purged = asyncio.run(_empty(settings, names))
    if as_json:
        show_json({"manifests": purged})
    else:
        click.echo(f"{counted(purged, 'deleted manifest')} purged.")


def _restore(settings: Settings, metadata: MetadataStore) -> Restore:
    return Restore(metadata, keep=settings.keep_deleted * 1_000_000, clock=now)


async def _read(restore: Restore, names: Sequence[NameRange]) -> AsyncIterator[list[_Item]]:
    """Read the trash repository by repository, page by page."""
    last, more = "", True
    while more:
        page = await restore.repositories(PageRequest(PAGE, last), names)
        more = page.more
        for found in page.items:
            last = found.name
            if found.deleted is not None:
                yield [_of_repository(found, found.deleted)]
            name = RepositoryName(found.name)
            async for manifests in _pages(restore.manifests, name):
                yield [_of_manifest(name, manifest) for manifest in manifests]
            async for tags in _pages(restore.tags, name):
                yield [_of_tag(name, tag) for tag in tags if not _went_with_manifest(tag)]


async def _pages(
    read: Callable[[RepositoryName, OrderedPageRequest], Awaitable[Page[Trashed]]],
    name: RepositoryName,
) -> AsyncIterator[Sequence[Trashed]]:
    """Read a list of a repository page by page; it is empty if all was purged by now."""
    after, more = START[Order.OLDEST_FIRST], True
    while more:
        try:
            page = await read(name, OrderedPageRequest(PAGE, Order.OLDEST_FIRST, after))
        except NameUnknown:
            return
        yield page.items
        more = page.more
        if more:
            last = page.items[-1]
            named = last.name if isinstance(last, TrashedTag) else last.digest
            after = Position(last.deleted, named)


def _of_repository(found: TrashedRepository, deleted: int) -> _Item:
    return _Item(
        what=found.name,
        kind="repository",
        deleted=deleted,
        deleted_by=found.deleted_by,
        size=None,
        content=f"{counted(found.manifests, 'manifest')}, {counted(found.tags, 'tag')}",
        document={
            "repository": found.name,
            "manifests": found.manifests,
            "tags": found.tags,
            "created": iso_time(found.created),
        },
    )


def _of_manifest(repository: RepositoryName, found: TrashedManifest) -> _Item:
    return _Item(
        what=f"{repository}@{found.digest}",
        kind="manifest",
        deleted=found.deleted,
        deleted_by=found.deleted_by,
        size=found.image_size,
        content=", ".join(found.tags),
        document={
            "repository": repository,
            "digest": found.digest,
            "media_type": found.media_type,
            "size": found.size,
            "image_size": found.image_size,
            "tags": list(found.tags),
            "created": iso_time(found.created),
        },
    )


def _of_tag(repository: RepositoryName, found: TrashedTag) -> _Item:
    return _Item(
        what=f"{repository}:{found.name}",
        kind="tag",
        deleted=found.deleted,
        deleted_by=found.deleted_by,
        size=None,
        content=found.digest,
        document={
            "repository": repository,
            "tag": found.name,
            "digest": found.digest,
            "created": iso_time(found.created),
        },
    )


def _went_with_manifest(tag: TrashedTag) -> bool:
    return tag.manifest_deleted is not None and tag.deleted >= tag.manifest_deleted


async def _restore_one(restore: Restore, reference: QualifiedReference, *, force: bool) -> Done:
    name, tag, digest = reference
    by = command_actor()
    incomplete: list[str] = []
    if tag is not None:
        image = await restore.tag(name, tag, digest, force=force, by=by)
        manifests, tags = image.manifests, [str(tag)]
        lines = [f"Tag {name}:{tag} restored; it points to {image.digest}."]
    elif digest is not None:
        manifests, tags, incomplete = await restore.manifest(name, digest, by=by)
        others = counted(len(manifests) - 1, "other manifest")
        lines = [f"Manifest {reference} restored, with {others} and {counted(len(tags), 'tag')}."]
    else:
        manifests, tags, incomplete = await restore.repository(name, by=by)
        content = f"{counted(len(manifests), 'manifest')}, {counted(len(tags), 'tag')}"
        lines = [f"Repository {name} restored: {content}."]
    lines += [
        f"Manifest {name}@{other} cannot be restored: something that it needs was purged."
        for other in incomplete
    ]
    document = {
        "repository": name,
        "manifests": manifests,
        "tags": tags,
        "incomplete": incomplete,
    }
    return Done("\n".join(lines), document)


async def _purge(
    settings: Settings, references: Sequence[QualifiedReference], *, as_json: bool
) -> None:
    async with opened_metadata(settings) as metadata:
        restore = _restore(settings, metadata)

        async def act(reference: QualifiedReference) -> Done:
            name, _, digest = reference
            if digest is None:
                raise AssertionError(reference)
            purged = await restore.purge(name, digest, by=command_actor())
            others = counted(len(purged) - 1, "other manifest")
            line = f"Manifest {reference} purged, with {others}."
            return Done(line, {"repository": name, "manifests": purged})

        await do_each(references, act, as_json=as_json)


async def _count(settings: Settings, names: Sequence[NameRange]) -> int:
    async with opened_metadata(settings) as metadata:
        return await _restore(settings, metadata).count(names)


async def _empty(settings: Settings, names: Sequence[NameRange]) -> int:
    async with opened_metadata(settings) as metadata:
        return await _restore(settings, metadata).empty(names, by=command_actor())


def _confirm(manifests: int, *, with_others: bool) -> None:
    """Ask whether manifests are to be purged; raises UsageError and Abort."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("cannot ask for confirmation without a terminal; use --yes")
    found = counted(manifests, "deleted manifest")
    found += " and what was deleted with it" if with_others else ""
    click.confirm(f"Purge {found}, so that nothing can restore them?", abort=True, err=True)
