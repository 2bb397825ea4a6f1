"""Unused upload sessions expire."""

from __future__ import annotations

import time
from pathlib import Path

from support.server import running_registry
from support.wire import assert_error, connect, open_upload


def test_sessions_expire(data: Path) -> None:
    """A session expires with its bytes after the time that the setting says."""
    options = ("--upload-expiry", "1", "--upload-sweep-interval", "1")
    with (
        running_registry(data, *options) as registry,
        connect(registry.url) as client,
    ):
        location = open_upload(client, "a")
        client.patch(location, content=b"begun")
        deadline = time.monotonic() + 15
        while client.get(location).status_code == 204:
            assert time.monotonic() < deadline
        assert_error(client.patch(location, content=b"more"), 404, "BLOB_UPLOAD_UNKNOWN")
        assert list((data / "uploads").iterdir()) == []


def test_a_session_in_use_stays(data: Path) -> None:
    """A session that is used does not expire, however old it is."""
    options = ("--upload-expiry", "2", "--upload-sweep-interval", "1")
    with (
        running_registry(data, *options) as registry,
        connect(registry.url) as client,
    ):
        location = open_upload(client, "a")
        started = time.monotonic()
        sent = 0
        while time.monotonic() < started + 4:
            answer = client.patch(location, content=b"x")
            sent += 1
            assert answer.headers["Range"] == f"0-{sent - 1}"
