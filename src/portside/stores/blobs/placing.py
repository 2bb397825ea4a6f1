"""Placing: give the staged bytes of an upload the name of a blob as well."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from portside.stores.blobs.faults import translated
from portside.stores.blobs.layout import sync_directory
from portside.stores.interfaces import Undo


def place(staged: str, target: str) -> Undo | None:
    """Link the staged file at the key of its digest; raises StorageFull and Unavailable."""
    with translated("placing a blob"):
        directory = os.path.dirname(target)
        undo: Undo | None = partial(_take_back, target)
        try:
            os.link(staged, target)
        except FileNotFoundError:
            _make_directory(directory)
            os.link(staged, target)
        except FileExistsError:
            _replace(staged, target)
            undo = None
        sync_directory(directory)
    return undo


def _make_directory(directory: str) -> None:
    """Make a directory, durably; one that cannot be made durable is taken back.

    Those above it are not made: were they gone, all blobs would be, and nobody would notice.
    """
    with suppress(FileExistsError):
        os.mkdir(directory)
    try:
        sync_directory(os.path.dirname(directory))
    except OSError:
        with suppress(OSError):
            os.rmdir(directory)
        raise


def _take_back(target: str) -> None:
    with suppress(OSError):
        os.unlink(target)


def _replace(staged: str, target: str) -> None:
    """Put the staged bytes in the place of what is there: they were verified, and that was not."""
    if os.path.samefile(staged, target):
        return
    beside = f"{staged}.placing"
    with suppress(FileNotFoundError):
        os.unlink(beside)
    os.link(staged, beside)
    os.replace(beside, target)
