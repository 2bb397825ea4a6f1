"""Files of tables: the line, the table and the key of what is wrong."""

from __future__ import annotations

import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.files.tables import TableFile
from portside.files.text import FileInvalid


class Inner(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """A table in a table."""

    a_key: str
    number: int = 1


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[outer]]` table."""

    name: str = ""
    words: list[str] = []
    inner: list[Inner] | msgspec.UnsetType = msgspec.UNSET


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    """A file."""

    outer: list[Outer] = []


TEXT = """\
# the first table
[[outer]]
name = "one"

[[outer]]
# the second
name = '''
[[outer]]
name = "not a table"
'''
words = [
    "a",
    # name = "b"

    "b",
]
[[outer.inner]]
a-key = "x"

[[outer.inner]]
a-key = "y"
number = 3
[[outer]]
inner = [{ a-key = "z" }, { a-key = "w" }]"""

PLACES = [
    (("outer", 0), "line 2, [[outer]] 1"),
    (("outer", 0, "name"), "line 3, [[outer]] 1, name"),
    (("outer", 0, "words"), "line 2, [[outer]] 1, words"),
    (("outer", 1), "line 5, [[outer]] 2"),
    (("outer", 1, "name"), "line 7, [[outer]] 2, name"),
    (("outer", 1, "words"), "line 11, [[outer]] 2, words"),
    (("outer", 1, "words", 1), "line 11, [[outer]] 2, words"),
    (("outer", 1, "inner", 0), "line 17, [[outer]] 2, [[outer.inner]] 1"),
    (("outer", 1, "inner", 1, "number"), "line 22, [[outer]] 2, [[outer.inner]] 2, number"),
    (("outer", 2), "line 23, [[outer]] 3"),
    (("outer", 2, "inner", 1, "a-key"), "line 24, [[outer]] 3, [[outer.inner]] 2, a-key"),
]


@pytest.mark.parametrize(("path", "place"), PLACES, ids=str)
def test_place(path: tuple[str | int, ...], place: str) -> None:
    """A path is named by its line and its tables; what is missing has the line of its table."""
    file = TableFile(TEXT, Whole, name="f")
    assert str(file.wrong("bad", *path)) == f"f, {place}: bad"
    assert file.source(*path) == f"f, {place.partition(', ')[2]}"


PROBLEMS = [
    ("[[outer]", "f is not valid TOML: "),
    ("\nouter = 5", "f, line 2, outer: expected a list, found a whole number"),
    ("[[outer]]\n[[other]]", "f, line 2: there is no field 'other' (allowed: outer)"),
    (
        "[[outer]]\n\nwords = ['a', 1]",
        "line 3, [[outer]] 1, words: expected a string, found a whole",
    ),
    ("[[outer]]\n[[outer.inner]]", "f, line 2, [[outer]] 1, [[outer.inner]] 1: a-key is missing"),
    (
        "[[outer]]\n[[outer.inner]]\na-key = ''\nkey = 1",
        "f, line 4, [[outer]] 1, [[outer.inner]] 1: there is no field 'key' (allowed: a-key,",
    ),
    (
        "[[outer]]\n[[outer.inner]]\na-key = 1",
        "line 3, [[outer]] 1, [[outer.inner]] 1, a-key: expected a string, found a whole number",
    ),
]


@pytest.mark.parametrize(("text", "problem"), PROBLEMS)
def test_problem(text: str, problem: str) -> None:
    """What does not fit the document is said in the words of the file."""
    with pytest.raises(FileInvalid) as caught:
        TableFile(text, Whole, name="f")
    assert problem in str(caught.value)


@given(st.lists(st.sampled_from(["", "# x", "[[outer]]", "x = 1", "y = [\n\n2]"]), max_size=12))
def test_line(lines: list[str]) -> None:
    """The line of an unknown key is the one that a search for its text finds."""
    text = "\n".join(lines)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    whole = {key for key in tables if key != "outer"}
    inner = [key for table in tables.get("outer", []) for key in table]
    if not whole and not inner:
        TableFile(text, Whole, name="f")
        return
    with pytest.raises(FileInvalid) as caught:
        TableFile(text, Whole, name="f")
    number = int(str(caught.value).split("line ")[1].split(",")[0].split(":")[0])
    assert text.split("\n")[number - 1][:1] in {"x", "y"}
