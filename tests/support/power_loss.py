"""What a disk may hold after a power cut, from what a process asked of the system.

`strace` records the calls of a registry. A change that was synced before the cut is there
afterwards; any other change may be there or not, whatever the page cache showed: POSIX promises no
more, and file systems and disks use that freedom. Names and contents are synced apart: a file's
sync does not keep its name, and its directory's sync does not keep its bytes.
"""

from __future__ import annotations

import re
import shutil
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from servers import ServerMissing

CALLS = (
    "open,openat,creat,mkdir,mkdirat,rmdir,link,linkat,rename,renameat,renameat2,unlink,unlinkat,"
    "symlink,symlinkat,lseek,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,fallocate,"
    "copy_file_range,sendfile,splice,fsync,fdatasync,sync,syncfs,sendto,sendmsg"
)
LONGEST_WRITE = 4 * 1024 * 1024

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)", re.DOTALL)
_UNFINISHED = "<unfinished ...>"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_PATH_OF_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")


def require_tracer() -> None:
    """Raise ServerMissing without `strace`."""
    if shutil.which("strace") is None:
        raise ServerMissing("strace is not installed")


def trace_command(record: Path) -> tuple[str, ...]:
    """Return the command before a command, so that its calls are written to a file."""
    show = ("--decode-fds=path", "--strings-in-hex=all", f"--string-limit={LONGEST_WRITE}")
    return (
        "strace",
        "--follow-forks",
        "--quiet=all",
        *show,
        f"--trace={CALLS}",
        f"--output={record}",
    )


class Call(NamedTuple):
    """A call of the system: the lines of the record where it begins and ends, and what it says."""

    begin: int
    end: int
    name: str
    arguments: str
    result: int
    returned: str


def read_calls(record: Path) -> list[Call]:
    """Return the calls that succeeded, in the order in which they began."""
    begun: dict[str, tuple[int, str]] = {}
    calls = []
    for number, line in enumerate(record.read_text().splitlines()):
        found = _LINE.fullmatch(line)
        assert found is not None, line[:200]
        thread, resumed, text = found.groups()
        begin = number
        if resumed:
            begin, start = begun.pop(thread)
            text = start + text
        elif text.endswith(_UNFINISHED):
            begun[thread] = number, text.removesuffix(_UNFINISHED)
            continue
        call = _CALL.match(text)
        if call is not None and call[3] != "?" and int(call[3]) >= 0:
            calls.append(Call(begin, number, call[1], call[2], int(call[3]), call[4]))
    return sorted(calls)


@dataclass(eq=False)
class File:
    """A file, under whatever names, or a directory."""

    is_directory: bool = False


@dataclass
class Change:
    """A change of one file's content, or of the entries of one directory.

    `begin` and `end` are the moments between which it was made, `kept` the moment from which on it
    outlives a power cut.
    """

    begin: int
    end: int
    target: File
    apply: Callable[[Image], None]
    kept: float = float("inf")


@dataclass
class Image:
    """The content of a disk: what names point to, and the bytes of files."""

    names: dict[str, File] = field(default_factory=dict)
    contents: dict[int, bytearray] = field(default_factory=dict)

    def content(self, file: File) -> bytearray:
        """Return the bytes of a file, to be changed."""
        return self.contents.setdefault(id(file), bytearray())

    def read(self, name: str) -> bytes:
        """Return the bytes of the file of a name; none if there is no such file."""
        return bytes(self.content(self.names[name])) if name in self.names else b""

    def write_to(self, folder: Path) -> None:
        """Create as a folder what is below the root, where its directories are there as well."""
        root = next(iter(self.names))
        for name, file in sorted(self.names.items(), key=itemgetter(0)):
            made = folder / PurePosixPath(name).relative_to(root)
            if not made.parent.is_dir():
                continue
            if file.is_directory:
                made.mkdir()
            else:
                made.write_bytes(self.content(file))


class Recording:
    """What a registry did below a directory, and when it answered requests."""

    def __init__(self, record: Path, root: Path) -> None:
        self._root = str(root)
        self._now = Image(names={self._root: File(is_directory=True)})
        self._top = self._now.names[self._root]
        self._positions: dict[str, int] = {}
        self.changes: list[Change] = []
        self.answers: list[int] = []
        for call in read_calls(record):
            self._follow(call)
        self.length = max((change.end for change in self.changes), default=0)

    def answers_before(self, moment: int) -> int:
        """Count the answers that had been sent at a moment."""
        return bisect_left(self.answers, moment)

    def image(self, moment: int, survives: Callable[[Change], bool]) -> Image:
        """Return what the disk holds after a cut; `survives` decides on each unsynced change."""
        image = Image(names={self._root: self._top})
        for change in self.changes:
            if change.begin < moment and (change.kept < moment or survives(change)):
                change.apply(image)
        return image

    def final_image(self, survives: Callable[[Change], bool]) -> Image:
        """Return what the disk holds after a cut when all calls had returned."""
        return self.image(self.length + 1, survives)

    def _follow(self, call: Call) -> None:
        name = call.name
        texts = [
            bytes.fromhex(text.replace("\\x", "")) for text, _ in _STRING.findall(call.arguments)
        ]
        path = self._descriptor(call.arguments)
        if name in {"write", "writev", "sendto", "sendmsg"} and path.startswith("socket:"):
            if texts and texts[0].startswith(b"HTTP/1.1 "):
                self.answers.append(call.begin)
        elif name in {"open", "openat", "creat"}:
            self._open(call, self._descriptor(f"{call.result}{call.returned}"))
        elif name in {"fsync", "fdatasync"}:
            self._sync(call, path)
        elif name in {"write", "writev", "pwrite64", "lseek", "ftruncate", "fallocate"}:
            if path in self._now.names:
                self._change_content(call, path, b"".join(texts))
        elif name in {
            "mkdir",
            "link",
            "rename",
            "unlink",
            "rmdir",
            "linkat",
            "renameat",
            "unlinkat",
        }:
            paths = [text.decode() for text in texts]
            if any(self._is_inside(path) for path in paths):
                self._change_names(call, paths)
        else:
            assert not self._is_inside(path), f"{name} is not modelled: {call.arguments[:200]}"

    def _is_inside(self, path: str) -> bool:
        return path.startswith(f"{self._root}/")

    @staticmethod
    def _descriptor(text: str) -> str:
        found = _PATH_OF_DESCRIPTOR.search(text)
        return bytes.fromhex(found[1].replace("\\x", "")).decode() if found else ""

    def _open(self, call: Call, path: str) -> None:
        if not self._is_inside(path):
            return
        self._positions[path] = 0
        is_new = path not in self._now.names
        if is_new:
            assert "O_CREAT" in call.arguments, f"{path} was there before"
            self._enter(call, path, File())
        elif "O_TRUNC" in call.arguments:
            self._resize(call, path, 0)

    def _sync(self, call: Call, path: str) -> None:
        synced = self._now.names.get(path)
        for change in self.changes:
            if change.target is synced and change.end < call.begin:
                change.kept = min(change.kept, call.end)

    def _change_content(self, call: Call, path: str, data: bytes) -> None:
        if call.name == "lseek":
            self._positions[path] = call.result
        elif call.name == "ftruncate":
            self._resize(call, path, int(call.arguments.rpartition(",")[2]))
        elif call.name == "fallocate":
            mode, offset, length = map(int, call.arguments.rsplit(",", 3)[1:])
            assert mode == 0, call.arguments
            self._extend(call, path, offset + length)
        elif call.name == "pwrite64":
            self._write(call, path, int(call.arguments.rpartition(",")[2]), data[: call.result])
        else:
            position = self._positions[path]
            self._positions[path] = position + call.result
            self._write(call, path, position, data[: call.result])

    def _write(self, call: Call, path: str, position: int, data: bytes) -> None:
        assert len(data) == call.result, f"the record of a write to {path} is cut"
        file = self._now.names[path]

        def write(image: Image) -> None:
            content = image.content(file)
            content.extend(bytes(max(0, position - len(content))))
            content[position : position + len(data)] = data

        self._note(call, file, write)

    def _resize(self, call: Call, path: str, size: int) -> None:
        file = self._now.names[path]

        def resize(image: Image) -> None:
            content = image.content(file)
            del content[size:]
            content.extend(bytes(size - len(content)))

        self._note(call, file, resize)

    def _extend(self, call: Call, path: str, size: int) -> None:
        file = self._now.names[path]

        def extend(image: Image) -> None:
            content = image.content(file)
            content.extend(bytes(max(0, size - len(content))))

        self._note(call, file, extend)

    def _change_names(self, call: Call, paths: list[str]) -> None:
        kind = call.name.removesuffix("at")
        if kind == "mkdir":
            self._enter(call, paths[0], File(is_directory=True))
        elif kind in {"unlink", "rmdir"}:
            self._leave(call, paths[0])
        else:
            source, target = paths
            self._enter(call, target, self._now.names[source])
            if kind == "rename":
                self._leave(call, source)

    def _enter(self, call: Call, path: str, file: File) -> None:
        def enter(image: Image) -> None:
            image.names[path] = file

        self._note(call, self._parent(path), enter)

    def _leave(self, call: Call, path: str) -> None:
        def leave(image: Image) -> None:
            image.names.pop(path, None)

        self._note(call, self._parent(path), leave)

    def _parent(self, path: str) -> File:
        return self._now.names[path.rpartition("/")[0]]

    def _note(self, call: Call, target: File, apply: Callable[[Image], None]) -> None:
        apply(self._now)
        self.changes.append(Change(call.begin, call.end, target, apply))
