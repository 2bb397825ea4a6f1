"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from textwrap import indent
from typing import Any, TypeVar

import click

from portside.api.log_lines import escape_controls
from portside.spec.quantities import format_size

Item = TypeVar("Item")

UNBROKEN = 10_000
"""Columns of output that must not be wrapped, such as a password."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns, or `empty` if there are none."""
    found = list(rows)
    if found:
        _print(found, columns=columns, is_folded=True)
    else:
        click.echo(empty)


async def show_pages(
    pages: AsyncIterator[Sequence[Item]],
    *,
    columns: Sequence[str],
    row: Callable[[Item], Sequence[str]],
    document: Callable[[Item], Any],
    empty: str,
    as_json: bool,
) -> None:
    """Print a list of any length page by page, as JSON or as a table.

    `row` and `document` make a line of the table and an entry of the JSON list of an item. Columns
    become wider with the pages if they have to.
    """
    if as_json:
        await _show_json_pages(pages, document)
        return
    widths = [0] * len(columns)
    is_first = True
    async for page in pages:
        if page:
            rows = [row(item) for item in page]
            _print(rows, columns=columns, is_folded=True, widths=widths, has_header=is_first)
            is_first = False
    if is_first:
        click.echo(empty)


async def _show_json_pages(
    pages: AsyncIterator[Sequence[Item]], document: Callable[[Item], Any]
) -> None:
    """Print what `show_json` prints of the list of all documents."""
    before = "[\n"
    async for page in pages:
        if page:
            shown = [json.dumps(document(item), indent=2, sort_keys=True) for item in page]
            click.echo(before + indent(",\n".join(shown), "  "), nl=False)
            before = ",\n"
    click.echo("\n]" if before == ",\n" else "[]")


def show_details(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; a password can be copied as a whole."""
    _print(pairs, columns=(), is_folded=False)


def show_json(document: Any) -> None:
    """Print a document with sorted keys."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 blob` and `2 blobs`."""
    return f"{number} {noun if number == 1 else f'{noun}s'}"


def iso_time(microseconds: int | None) -> str | None:
    """Return microseconds since 1970 as an ISO 8601 time in UTC, in whole seconds."""
    if microseconds is None:
        return None
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return moment.isoformat().replace("+00:00", "Z")


def shown_time(microseconds: int | None) -> str:
    """Return a time for a table."""
    return iso_time(microseconds) or "never"


def shown_size(size: int | None) -> str:
    """Return a number of bytes for a table, such as `12.3 MiB`."""
    return "unknown" if size is None else format_size(size)


def drop_output() -> None:
    """Discard further output, so that Python does not fail to flush it when it exits."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _print(
    rows: Iterable[Sequence[str]],
    *,
    columns: Sequence[str],
    is_folded: bool,
    widths: list[int] | None = None,
    has_header: bool = True,
) -> None:
    """Print a table; without columns, the first cell of each row is its heading.

    A folded table is as wide as the terminal, if there is one. `widths` are the least widths of the
    columns, which grow to those of this table.
    """
    table = [[escape_controls(cell) for cell in row] for row in rows]
    widths = widths if widths is not None else [0] * len(table[0])
    headings = [columns] if columns else []
    for row in (*headings, *table):
        widths[:] = map(max, widths, map(_width, row))
    if not columns:
        has_header = False
    if sys.stdout.isatty():
        lines = _styled(table, columns, widths, is_folded=is_folded, has_header=has_header)
    else:
        shown = (*headings, *table) if has_header else table
        lines = ["  ".join(map(_padded, row, widths)) for row in shown]
    click.echo("\n".join(line.rstrip() for line in lines))


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _styled(
    rows: Iterable[Sequence[str]],
    columns: Sequence[str],
    widths: Sequence[int],
    *,
    is_folded: bool,
    has_header: bool,
) -> list[str]:
    """Return the lines of a table for a terminal."""
    # Most of what a command without a table would import is rich, which is slow for long lists.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Column, Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(
        width=None if is_folded else UNBROKEN, highlight=False, markup=False, emoji=False
    )
    fits = sum(widths) + 2 * len(widths) <= console.width
    headings = [
        Column(name, overflow="fold", min_width=width if fits else None)
        for name, width in zip(columns, widths, strict=False)
    ]
    table = Table(*headings, box=None, pad_edge=False, header_style="bold", show_header=has_header)
    for first, *others in rows:
        # Texts, and not strings, in which brackets are markup.
        table.add_row(Text(first, style="" if columns else "bold"), *map(Text, others))
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()
