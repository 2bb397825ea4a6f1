"""What Linux says of processes."""

from __future__ import annotations

from pathlib import Path


def workers_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Stillness:
    """Whether a process waits for something outside it, and will do nothing until that comes.

    Threads that hand work to each other are never all asleep, and each of them runs for it: so all
    of them are asleep in two looks, and none has run between the two.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: dict[str, tuple[str, ...]] = {}

    def has_come(self) -> bool:
        """Look once more."""
        before = self._seen
        self._seen = {
            thread.name: _state_of(thread) for thread in Path(f"/proc/{self._pid}/task").iterdir()
        }
        is_asleep = all(state[0].startswith("S") for state in self._seen.values())
        return is_asleep and self._seen == before


def _state_of(thread: Path) -> tuple[str, ...]:
    """Return the state of a thread, and how often it was put to sleep or interrupted."""
    wanted = ("State", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    lines = (line.partition(":") for line in (thread / "status").read_text().splitlines())
    return tuple(value.strip() for name, _, value in lines if name in wanted)
