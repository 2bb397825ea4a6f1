"""Text files as people write them, on any system: the one place that reads them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import BinaryIO

from portside.files.users import user_name

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order marks, which editors on Windows write first; the mark is not part of the text."""


class FileInvalid(Exception):
    """A file that cannot be used; the message is for the person who wrote it."""


class FileUnreadable(Exception):
    """A file cannot be read, or is not text; the message names the file, and shows none of it."""


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file, in which every line ends with a line feed.

    The encoding is UTF-8, or UTF-16 after its byte order mark. Raises FileUnreadable.
    """
    try:
        return decode_text(Path(path).read_bytes())
    except OSError as error:
        raise FileUnreadable(f"cannot read {path}: {explain(error)}") from error
    except ValueError as error:
        # A path with a NUL is a ValueError, too.
        reason = "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise FileUnreadable(f"cannot read {path}: {reason}") from error


def explain(error: OSError) -> str:
    """Return why a file cannot be read, and who tried it if that is why."""
    if isinstance(error, PermissionError):
        return f"{error.strerror} for the user {user_name()}"
    return error.strerror or str(error)


def decode_text(content: bytes) -> str:
    """Return the text that the bytes of a file encode; raises UnicodeDecodeError."""
    mark = next(filter(content.startswith, _MARKS), b"")
    encoding = _MARKS.get(mark, "utf-8")
    return content.removeprefix(mark).decode(encoding).replace("\r\n", "\n")


def read_first_line(file: BinaryIO, limit: int) -> str:
    """Return the first line of an open file, without its end; at most `limit` bytes are read.

    Raises OSError and UnicodeDecodeError.
    """
    line = file.readline(limit)
    if line.startswith(codecs.BOM_UTF16_LE):
        # The second half of the line feed follows.
        line += file.read(1)
    return decode_text(line).removesuffix("\n").removesuffix("\r")


def read_secret(path: str | os.PathLike[str]) -> str:
    """Return a secret that is the whole of a file, without one newline at its end.

    Raises FileUnreadable.
    """
    return read_text(path).removesuffix("\n")
