"""An error that nobody expected: the client gets an id, and the log has the cause under it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from portside.api import discovery
from portside.api.requests import Request
from portside.bootstrap.application import make_app
from portside.config import Settings
from support.wire import assert_error


async def test_unexpected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 500 without a detail of it; the log has its traceback."""

    async def ping(request: Request) -> None:
        raise ZeroDivisionError(f"a secret of {request}")

    monkeypatch.setattr(discovery, "ping", ping)
    settings = Settings(data=str(tmp_path / "data"), open=True)
    transport = httpx.ASGITransport(make_app(settings, on_start=lambda: None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/v2/")
    assert_error(answer, 500, "UNKNOWN")
    assert "secret" not in answer.text
    (record,) = caplog.records
    assert answer.headers["X-Request-Id"] in record.getMessage()
    assert record.exc_info is not None
    assert "a secret of" in str(record.exc_info[1])
