"""Files that are read again when they change."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from portside.files.text import FileInvalid
from portside.files.watched import LastGood, WatchedFile
from support.waiting import PATIENCE


def parse(text: str) -> str:
    """Take any text but one."""
    if text == "bad":
        raise FileInvalid("it is bad")
    return text


def test_changes(tmp_path: Path) -> None:
    """Each change is read once, and counted."""
    path = tmp_path / "file"
    path.write_text("one")
    file = WatchedFile(str(path), parse)
    assert (file.content, file.version) == ("one", 1)
    path.write_text("three")
    assert file.content == "three"
    assert (file.content, file.version) == ("three", 2)


def test_mistakes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be used leaves what was read before, says so once, and is no new version."""
    path = tmp_path / "file"
    path.write_text("good")
    file = WatchedFile(str(path), parse)
    for content in (b"bad", b"\xff\xff\xff\xff\xff", None, b"bad"):
        caplog.clear()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        assert [file.content for _ in range(3)] == ["good"] * 3
        assert file.version == 1
        (record,) = caplog.records
        assert record.getMessage().endswith("keeping its previous content")
    path.write_text("better")
    assert (file.content, file.version) == ("better", 2)


def test_neighbours(tmp_path: Path) -> None:
    """A process that missed a change, and then finds the file broken, does as its neighbours do."""
    path = tmp_path / "file"
    path.write_text("first")
    shared = LastGood()
    busy, idle = (WatchedFile(str(path), parse, shared) for _ in range(2))
    path.write_text("second one")
    assert busy.content == "second one"
    path.write_text("bad")
    assert busy.content == "second one"
    assert (idle.content, idle.version) == ("second one", 2)
    assert WatchedFile(str(path), parse, shared).content == "second one"
    path.write_text("third")
    assert (busy.content, idle.content) == ("third", "third")
    shared.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_neighbours(tmp_path: Path) -> None:
    """Processes share the text by what they inherit, as the workers of a registry do."""
    path = tmp_path / "file"
    path.write_text("first")
    shared = LastGood()
    idle = WatchedFile(str(path), parse, shared)
    path.write_text("second one")
    busy = multiprocessing.get_context("fork").Process(
        target=WatchedFile, args=(str(path), parse, shared)
    )
    busy.start()
    busy.join(PATIENCE)
    assert busy.exitcode == 0
    path.write_text("bad")
    assert idle.content == "second one"
    shared.close()


def test_at_the_start(tmp_path: Path) -> None:
    """A file that is not there, is a folder, or is no text, is refused by its name."""
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "folder").mkdir()
    for name in ("binary", "folder", "missing"):
        with pytest.raises(FileInvalid, match=f"cannot read .*{name}: "):
            WatchedFile(str(tmp_path / name), parse)
