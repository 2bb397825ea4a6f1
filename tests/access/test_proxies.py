"""The realm of a challenge, behind a proxy that clients reach by TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.access import guarded_registry
from support.server import RunningRegistry
from support.wire import connect


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve behind any proxy on this machine."""
    data: Path = tmp_path_factory.mktemp("behind") / "data"
    with guarded_registry(data, "--trusted-proxies", "127.0.0.1") as registry:
        yield registry


def realm(client: httpx.Client, headers: dict[str, str]) -> str:
    """Return the start of a challenge."""
    answer = client.get("/v2/", headers=headers)
    assert answer.status_code == 401
    return str(answer.headers["www-authenticate"]).partition(",")[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example:8443"},
        {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "registry.example",
            "X-Forwarded-Port": "8443",
        },
        {"X-Forwarded-Proto": "https", "Host": "registry.example:8443"},
        {"Forwarded": 'for=192.0.2.1;proto=https;host="registry.example:8443"'},
    ],
)
def test_realm(behind: RunningRegistry, nobody: httpx.Client, headers: dict[str, str]) -> None:
    """It is the URL that the client called, if the proxy is trusted, and only then."""
    with connect(behind.url) as client:
        assert realm(client, headers) == (
            'Bearer realm="https://registry.example:8443/oauth2/token"'
        )
    assert "https" not in realm(nobody, headers)


def test_location(behind: RunningRegistry) -> None:
    """Other responses name no host at all."""
    with connect(behind.url, auth=("alice", "alice's password")) as client:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example"}
        answer = client.post("/v2/team/app/blobs/uploads/", headers=headers)
        assert answer.headers["location"].startswith("/v2/team/app/blobs/uploads/")
