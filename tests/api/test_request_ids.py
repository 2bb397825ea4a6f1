"""The id of a request: in the response, in the detail of errors, and in the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.access import ALICE, guarded_registry
from support.server import RunningRegistry, running_registry
from support.waiting import until
from support.wire import ONCE, connect

GIVEN = "Root=1-67891233-abcdef012345678912345678"

MADE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve behind a trusted proxy, which is this test."""
    data: Path = tmp_path_factory.mktemp("proxied") / "data"
    options = ("--access-log", "--workers", "1", "--trusted-proxies", "127.0.0.1")
    with guarded_registry(data, *options) as registry:
        yield registry


def test_from_a_trusted_proxy(behind_proxy: RunningRegistry) -> None:
    """The id by which the proxy knows the request is answered, and logged with what was done."""
    headers = {"X-Request-Id": GIVEN, "X-Forwarded-For": "2001:db8::7"}
    with connect(behind_proxy.url, auth=ALICE.pair) as client:
        answer = client.get("/v2/team/app/manifests/v1", headers=headers)
    assert answer.status_code == 404
    assert answer.headers["X-Request-Id"] == GIVEN
    assert answer.json()["errors"][0]["detail"].endswith(f" (request {GIVEN})")
    until(lambda: GIVEN in behind_proxy.log)
    (line,) = [line for line in behind_proxy.log.splitlines() if GIVEN in line]
    entry = json.loads(line)
    assert entry["client"] == "2001:db8::7"
    assert entry["identity"] == ALICE.name
    assert entry["scheme"] == "basic"


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, 'a"b', "\xe4"])
def test_malformed(behind_proxy: RunningRegistry, given: str) -> None:
    """What could not be an id is not taken for one."""
    fields = [(b"X-Request-Id", given.encode("latin-1"))]
    answer = httpx.get(f"{behind_proxy.url}/healthz", headers=fields, **ONCE)
    assert MADE.fullmatch(answer.headers["X-Request-Id"])


def test_from_others(tmp_path: Path) -> None:
    """A client cannot choose the id; two requests never have the same, in all workers."""
    with running_registry(tmp_path / "data", "--workers", "2") as registry:
        made = set()
        for _ in range(20):
            answer = httpx.get(f"{registry.url}/v2/", headers={"X-Request-Id": GIVEN}, **ONCE)
            made.add(answer.headers.get_list("X-Request-Id")[0])
    assert len(made) == 20
    assert all(map(MADE.fullmatch, made))
