"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

UNBROKEN = 10_000
"""Columns where each row is to be one line, as it is for whatever reads it from a pipe."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns; `empty` stands for a table without any."""
    heads = [Column(name, overflow="fold") for name in columns]
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(_plain, row))
    if table.row_count:
        _print(table, width=None if sys.stdout.isatty() else UNBROKEN)
    else:
        click.echo(empty)


def show_details(pairs: Iterable[tuple[str, str]]) -> None:
    """Print what is known of one thing, a line each, so that a password can be copied whole."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in pairs:
        table.add_row(Text(name, style="bold"), _plain(value))
    _print(table, width=UNBROKEN)


def show_json(document: Any) -> None:
    """Print a document, the same one always in the same way."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def iso_time(microseconds: int | None) -> str | None:
    """Write a time, in microseconds since 1970, as ISO 8601 does in UTC; None where there is none.

    Fractions of a second are left out.
    """
    if microseconds is None:
        return None
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return moment.isoformat().replace("+00:00", "Z")


def shown_time(microseconds: int | None) -> str:
    """Write a time for a table."""
    return iso_time(microseconds) or "never"


def _plain(text: str) -> Text:
    """Take a text as it is: brackets are no markup."""
    return Text(text)


def _print(table: Table, *, width: int | None) -> None:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
