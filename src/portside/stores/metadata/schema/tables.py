"""Tables and columns as they are declared, and how they become SQL.

A dialect says what its types are called and how it keeps a table from changing; everything else is
common to both engines.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec


class Type(enum.Enum):
    """The type of a column."""

    ID = enum.auto()
    """A number that the database assigns, and the primary key."""
    SERIAL = enum.auto()
    """A number that grows from row to row, and the primary key; a copy keeps it."""
    SINGLE = enum.auto()
    """The primary key of a table of one row: always 1."""
    INTEGER = enum.auto()
    TEXT = enum.auto()
    """Compared byte by byte, whatever the locale of the database."""
    BYTES = enum.auto()
    BOOLEAN = enum.auto()


class Reference(msgspec.Struct, frozen=True):
    """A foreign key; with `cascade`, rows are deleted with the row that they refer to."""

    table: str
    column: str = "id"
    cascade: bool = False


class Column(msgspec.Struct, frozen=True):
    """A column.

    `default` and `check` are SQL. A `local` column means something in one database only and is left
    out of a copy. A `heavy` one can be large and follows from the key: a copy reads it only for the
    rows that it writes.
    """

    name: str
    type: Type
    null: bool = False
    unique: bool = False
    references: Reference | None = None
    default: str = ""
    check: str = ""
    local: bool = False
    heavy: bool = False


class Table(msgspec.Struct, frozen=True):
    """A table.

    `guarded` names the statements that are refused while the registry is read-only. `copy_key` has
    the columns that tell a row from others in any database; a table without it is not copied. The
    tables of `access` control are those whose changes every process must learn of at once.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ("INSERT", "UPDATE", "DELETE")
    copy_key: tuple[str, ...] = ()
    access: bool = False

    @property
    def inserted(self) -> tuple[Column, ...]:
        """The columns of a new row but for the number that the database assigns."""
        return tuple(c for c in self.columns if c.type not in {Type.ID, Type.SERIAL})

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


class AddColumn(msgspec.Struct, frozen=True):
    """A change of a table that exists: one more column."""

    table: str
    column: Column


class PerEngine(msgspec.Struct, frozen=True):
    """Statements that differ, or that one engine alone needs."""

    sqlite: str = ""
    postgres: str = ""


Change = Table | AddColumn | PerEngine | str
"""A part of a step; text is SQL that both engines understand."""

Step = tuple[Change, ...]

Tables = dict[str, Table]


class Dialect(msgspec.Struct, frozen=True):
    """How one engine writes down what is declared.

    `options` stands behind a table's columns. `guard` and `unguard` are the statements that refuse
    changes to a table while the registry is read-only, and those that take that away.
    """

    types: dict[Type, str]
    own: Callable[[PerEngine], str]
    options: Callable[[Table], str]
    guard: Callable[[Table], list[str]]
    unguard: Callable[[Table], list[str]]


def tables_after(steps: tuple[Step, ...]) -> Tables:
    """Return the tables that there are once the steps were taken, by name."""
    tables: Tables = {}
    for change in (change for step in steps for change in step):
        if isinstance(change, Table):
            tables[change.name] = change
        elif isinstance(change, AddColumn):
            known = tables[change.table]
            columns = (*known.columns, change.column)
            tables[change.table] = msgspec.structs.replace(known, columns=columns)
    return tables


def statements(steps: tuple[Step, ...], number: int, dialect: Dialect) -> list[str]:
    """Return the SQL of the step with that number, the first of which is 1.

    Guards are made anew by each step, so that a table is guarded because it is declared so.
    """
    before, after = tables_after(steps[: number - 1]), tables_after(steps[:number])
    changes = [_change(change, dialect) for change in steps[number - 1]]
    return [
        *(sql for table in _guarded(before) for sql in dialect.unguard(table)),
        *filter(None, changes),
        *(sql for table in _guarded(after) for sql in dialect.guard(table)),
    ]


def _guarded(tables: Tables) -> list[Table]:
    """Return the tables with a guard, which reads the table `registry`."""
    return [table for table in tables.values() if table.guarded] if "registry" in tables else []


def _change(change: Change, dialect: Dialect) -> str:
    if isinstance(change, Table):
        return _create(change, dialect)
    if isinstance(change, AddColumn):
        return f"ALTER TABLE {change.table} ADD COLUMN {_column(change.column, dialect)}"
    return dialect.own(change) if isinstance(change, PerEngine) else change


def _create(table: Table, dialect: Dialect) -> str:
    parts = [_column(column, dialect) for column in table.columns]
    if table.primary_key:
        parts.append(f"PRIMARY KEY ({', '.join(table.primary_key)})")
    if table.unique:
        parts.append(f"UNIQUE ({', '.join(table.unique)})")
    lines = ",\n    ".join(parts)
    return f"CREATE TABLE {table.name} (\n    {lines}\n){dialect.options(table)}"


def _column(column: Column, dialect: Dialect) -> str:
    words = [column.name, dialect.types[column.type]]
    if not column.null and column.type not in {Type.ID, Type.SERIAL, Type.SINGLE}:
        words.append("NOT NULL")
    if column.unique:
        words.append("UNIQUE")
    if column.default:
        words.append(f"DEFAULT {column.default}")
    if column.check:
        words.append(f"CHECK ({column.check})")
    if column.references is not None:
        target = column.references
        words.append(f"REFERENCES {target.table} ({target.column})")
        words += ["ON DELETE CASCADE"] if target.cascade else []
    return " ".join(words)
