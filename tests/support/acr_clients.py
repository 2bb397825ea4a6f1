"""Clients of ACR: each sends the requests that the SDK of its language sends, in their order.

They were written from the sources of azure-containerregistry 1.2 (Python), azcontainerregistry 0.2
(Go), @azure/container-registry 1.1 (JavaScript) and azure-containers-containerregistry 1.2 (Java).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Parsed = dict[str, str]

QUERY = {"api-version": "2021-07-01"}


def _split_at_commas(challenge: str) -> Parsed:
    """Read a challenge as Go does, which knows neither spaces nor `=` in values."""
    parts = challenge.replace("Bearer ", "").split('",')
    pairs = [part.split("=") for part in parts]
    return {pair[0]: pair[1].replace('"', "") for pair in pairs if len(pair) == 2}


def _split_at_pairs(challenge: str) -> Parsed:
    """Read a challenge as Python does: what stands between two pairs is a pair as well."""
    assert challenge.startswith("Bearer ")
    pieces = re.split(r'(?:(\w+)="([^""]*)")+', challenge.removeprefix("Bearer "))
    kept = [piece for piece in pieces if piece not in ("", ",")]
    return dict(zip(kept[::2], kept[1::2], strict=True))


def _find_words(challenge: str) -> Parsed:
    """Read a challenge as Java does: a value follows the first place where its name stands."""
    found = {}
    for name in ("service", "scope"):
        rest = challenge[challenge.index(name) + len(name) :]
        assert rest.startswith('="'), challenge
        found[name] = rest[2:].partition('"')[0]
    return found


def _match_pairs(challenge: str) -> Parsed:
    """Read a challenge as JavaScript does."""
    assert challenge.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', challenge))


def payload_of(token: str) -> dict[str, Any]:
    """Decode the payload with the standard alphabet of base64, to the end of its first object."""
    text = token.split(".")[1]
    decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("ascii")
    first = decoded[: decoded.index("}") + 1]
    assert re.search(r'"exp": ?\d+[,}]', first), first
    return dict(json.loads(decoded))


@dataclass(frozen=True)
class Language:
    """What differs between the SDKs.

    `withholds_body` sends no body before the challenge, `keeps_token` uses the last access token
    again. `anonymous` is the form of a client without a credential.
    """

    name: str
    agent: str
    parse: Callable[[str], Parsed]
    withholds_body: bool = False
    keeps_token: bool = True
    anonymous: tuple[tuple[str, str], ...] = (("grant_type", "password"), ("refresh_token", ""))


PYTHON = Language(
    "Python",
    "azsdk-python-containerregistry/1.2.0 Python/3.11.2 (Linux-6.1-x86_64)",
    _split_at_pairs,
    keeps_token=False,
)
GO = Language(
    "Go",
    "myapp azsdk-go-azcontainerregistry/v0.2.3 (go1.22; linux)",
    _split_at_commas,
    withholds_body=True,
)
GO_WITHOUT_NAME = Language(
    "Go, unnamed", "Go-http-client/1.1", _split_at_commas, withholds_body=True
)
JAVASCRIPT = Language(
    "JavaScript",
    "azsdk-js-container-registry/1.1.2 core-rest-pipeline/1.16.0 Node/20.11.0 OS/(x64-Linux)",
    _match_pairs,
)
JAVA = Language(
    "Java",
    "azsdk-java-azure-containers-containerregistry/1.2.6 (17.0.10; Linux; 6.1)",
    _find_words,
    anonymous=(("grant_type", "password"),),
)
LANGUAGES = (PYTHON, GO, JAVASCRIPT, JAVA)


@dataclass
class AcrClient:
    """One client; `credential` is what it calls a token of Entra, None for the anonymous client.

    `sent` records the requests: method, path, status.
    """

    http: httpx.Client
    language: Language
    credential: str | None
    sent: list[tuple[str, str, int]] = field(default_factory=list)
    _access: str | None = None
    _refresh: str | None = None

    def request(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request; if it is challenged, get a token and send it once more."""
        given = {"User-Agent": self.language.agent, **(headers or {})}
        kept = self._access if self.language.keeps_token else None
        if kept is not None:
            answer = self._send(method, path, content, given | {"Authorization": f"Bearer {kept}"})
        elif self.language.withholds_body:
            bare = {name: value for name, value in given.items() if name != "Content-Type"}
            answer = self._send(method, path, None, bare)
        else:
            answer = self._send(method, path, content, given)
        if answer.status_code != 401:
            return answer
        challenge = self.language.parse(answer.headers["WWW-Authenticate"])
        self._access = self._new_access(challenge["service"], challenge["scope"])
        again = given | {"Authorization": f"Bearer {self._access}"}
        return self._send(method, path, content, again)

    def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        answer = self.http.request(method, path, content=content, headers=headers)
        self.sent.append((method, answer.request.url.path, answer.status_code))
        return answer

    def _new_access(self, service: str, scope: str) -> str:
        form = {"service": service, "scope": scope}
        if self.credential is None:
            return self._token(
                "/oauth2/token", form | dict(self.language.anonymous), "access_token"
            )
        if self._refresh is None:
            exchange = {"service": service, "access_token": self.credential}
            exchange |= {"grant_type": "access_token"}
            self._refresh = self._token("/oauth2/exchange", exchange, "refresh_token")
        form |= {"grant_type": "refresh_token", "refresh_token": self._refresh}
        return self._token("/oauth2/token", form, "access_token")

    def _token(self, path: str, form: dict[str, str], name: str) -> str:
        agent = {"User-Agent": self.language.agent}
        answer = self.http.post(path, params=QUERY, data=form, headers=agent)
        self.sent.append(("POST", path, answer.status_code))
        assert answer.status_code == 200, answer.text
        token = str(answer.json()[name])
        assert payload_of(token)["exp"] > time.time()
        return token
