"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from portside.api.log_lines import escape_controls

UNBROKEN = 10_000
"""Columns of output that must not be wrapped, such as output that goes to a pipe."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns, or `empty` if there are none."""
    found = list(rows)
    if found:
        _print(found, columns=columns, width=None if sys.stdout.isatty() else UNBROKEN)
    else:
        click.echo(empty)


def show_details(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; a password can be copied as a whole."""
    _print(pairs, columns=(), width=UNBROKEN)


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


def drop_output() -> None:
    """Discard further output, so that Python does not fail to flush it when it exits."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _print(rows: Iterable[Sequence[str]], *, columns: Sequence[str], width: int | None) -> None:
    """Print a table; without columns, the first cell of each row is its heading."""
    # Most of what a command without a table would import is rich.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Column, Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    headings = [Column(name, overflow="fold") for name in columns]
    show_header = bool(columns)
    table = Table(*headings, box=None, pad_edge=False, header_style="bold", show_header=show_header)
    for first, *others in rows:
        # Texts, and not strings, in which brackets are markup.
        style = "" if show_header else "bold"
        cells = map(Text, map(escape_controls, others))
        table.add_row(Text(escape_controls(first), style=style), *cells)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
