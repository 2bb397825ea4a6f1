"""Files that are read again when they change."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from portside.files import FileUnreadable, read_text

log = logging.getLogger(__name__)

Content = TypeVar("Content")


class FileInvalid(Exception):
    """A file of access control that cannot be used; the message is for the person who wrote it."""


class WatchedFile(Generic[Content]):
    """What `parse` returns for the text of a file; raises FileInvalid for an unusable file.

    If the file becomes unreadable or invalid while the registry runs, the error is logged and the
    previous content stays in use: a file that is half saved must neither lock everybody out nor let
    anybody in. `version` counts how often it was read.
    """

    def __init__(self, path: str, parse: Callable[[str], Content]) -> None:
        self.path = path
        self._parse = parse
        self._seen = _signature(path)
        self._content = self._read()
        self.version = 1

    @property
    def content(self) -> Content:
        """The current content."""
        self.look()
        return self._content

    def look(self) -> None:
        """Read the file again if it has changed; costs one `stat`."""
        seen = _signature(self.path)
        if seen != self._seen:
            self._seen = seen
            try:
                self._content = self._read()
            except FileInvalid as error:
                log.error("%s; keeping its previous content", error)  # noqa: TRY400
            else:
                self.version += 1

    def _read(self) -> Content:
        try:
            text = read_text(self.path)
        except FileUnreadable as error:
            raise FileInvalid(str(error)) from error
        return self._parse(text)


def _signature(path: str) -> tuple[int, int, int] | None:
    """Return a value that changes when the file does; None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
