"""What a diagnosis makes of figures."""

from __future__ import annotations

import pytest

from portside.operations.diagnose import (
    DAY,
    Level,
    compare_clocks,
    look_at_deliveries,
    look_at_life,
    look_at_space,
)
from portside.stores.webhooks import WebhookState

SECOND = 1_000_000
MIB = 1 << 20


@pytest.mark.parametrize(
    ("found", "level", "said"),
    [
        (100, Level.OK, "agrees with that of it"),
        (131, Level.OK, "agrees"),
        (69, Level.OK, "agrees"),
        (132, Level.PROBLEM, "this machine is 31 seconds behind it"),
        (68, Level.PROBLEM, "this machine is 31 seconds ahead of it"),
    ],
)
def test_clocks(found: int, level: Level, said: str) -> None:
    """What a store told from the 99th to the 101st second may be half a minute off."""
    diagnosis = compare_clocks("it", 99 * SECOND, found * SECOND, 101 * SECOND)
    assert diagnosis.level is level
    assert said in diagnosis.text
    assert bool(diagnosis.remedy) is (level is Level.PROBLEM)


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [
        (64, 1000, Level.PROBLEM),
        (65, 1000, Level.OK),
        (65, 1400, Level.PROBLEM),
        (900, 1000, Level.OK),
    ],
)
def test_space(free: int, total: int, level: Level) -> None:
    """A disk needs more than the reserve, and a twentieth."""
    assert look_at_space("/data", free * MIB, total * MIB, 64 * MIB).level is level


def test_deliveries() -> None:
    """What is paused or dead is told with the command that shows or ends it; nothing else is."""
    well = WebhookState("well", 9, False, 0, None, 5, 0, None, 1)
    found = look_at_deliveries([well, well._replace(name="a", paused=True, dead=2)])
    assert [f"{one.level}: {one.text}; {one.remedy}" for one in found] == [
        "advice: a is paused; run `portside webhooks resume a`",
        "advice: 2 events of a are dead; see `portside webhooks deliveries a`, and retry them",
    ]


@pytest.mark.parametrize(
    ("life", "passed", "said"),
    [
        (90, -1, "not valid yet"),
        (90, 0, "is valid for 90 days"),
        (90, 76, "is valid for 14 days"),
        (90, 76.5, "expires in 13 days"),
        (6, 4, "is valid for 2 days"),
        (6, 5, "expires in 1 days"),
        (90, 90, "has expired"),
    ],
)
def test_life(life: float, passed: float, said: str) -> None:
    """A certificate is renewed two weeks before its end, or in the last quarter of a short life."""
    found = look_at_life("c.pem", 0, life * DAY, passed * DAY)
    assert said in found.text
    assert found.is_ok is ("is valid for" in said)
