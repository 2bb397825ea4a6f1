"""Tokens of trusted issuers: keys from a file or a URL, and nobody gets in without them."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from jwt.utils import base64url_decode, base64url_encode

from auth.conftest import SECOND, Elapsed
from portside.auth.grants import Grants
from portside.auth.issuers import Issuer
from portside.auth.tokens import foreign
from portside.auth.tokens.foreign import (
    FETCH_PAUSE,
    KEEP,
    PublishedKeys,
    TrustedIssuers,
)
from portside.auth.tokens.keys import KeyRing, make_key
from portside.auth.tokens.own import TokenInvalid
from portside.auth.tokens.times import CLOCK_SKEW
from portside.spec.actions import Action
from portside.stores.access import IdentityKind

NAME = "https://ci.example"
AUDIENCE = "registry.example"
RING, OTHER_RING = KeyRing([make_key(1)]), KeyRing([make_key(2)])
NOW = int(time.time())
REFRESH = 60


def sign(ring: KeyRing = RING, without: str = "", kid: str | None = None, **changes: Any) -> str:
    """Sign a token as the issuer does."""
    claims = {"iss": NAME, "aud": AUDIENCE, "exp": NOW + 3600, "sub": "team", **changes}
    claims.pop(without, None)
    headers = {"kid": ring.newest if kid is None else kid}
    return jwt.encode(claims, ring.signing, algorithm="ES256", headers=headers)


def from_now(**seconds: int) -> dict[str, Any]:
    """Return claims whose times are so many seconds ahead of the clock."""
    now = int(time.time())
    return {name: now + ahead for name, ahead in seconds.items()}


class KeyServer:
    """Publishes keys, or what a test wants instead."""

    def __init__(self) -> None:
        self.body = json.dumps(RING.jwks).encode()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.breaks_off = False
        self.released = threading.Event()
        self.released.set()
        self.requests = 0
        keys = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.answer(self)

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer as the test wants it."""
        self.requests += 1
        self.released.wait()
        request.close_connection = True
        try:
            request.send_response(self.status)
            for name, value in self.headers.items():
                request.send_header(name, value)
            length = len(self.body) + (10 if self.breaks_off else 0)
            request.send_header("Content-Length", str(length))
            request.end_headers()
            request.wfile.write(self.body)
        except OSError:
            # The client waits no longer.
            return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyServer]:
    """Serve keys on loopback, whatever proxies the machine has."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = KeyServer()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Make threads to fetch in."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def issuer(**settings: Any) -> Issuer:
    """Trust an issuer."""
    defaults: dict[str, Any] = {
        "name": "ci",
        "issuer": NAME,
        "audience": AUDIENCE,
        "jwks_refresh": REFRESH,
    }
    return Issuer(**(defaults | settings))


def write_keys(path: Path, document: dict[str, Any]) -> None:
    """Write a set of keys, with a newer time than the one before."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(json.dumps(document))
    os.utime(path, ns=(before + SECOND, before + SECOND))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Write the issuer's keys to a file."""
    path = tmp_path / "keys.json"
    write_keys(path, RING.jwks)
    return path


@pytest.fixture
def tokens(key_file: Path, pool: ThreadPoolExecutor) -> TrustedIssuers:
    """Trust an issuer by the keys in a file."""
    return TrustedIssuers((issuer(jwks_file=str(key_file), groups_claim="roles"),), pool)


class TestTokens:
    """What a token has to be."""

    async def test_good(self, tokens: TrustedIssuers) -> None:
        """A good token is an identity of its issuer, limited by nothing but the policy."""
        found = await tokens.read(sign(roles=["ops"]), NAME)
        assert (found.identity.name, found.identity.kind) == ("ci:team", IdentityKind.FOREIGN)
        assert found.identity.groups == {"ci:ops"}
        assert (found.grants, found.expires) == (None, NOW + 3600 + CLOCK_SKEW)

    async def test_limited(self, tokens: TrustedIssuers) -> None:
        """The claim `access` of a token server limits what its token is good for."""
        entry = {"type": "repository", "name": "a", "actions": ["pull"]}
        found = await tokens.read(sign(access=[entry]), NAME)
        assert found.grants == Grants({"a": frozenset({Action.PULL})})
        for nothing in ([], None, "all", [5]):
            found = await tokens.read(sign(access=nothing), NAME)
            assert found.grants == Grants()

    @pytest.mark.parametrize(
        "changes",
        [
            {"ring": OTHER_RING},
            {"ring": OTHER_RING, "kid": RING.newest},
            {"kid": "unknown"},
            {"kid": ""},
            {"aud": "other.example"},
            {"aud": []},
            {"exp": NOW - CLOCK_SKEW - 60},
            {"exp": "soon"},
            {"exp": float("inf")},
            {"exp": float("nan")},
            {"nbf": NOW + 3600},
            {"iat": NOW + 3600},
            {"iss": "https://other.example"},
            {"without": "iss"},
            {"without": "aud"},
            {"without": "exp"},
            {"without": "sub"},
            {"sub": ""},
            {"sub": "team\0"},
        ],
        ids="-".join,
    )
    async def test_refused(self, tokens: TrustedIssuers, changes: dict[str, Any]) -> None:
        """Another key, audience, issuer, time or identity lets nobody in."""
        text = sign(**changes)
        with pytest.raises(TokenInvalid) as caught:
            await tokens.read(text, NAME)
        assert not any(part in str(caught.value) for part in text.split("."))

    @pytest.mark.parametrize(
        "header",
        [
            {},
            {"alg": None},
            {"alg": 7},
            {"alg": ["RS256"]},
            {"alg": "none"},
            {"alg": "HS256"},
            {"alg": "ES256", "kid": 7},
            {"alg": "ES256", "kid": None},
            {"alg": "ES256", "crit": ["x"]},
        ],
    )
    async def test_headers(self, tokens: TrustedIssuers, header: dict[str, Any]) -> None:
        """A header that nobody signed, over known content, is refused and no failure."""
        written = json.dumps({"kid": RING.newest, **header}).encode()
        first = base64.urlsafe_b64encode(written).rstrip(b"=").decode()
        text = ".".join((first, *sign().split(".")[1:]))
        with pytest.raises(TokenInvalid):
            await tokens.read(text, NAME)

    @pytest.mark.parametrize("ahead", [{"nbf": 50}, {"iat": 50, "nbf": 50}, {"exp": -50}])
    async def test_clock_skew(self, tokens: TrustedIssuers, ahead: dict[str, int]) -> None:
        """The clocks of issuer and registry may differ by a minute."""
        assert (await tokens.read(sign(**from_now(**ahead)), NAME)).identity.name == "ci:team"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"nbf": 500}, r"not valid yet: it begins (500|49\d) s after .* clock"),
            ({"iat": 500}, r"not valid yet: it begins (500|49\d) s after .* clock"),
            ({"exp": -500}, r"expired: it ended 5\d\d s before .* clock, and 60 s are"),
        ],
    )
    async def test_clock_is_why(
        self, tokens: TrustedIssuers, changes: dict[str, int], message: str
    ) -> None:
        """A refusal says that the clock is why, and by how much."""
        with pytest.raises(TokenInvalid, match=message):
            await tokens.read(sign(**from_now(**changes)), NAME)

    async def test_no_skew(self, key_file: Path, pool: ThreadPoolExecutor) -> None:
        """The tolerance is a setting."""
        tokens = TrustedIssuers((issuer(jwks_file=str(key_file)),), pool, skew=0)
        with pytest.raises(TokenInvalid, match="not valid yet"):
            await tokens.read(sign(**from_now(nbf=50)), NAME)

    async def test_not_trusted(self, tokens: TrustedIssuers) -> None:
        """A token of an issuer that is not named is refused, no matter who signed it."""
        for name in ("https://other.example", "", "portside"):
            with pytest.raises(TokenInvalid, match="not trusted"):
                await tokens.read(sign(iss=name), name)

    @pytest.mark.parametrize("text", ["", "..", "a.b.c", "\u00e9", "\ud800.a.b", "[" * 100_000])
    async def test_garbage(self, tokens: TrustedIssuers, text: str) -> None:
        """What is no token is refused."""
        with pytest.raises(TokenInvalid):
            await tokens.read(text, NAME)

    @pytest.mark.parametrize(
        ("bits", "changes", "is_taken"),
        [
            (2048, {}, True),
            (2048, {"use": "sig", "key_ops": ["verify"], "alg": "RS256"}, True),
            (1024, {}, False),
            (2048, {"use": "enc"}, False),
            (2048, {"use": "other"}, False),
            (2048, {"key_ops": ["encrypt"]}, False),
            (2048, {"alg": "RS512"}, False),
        ],
    )
    @pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
    async def test_keys(
        self,
        tmp_path: Path,
        pool: ThreadPoolExecutor,
        bits: int,
        changes: dict[str, Any],
        is_taken: bool,  # a column of the table
    ) -> None:
        """Short RSA keys, and keys for something else than signatures, verify nothing."""
        private = rsa.generate_private_key(65537, bits)  # that is what is tested
        jwk = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        jwk = {name: value for name, value in jwk.items() if name != "key_ops"}
        path = tmp_path / "rsa.json"
        write_keys(path, {"keys": [{**jwk, "kid": "r", **changes}, *RING.jwks["keys"]]})
        tokens = TrustedIssuers((issuer(jwks_file=str(path)),), pool)
        claims = {"iss": NAME, "aud": AUDIENCE, "exp": NOW + 3600, "sub": "team"}
        text = jwt.encode(claims, private, algorithm="RS256", headers={"kid": "r"})
        try:
            assert (await tokens.read(text, NAME)).identity.name == "ci:team"
        except TokenInvalid:
            assert not is_taken
        else:
            assert is_taken
        assert await tokens.read(sign(), NAME)

    async def test_secrets(self, key_file: Path, pool: ThreadPoolExecutor) -> None:
        """A shared secret among the keys, or a public key taken for one, verifies nothing."""
        secret = "c2VjcmV0" * 8
        shared = {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"}
        write_keys(key_file, {"keys": [shared, *RING.jwks["keys"]]})
        tokens = TrustedIssuers((issuer(jwks_file=str(key_file)),), pool)
        claims = {"iss": NAME, "aud": AUDIENCE, "exp": NOW + 3600, "sub": "team"}
        raw = base64url_decode(secret)
        pem = RING.verifying[RING.newest].public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for key, kid in ((raw, "shared"), (pem, RING.newest), (raw, RING.newest)):
            header = {"alg": "HS256", "kid": kid}
            parts = [base64url_encode(json.dumps(part).encode()) for part in (header, claims)]
            signature = base64url_encode(hmac.digest(key, b".".join(parts), "sha256"))
            text = b".".join([*parts, signature]).decode("ascii")
            with pytest.raises(TokenInvalid):
                await tokens.read(text, NAME)
        unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": RING.newest})
        with pytest.raises(TokenInvalid):
            await tokens.read(unsigned, NAME)


class TestKeyFile:
    """Keys in a file."""

    async def test_changes(self, tokens: TrustedIssuers, key_file: Path) -> None:
        """Keys count from when they are written until they are taken out."""
        await tokens.read(sign(), NAME)
        with pytest.raises(TokenInvalid):
            await tokens.read(sign(OTHER_RING), NAME)
        write_keys(key_file, OTHER_RING.jwks)
        await tokens.read(sign(OTHER_RING), NAME)
        with pytest.raises(TokenInvalid):
            await tokens.read(sign(), NAME)

    @pytest.mark.parametrize(
        "text",
        [None, "", "no JSON", "[]", "5", "{}", '{"keys": 5}', '{"keys": [5]}', "[" * 100_000],
        ids=lambda text: str(text)[:9],
    )
    async def test_unusable(
        self,
        pool: ThreadPoolExecutor,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        text: str | None,
    ) -> None:
        """A file without keys lets nobody in, says so in the log, and is taken up once it has."""
        path = tmp_path / "later.json"
        if text is not None:
            path.write_text(text)
        tokens = TrustedIssuers((issuer(jwks_file=str(path)),), pool)
        assert "later.json" in caplog.text
        with pytest.raises(TokenInvalid):
            await tokens.read(sign(), NAME)
        path.write_text(json.dumps(RING.jwks))
        await tokens.read(sign(), NAME)


GARBAGE = [
    b"",
    b"no JSON",
    b"\xff\xfe",
    b"[]",
    b"5",
    b"null",
    b"{}",
    b'{"keys": 5}',
    b'{"keys": ["a"]}',
    b'{"keys": [{"kty": "EC"}]}',
    b'{"keys": [{"kty": "EC", "crv": "P-256", "x": 5, "y": null, "kid": "a"}]}',
    b"[" * 100_000,
]


class TestPublishedKeys:
    """Keys at a URL."""

    @pytest.fixture
    def keys(self, server: KeyServer, pool: ThreadPoolExecutor, elapsed: Elapsed) -> PublishedKeys:
        """Trust what the server publishes."""
        return PublishedKeys(issuer(jwks_url=server.url), pool, elapsed)

    async def test_token(self, server: KeyServer, pool: ThreadPoolExecutor) -> None:
        """A token is verified by keys that are fetched once."""
        tokens = TrustedIssuers((issuer(jwks_url=server.url),), pool)

        callers = await asyncio.gather(*(tokens.read(sign(), NAME) for _ in range(10)))
        assert {caller.identity.name for caller in callers} == {"ci:team"}
        assert server.requests == 1

    async def test_unknown_key(
        self, server: KeyServer, keys: PublishedKeys, elapsed: Elapsed
    ) -> None:
        """Tokens of unknown keys make nobody fetch again within the pause."""
        assert await keys.find(RING.newest) is not None
        for number in range(20):
            assert await keys.find(f"unknown-{number}") is None
        assert server.requests == 1
        elapsed.now += FETCH_PAUSE + 1
        for number in range(20):
            assert await keys.find(f"unknown-{number}") is None
        assert server.requests == 2

    async def test_rotation(self, server: KeyServer, keys: PublishedKeys, elapsed: Elapsed) -> None:
        """A new key is found as soon as the pause is over, and one taken back is gone."""
        assert await keys.find(RING.newest) is not None
        server.body = json.dumps(OTHER_RING.jwks).encode()
        assert await keys.find(OTHER_RING.newest) is None
        elapsed.now += FETCH_PAUSE + 1
        assert await keys.find(OTHER_RING.newest) is not None
        assert await keys.find(RING.newest) is None

    async def test_refresh(self, server: KeyServer, keys: PublishedKeys, elapsed: Elapsed) -> None:
        """A key that was taken back is gone after the refresh time, without another key."""
        assert await keys.find(RING.newest) is not None
        server.body = json.dumps(OTHER_RING.jwks).encode()
        elapsed.now += REFRESH - 1
        assert await keys.find(RING.newest) is not None
        elapsed.now += 2
        assert await keys.find(RING.newest) is None
        assert server.requests == 2

    async def test_all_taken_back(
        self, server: KeyServer, keys: PublishedKeys, elapsed: Elapsed
    ) -> None:
        """An issuer that publishes an empty set has no key from then on."""
        assert await keys.find(RING.newest) is not None
        server.body = b'{"keys": []}'
        elapsed.now += REFRESH + 1
        assert await keys.find(RING.newest) is None
        assert server.requests == 2

    @pytest.mark.parametrize("status", [404, 500, 503])
    async def test_error(self, server: KeyServer, keys: PublishedKeys, status: int) -> None:
        """An error is no key, even if it has keys in it."""
        server.status = status
        assert await keys.find(RING.newest) is None

    @pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:12]))
    async def test_garbage(
        self,
        server: KeyServer,
        keys: PublishedKeys,
        elapsed: Elapsed,
        caplog: pytest.LogCaptureFixture,
        body: bytes,
    ) -> None:
        """What is no set of keys is no key, and takes none away that was known."""
        good, server.body = server.body, body
        assert await keys.find(RING.newest) is None
        assert "cannot fetch the keys of the issuer ci" in caplog.text
        server.body = good
        elapsed.now += FETCH_PAUSE + 1
        assert await keys.find(RING.newest) is not None
        server.body = body
        elapsed.now += REFRESH + 1
        assert await keys.find(RING.newest) is not None
        assert server.requests == 3

    async def test_broken_off(self, server: KeyServer, keys: PublishedKeys) -> None:
        """An answer that breaks off is no set of keys."""
        server.body = server.body[:-20]
        server.breaks_off = True
        assert await keys.find(RING.newest) is None

    async def test_no_http(self, server: KeyServer, keys: PublishedKeys) -> None:
        """An answer that is longer than any, or has no end of headers, is no set of keys."""
        server.headers = {"X-Long": "a" * 70_000}
        assert await keys.find(RING.newest) is None

    async def test_redirect(self, server: KeyServer, keys: PublishedKeys) -> None:
        """Keys are taken from where the access file says, and from nowhere else."""
        server.status = 302
        server.headers = {"Location": server.url}
        assert await keys.find(RING.newest) is None
        assert server.requests == 1

    async def test_slow(
        self,
        server: KeyServer,
        pool: ThreadPoolExecutor,
        elapsed: Elapsed,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A server that does not answer lets nobody in, and is waited for once."""
        monkeypatch.setattr(foreign, "FETCH_TIMEOUT", 0.1)
        server.released.clear()
        keys = PublishedKeys(issuer(jwks_url=server.url), pool, elapsed)

        found = await asyncio.gather(*(keys.find(RING.newest) for _ in range(10)))
        assert found == [None] * 10
        assert server.requests == 1

    async def test_unreachable(
        self, server: KeyServer, keys: PublishedKeys, elapsed: Elapsed
    ) -> None:
        """Known keys outlive an outage for some time, and not for ever; new ones do not appear."""
        assert await keys.find(RING.newest) is not None
        server.status = 503
        elapsed.now += REFRESH * KEEP - 1
        assert await keys.find(RING.newest) is not None
        assert await keys.find(OTHER_RING.newest) is None
        elapsed.now += 2
        assert await keys.find(RING.newest) is None
        server.status = 200
        elapsed.now += FETCH_PAUSE + 1
        assert await keys.find(RING.newest) is not None

    async def test_nobody_listens(self, pool: ThreadPoolExecutor) -> None:
        """A URL where nobody listens lets nobody in."""
        tokens = TrustedIssuers((issuer(jwks_url="http://127.0.0.1:1/keys"),), pool)
        with pytest.raises(TokenInvalid, match="unknown key"):
            await tokens.read(sign(), NAME)
