"""Files that are read again when they change."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from portside.files.text import FileInvalid, FileUnreadable, read_text

log = logging.getLogger(__name__)

Content = TypeVar("Content")

Signature = tuple[int, int, int]
"""When a file was changed, its size and its inode."""

Note = Callable[[str, str], None]
"""Is told the path of a file that was read, and the digest of its text."""


class LastGood:
    """The last text of a file that could be used, for all processes that are forked afterwards.

    A process that was idle while the file changed, and then finds it broken, takes the text that
    its neighbours use.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # open until `close`

    def keep(self, text: str) -> None:
        """Replace the text, within `locked`."""
        os.ftruncate(self._file.fileno(), 0)
        os.pwrite(self._file.fileno(), text.encode(), 0)

    def read(self) -> str:
        """Return the text; it is empty before the first one."""
        with self.locked():
            size = os.fstat(self._file.fileno()).st_size
            return os.pread(self._file.fileno(), size, 0).decode()

    def close(self) -> None:
        """Close the file that holds the text."""
        self._file.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out, so that no text replaces one that was read from disk later."""
        # This lock belongs to the process; one of the descriptor would be shared after a fork.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class WatchedFile(Generic[Content]):
    """What `parse` returns for the text of a file; raises FileInvalid for an unusable file.

    If the file becomes unreadable or invalid while the registry runs, the error is logged and the
    last good text stays in use: a file that is half saved must neither lock everybody out nor let
    anybody in. `version` counts how often the content changed. `note` is told of each text that is
    used: the path, and its digest.
    """

    def __init__(
        self,
        path: str,
        parse: Callable[[str], Content],
        last_good: LastGood | None = None,
        note: Note | None = None,
    ) -> None:
        self.path = path
        self._note = note
        self._parse = parse
        self._last_good = last_good
        self._seen = signature(path)
        self._text = ""
        self.version = 1
        try:
            self._content = self._read()
        except FileInvalid as error:
            self._text = last_good.read() if last_good is not None else ""
            if not self._text:
                raise
            log.error("%s; its last good content is used", error)  # noqa: TRY400
            self._content = parse(self._text)
        self._tell()

    @property
    def content(self) -> Content:
        """The current content."""
        self.look()
        return self._content

    def look(self) -> None:
        """Read the file again if it has changed; costs one `stat`."""
        seen = signature(self.path)
        if seen != self._seen:
            self._seen = seen
            try:
                self._content = self._read()
            except FileInvalid as error:
                log.error("%s; keeping its previous content", error)  # noqa: TRY400
                self._catch_up()
            else:
                self.version += 1
                self._tell()

    def _tell(self) -> None:
        if self._note is not None:
            self._note(self.path, f"sha256:{hashlib.sha256(self._text.encode()).hexdigest()}")

    def _catch_up(self) -> None:
        """Take the last good text, if another process has seen a later one."""
        text = self._last_good.read() if self._last_good is not None else self._text
        if text != self._text:
            self._content, self._text = self._parse(text), text
            self.version += 1
            self._tell()

    def _read(self) -> Content:
        if self._last_good is None:
            return self._parse_file()
        with self._last_good.locked():
            content = self._parse_file()
            self._last_good.keep(self._text)
            return content

    def _parse_file(self) -> Content:
        try:
            text = read_text(self.path)
        except FileUnreadable as error:
            raise FileInvalid(str(error)) from error
        content = self._parse(text)
        self._text = text
        return content


def signature(path: str) -> Signature | None:
    """Return a value that changes when the file does; None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
