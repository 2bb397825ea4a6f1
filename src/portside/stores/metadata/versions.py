"""The numbered steps of a schema, and what is said of a database that is not at the last one."""

from __future__ import annotations

from importlib import resources

from portside.spec.errors import Unavailable


class SchemaTooNew(Unavailable):
    """The database was made by a newer Portside."""

    message = "the database is newer than this version of Portside"


class SchemaTooOld(Unavailable):
    """The database was made by an older Portside, or holds nothing yet."""

    message = "the database is older than this version of Portside"


def read_steps(package: str) -> dict[int, str]:
    """Give the SQL of every step by its number, from the folder `schema` of a package."""
    folder = resources.files(package) / "schema"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {int(file.name[:4]): file.read_text("utf-8") for file in sorted(files, key=str)}


def require_version(database: str, current: int, newest: int, *, remedy: str) -> None:
    """Refuse a schema that is not the newest one; raises SchemaTooNew and SchemaTooOld.

    `database` names it, and `remedy` is the command that brings it up to date.
    """
    if current > newest:
        newer = (
            f"{database} was made by a newer Portside: its schema has version {current},"
            f" and {newest} is the newest known here"
        )
        raise SchemaTooNew(newer)
    if current < newest:
        older = (
            f"{database} has version {current} of the schema, and {newest} is needed;"
            f" `{remedy}` brings it up to date"
        )
        raise SchemaTooOld(older)
