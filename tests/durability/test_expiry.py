"""Unused upload sessions expire."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from support.server import running_registry
from support.waiting import until
from support.wire import assert_error, connect, open_upload

EXPIRY = 2
"""Seconds."""


def test_sessions_expire(data: Path) -> None:
    """A session expires with its bytes after the time that the setting says."""
    options = ("--upload-expiry", "1", "--upload-sweep-interval", "1")
    with (
        running_registry(data, *options) as registry,
        connect(registry.url) as client,
    ):
        location = open_upload(client, "a")
        client.patch(location, content=b"begun")
        until(lambda: client.get(location).status_code != 204)
        assert_error(client.patch(location, content=b"more"), 404, "BLOB_UPLOAD_UNKNOWN")
        assert list((data / "uploads").iterdir()) == []


def test_a_session_in_use_stays(data: Path) -> None:
    """A session that is used does not expire, however old it is."""
    options = ("--upload-expiry", str(EXPIRY), "--upload-sweep-interval", "1")
    with (
        running_registry(data, *options) as registry,
        connect(registry.url) as client,
    ):
        # On a slow machine, a client may pause for longer than it means to.
        while not is_kept(client):
            pass


def is_kept(client: httpx.Client) -> bool:
    """Use a session for twice the time; returns False if once it was not used for too long."""
    location = open_upload(client, "a")
    started = used = time.monotonic()
    sent = 0
    while time.monotonic() < started + 2 * EXPIRY:
        answer = client.patch(location, content=b"x")
        sent += 1
        before, used = used, time.monotonic()
        if answer.status_code == 404 and used - before > EXPIRY / 2:
            return False
        assert answer.headers["Range"] == f"0-{sent - 1}"
    return True
