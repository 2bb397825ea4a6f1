"""Repositories, tags and manifests as the command line names them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from portside.cli.output import show_json
from portside.spec.digests import Digest
from portside.spec.errors import PreconditionFailed, RegistryError
from portside.spec.names import QualifiedReference
from portside.spec.pagination import START, Order, OrderedPageRequest, Page, Position
from portside.stores.interfaces import MetadataStore
from portside.stores.properties import ManifestProperties, TagProperties

PAGE = 100
"""Items of a list that are in memory at once: the payload of an index can have several MiB."""

ORDERS = {"name": Order.NAME, "oldest": Order.OLDEST_FIRST, "newest": Order.NEWEST_FIRST}

Item = TypeVar("Item", bound=TagProperties | ManifestProperties)
Command = TypeVar("Command", bound=Callable[..., Any])

all_option = click.option(
    "--all", "hidden", is_flag=True, help="Include what is locked against lists."
)


class ReferenceForm(NamedTuple):
    """What an argument must name, such as REPOSITORY:TAG."""

    text: str
    is_met: Callable[[QualifiedReference], bool]

    def parse(self, text: str) -> QualifiedReference:
        """Parse an argument; raises BadParameter."""
        try:
            parsed = QualifiedReference.parse(text)
        except RegistryError as error:
            raise click.BadParameter("; ".join(error.details)) from error
        if not self.is_met(parsed):
            raise click.BadParameter(f"expected {self.text}, not {text[:400]!r}")
        return parsed


REPOSITORY = ReferenceForm("REPOSITORY", lambda given: not given.tag and not given.digest)
TAG = ReferenceForm("REPOSITORY:TAG", lambda given: bool(given.tag) and not given.digest)
MANIFEST = ReferenceForm(
    "REPOSITORY@DIGEST or REPOSITORY:TAG", lambda given: bool(given.tag or given.digest)
)


def reference_argument(form: ReferenceForm) -> Callable[[Command], Command]:
    """Return a decorator that adds the argument `reference`."""
    return click.argument(
        "reference",
        metavar=form.text.partition(" ")[0],
        callback=lambda _context, _parameter, given: form.parse(given),
    )


def references_argument(
    form: ReferenceForm, *, required: bool = True
) -> Callable[[Command], Command]:
    """Return a decorator that adds the argument `references`: one or more, or else any number."""
    name = form.text.partition(" ")[0].rstrip(",")
    return click.argument(
        "references",
        nargs=-1,
        required=required,
        metavar=f"{name}..." if required else f"[{name}]...",
        callback=lambda _context, _parameter, given: tuple(map(form.parse, given)),
    )


def order_option(command: Command) -> Command:
    """Add the option for the order of a list."""
    return click.option(
        "--order",
        type=click.Choice(list(ORDERS)),
        default="name",
        show_default=True,
        help="Sort by name, or by when each was last pushed.",
    )(command)


class Done(NamedTuple):
    """What was done to one object: a line for people, and a document for programs."""

    line: str
    document: Any


async def do_each(
    references: Sequence[QualifiedReference],
    act: Callable[[QualifiedReference], Awaitable[Done]],
    *,
    as_json: bool,
) -> None:
    """Do something to one object after the other, and print what was done up to an error."""
    documents = []
    try:
        for reference in references:
            done = await act(reference)
            documents.append(done.document)
            if not as_json:
                click.echo(done.line)
    finally:
        if as_json:
            show_json(documents)


async def read_pages(
    read: Callable[[OrderedPageRequest], Awaitable[Page[Item]]],
    order: Order,
    name: Callable[[Item], str],
) -> AsyncIterator[list[Item]]:
    """Read a list in an order, page by page."""
    after = START[order]
    while True:
        page = await read(OrderedPageRequest(PAGE, order, after))
        yield page.items
        if not page.more:
            return
        last = page.items[-1]
        after = Position(last.updated, name(last))


async def find_digest(metadata: MetadataStore, reference: QualifiedReference) -> Digest:
    """Return the digest of the manifest that a reference names.

    Raises TagUnknown, and PreconditionFailed if the tag does not point to the digest beside it.
    """
    if reference.tag is None:
        if reference.digest is None:
            raise AssertionError(reference)
        return reference.digest
    found = await metadata.get_tag(reference.repository, reference.tag)
    if reference.digest not in (None, found.digest):
        raise PreconditionFailed(
            f"tag {reference.tag} of repository {reference.repository} points to {found.digest}"
        )
    return Digest(found.digest)
