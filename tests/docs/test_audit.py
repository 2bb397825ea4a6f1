"""The commands of the page about events print what it says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from portside.stores.actors import Actor
from portside.stores.events import EventAction, NewEvent
from support.content import image
from support.copying import opened_side
from support.pages import ROOT, Script, read_fences

PAGE = ROOT / "docs" / "howto" / "audit.md"
DIGEST = image("audited").digest
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def plain(text: str) -> str:
    """Return a text without what differs from run to run, and without columns."""
    return re.sub(" +", " ", re.sub(TIME, "TIME", text.replace(DIGEST, "sha256:…")))


def test_page(home: Path, run_script: Script) -> None:
    """What was pushed to a repository is listed, also by the id of the request."""
    blocks = read_fences(PAGE)
    (command, expected) = next(text for kind, text in blocks if kind == "console").split("\n", 1)
    by_request = next(text for _, text in blocks if "--request" in text).splitlines()[0]
    request = by_request.rpartition(" ")[2]

    async def fill() -> None:
        async with opened_side(home / "data") as side:
            for action in (EventAction.MANIFEST_PUSHED, EventAction.TAG_SET):
                event = NewEvent(action, "team/app", "1", DIGEST)
                await side.metadata.record_event(event, Actor("alice", request, "192.0.2.7"))
            await side.metadata.record_event(NewEvent(EventAction.TAG_SET, "other"), Actor())

    asyncio.run(fill())
    for typed in (command.removeprefix("$ "), by_request):
        assert plain(expected) in plain(run_script(typed))
