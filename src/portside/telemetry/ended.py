"""What workers that have ended had counted: it is added up in files of its own, and theirs go.

Workers are replaced when they fail and when the certificate is renewed. Each would leave its files
in memory for as long as the registry runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from portside.telemetry.catalogue import Merge

ENDED = 0
"""The process in whose name the sums are kept; no worker has this number."""

_Value = tuple[float, float]
"""A value, and when it was written, which the library notes of some gauges."""


def _sum(first: _Value, second: _Value) -> _Value:
    return first[0] + second[0], second[1]


def _newest(first: _Value, second: _Value) -> _Value:
    return max(first, second, key=lambda value: value[1])


_ADDED: dict[str, Callable[[_Value, _Value], _Value]] = {
    "counter": _sum,
    "histogram": _sum,
    f"gauge_{Merge.MOST}": max,
    f"gauge_{Merge.NEWEST}": _newest,
}
"""How two values become one, by the beginning of the file's name; other gauges are forgotten."""


def processes(files: Path) -> set[int]:
    """Return the processes that have files in a directory."""
    return {int(path.stem.rpartition("_")[2]) for path in files.glob("*.db")} - {ENDED}


def merge_ended(files: Path, process: int) -> None:
    """Add what a process that has ended had counted to the sums, and remove its files.

    Nobody else reads or writes the sums at the same time.
    """
    for path in files.glob(f"*_{process}.db"):
        kind = path.stem.rpartition("_")[0]
        added = _ADDED.get(kind)
        if added is not None:
            _merge(path, path.with_name(f"{kind}_{ENDED}.db"), added)
        path.unlink()


def _merge(path: Path, target: Path, added: Callable[[_Value, _Value], _Value]) -> None:
    # All is read before anything is written: a file that cannot be read changes no sum.
    values = list(MmapedDict.read_all_values_from_file(str(path)))  # type: ignore[no-untyped-call]
    sums = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    try:
        for key, value, time, _ in values:
            found = added(sums.read_value(key), (value, time))  # type: ignore[no-untyped-call]
            sums.write_value(key, *found)  # type: ignore[no-untyped-call]
    finally:
        sums.close()  # type: ignore[no-untyped-call]
