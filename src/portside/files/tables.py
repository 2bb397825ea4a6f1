"""TOML files that hold tables of rules; an error names the line, the table and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from portside.files.text import FileInvalid

Document = TypeVar("Document", bound=msgspec.Struct)

Step = str | int
"""The name of a key, or the index of an entry of a list."""

_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "int": "a whole number",
    "object": "a table",
    "str": "a string",
}


class TableFile(Generic[Document]):
    """The text of a TOML file, read as a `document` of the given kind.

    `name` is how messages call the file. Raises FileInvalid.
    """

    def __init__(self, text: str, kind: type[Document], *, name: str) -> None:
        self._text = text
        self._name = name
        try:
            self._tables = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            # A number of 5000 digits raises ValueError, too, and lists in lists RecursionError.
            raise FileInvalid(f"{name} is not valid TOML: {error}") from error
        try:
            self.document = msgspec.convert(self._tables, kind)
        except msgspec.ValidationError as error:
            what, _, place = str(error).partition(" - at `$")
            path = tuple(
                key or int(index) for key, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", place)
            )
            unknown = re.search(r"unknown field `(.*)`", what)
            at = (*path, unknown[1]) if unknown else path
            raise self._error(_problem(what, kind, path), path, at) from error

    def source(self, *path: Step) -> str:
        """Return where something is written, such as `rules.toml, [[repositories]] 1`."""
        return ", ".join((self._name, *_words(self._tables, path)))

    def wrong(self, reason: str, *path: Step) -> FileInvalid:
        """Return an error about what is at a path: its line, its table and the reason."""
        return self._error(reason, path, path)

    def _error(self, reason: str, path: tuple[Step, ...], at: tuple[Step, ...]) -> FileInvalid:
        """Return an error about a table or a key, on the line of what is `at` another path."""
        words = (self._name, *self._line(at), *_words(self._tables, path))
        return FileInvalid(f"{', '.join(words)}: {reason}")

    def _line(self, path: tuple[Step, ...]) -> Iterator[str]:
        """Yield the line on which the statement begins that gives the path a value.

        TOML's parser keeps no lines. But the first lines of a file are a file themselves, unless
        they end within a statement, and hold the path from that statement on.
        """
        while path and not _holds(self._tables, path):
            path = path[:-1]
        if not path:
            return
        lines = self._text.split("\n")
        least, most = 0, len(lines)
        while most - least > 1:
            middle = (least + most) // 2
            _, tables = _first(lines, middle)
            if _holds(tables, path):
                most = middle
            else:
                least = middle
        start, _ = _first(lines, most - 1)
        yield f"line {start + 1}"


def _first(lines: list[str], count: int) -> tuple[int, dict[str, Any]]:
    """Return how many lines, at most `count`, are whole statements, and what they say."""
    while True:
        try:
            return count, tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            count -= 1


def _holds(tables: Any, path: Iterable[Step]) -> bool:
    """Whether there is a value at a path."""
    for step in path:
        try:
            tables = tables[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _words(tables: Any, path: tuple[Step, ...]) -> Iterator[str]:
    """Yield the tables that lead to a path, and the key in the last one."""
    names: list[str] = []
    key = ""
    for step in path:
        try:
            tables = tables[step]
        except (KeyError, IndexError, TypeError):
            tables = None
        if isinstance(step, str):
            names.append(step)
            key = step
        elif isinstance(tables, dict):
            yield f"[[{'.'.join(names)}]] {step + 1}"
            key = ""
    if key:
        yield key


def _problem(what: str, kind: type[msgspec.Struct], path: tuple[Step, ...]) -> str:
    """Return what msgspec reports in the terms of the file."""
    struct, field = _types_at(kind, path)
    if found := re.search(r"(unknown|required) field `(.*)`", what):
        if found[1] == "required":
            return f"{found[2]} is missing"
        allowed = ", ".join(each.encode_name for each in msgspec.structs.fields(struct))
        return f"there is no field {found[2][:80]!r} (allowed: {allowed})"
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        expected, got = (_TYPES.get(kind, kind) for kind in found.groups())
        return f"expected {expected}, found {got}"
    if found := re.fullmatch(r"Expected `int` >= (\d+)", what):
        return f"expected a whole number that is at least {found[1]}"
    if get_origin(field) is Literal:
        choices = (f'"{choice}"' for choice in get_args(field))
        return f"must be {' or '.join(choices)}"
    return what


def _types_at(
    struct: type[msgspec.Struct], path: tuple[Step, ...]
) -> tuple[type[msgspec.Struct], Any]:
    """Return the struct that a path leads to, and the type of the last field on the way."""
    field: Any = None
    for key in path:
        if isinstance(key, str):
            fields = msgspec.structs.fields(struct)
            field = next(each.type for each in fields if each.encode_name == key)
            struct = next(filter(_is_struct, _parts(field)), struct)
    return struct, field


def _parts(kind: Any) -> Iterator[Any]:
    """Yield a type, and those of which it is made."""
    yield kind
    if get_origin(kind) in {list, Union, UnionType}:
        for part in get_args(kind):
            yield from _parts(part)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
