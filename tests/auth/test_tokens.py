"""This registry's own tokens: nothing but what it signed, for what it signed it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from auth.conftest import Clock
from portside.auth.grants import Grants
from portside.auth.identities import ANONYMOUS, Identity
from portside.auth.tokens.keys import KeyRing, load_keys, make_key, rotate_keys
from portside.auth.tokens.own import (
    ISSUER,
    LEEWAY,
    TokenClaims,
    TokenFactory,
    TokenInvalid,
    claimed_issuer,
)
from portside.auth.tokens.times import CLOCK_SKEW
from portside.spec.actions import REPOSITORY_ACTIONS, Action
from portside.stores.access import IdentityKind
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Access

AUDIENCE = "registry.example"
RING, OTHER_RING = KeyRing([make_key(1)]), KeyRing([make_key(2)])
FACTORY = TokenFactory(RING, audience=AUDIENCE)
ALICE = Identity("alice", IdentityKind.USER, frozenset({"devs"}), stamp="0123abcd")
GRANTS = Grants({"team/app": frozenset({Action.PULL})})
HOUR = 3600
NOW = int(time.time())


def access() -> str:
    """Sign a good access token."""
    return FACTORY.access_token(ALICE, GRANTS, now=int(time.time()), life=HOUR)


def claims() -> dict[str, Any]:
    """Return the claims of a good access token."""
    found: dict[str, Any] = jwt.decode(access(), options={"verify_signature": False})
    return found


def encode(data: bytes) -> str:
    """Write a part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def sign(
    changes: dict[str, Any] | None = None,
    *,
    ring: KeyRing = RING,
    without: str = "",
    headers: dict[str, Any] | None = None,
) -> str:
    """Sign other claims as the registry would."""
    payload = {**claims(), **(changes or {})}
    payload.pop(without, None)
    kid = {"kid": ring.newest} | (headers or {})
    return jwt.encode(payload, ring.signing, algorithm="ES256", headers=kid)


def unsigned(algorithm: str) -> str:
    """Write a token that claims to need no signature."""
    header = {"alg": algorithm, "kid": RING.newest, "typ": "JWT"}
    parts = [encode(json.dumps(part).encode()) for part in (header, claims())]
    return ".".join([*parts, ""])


def signed_with_public_key(key_format: serialization.PublicFormat) -> str:
    """Take the public key for a shared secret."""
    public = RING.verifying[RING.newest]
    pem = public.public_bytes(serialization.Encoding.PEM, key_format)
    header = {"alg": "HS256", "kid": RING.newest, "typ": "JWT"}
    parts = ".".join(encode(json.dumps(part).encode()) for part in (header, claims()))
    return f"{parts}.{encode(hmac.digest(pem, parts.encode(), hashlib.sha256))}"


def resigned_payload(changes: dict[str, Any]) -> str:
    """Change the payload, and keep the signature."""
    header, _, signature = access().split(".")
    return ".".join([header, encode(json.dumps({**claims(), **changes}).encode()), signature])


FORGERIES: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: unsigned("none"),
    "no algorithm, in another case": lambda: unsigned("nOnE"),
    "an algorithm without a signature": lambda: unsigned("ES256"),
    "the public key as a secret": lambda: signed_with_public_key(
        serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    "another key under its own name": lambda: sign(ring=OTHER_RING),
    "another key under our name": lambda: sign(ring=OTHER_RING, headers={"kid": RING.newest}),
    "our key under another name": lambda: sign(headers={"kid": OTHER_RING.newest}),
    "a key that the token brings along": lambda: sign(
        ring=OTHER_RING, headers={"kid": RING.newest, "jwk": OTHER_RING.jwks["keys"][0]}
    ),
    "another audience": lambda: sign({"aud": "other.example"}),
    "several audiences": lambda: sign({"aud": [AUDIENCE, "other.example"]}),
    "another issuer": lambda: sign({"iss": "other"}),
    "expired": lambda: sign({"exp": NOW - LEEWAY - 60}),
    "not yet valid": lambda: sign({"nbf": NOW + HOUR}),
    "issued in the future": lambda: sign({"iat": NOW + HOUR}),
    "an unknown kind": lambda: sign({"kind": "root"}),
    "an end that is no number": lambda: sign({"exp": "soon"}),
    "a name that is none": lambda: sign({"sub": 5}),
    "a refresh token": lambda: FACTORY.refresh_token(ALICE, now=NOW, expires=NOW + HOUR),
    "another purpose": lambda: sign({"grant_type": "any"}),
    "a changed name": lambda: resigned_payload({"sub": "root"}),
    "changed grants": lambda: resigned_payload({"access": []}),
    "more behind it": lambda: access() + "AAAA",
    "one more part": lambda: access() + ".AAAA",
    "a part less": lambda: access().rpartition(".")[0],
    "twice": lambda: access() + access(),
    "two of them": lambda: f"{access()},{access()}",
    "very long": lambda: "a" * 300_000,
    "very long parts": lambda: ".".join(["a" * 100_000] * 3),
    "deep": lambda: ".".join([encode(b'{"alg":"ES256"}'), encode(b"[" * 100_000), "AA"]),
    "a deep header": lambda: ".".join([encode(b'{"a":' * 50_000), encode(b"{}"), "AA"]),
    "a list": lambda: ".".join([encode(b'{"alg":"ES256"}'), encode(b"[]"), "AA"]),
    "a name of a key that is none": lambda: ".".join(
        [encode(b'{"alg":"ES256","kid":[1]}'), encode(b"{}"), "AA"]
    ),
    "an outside payload": lambda: ".".join(
        [encode(b'{"alg":"ES256","b64":false,"crit":["b64"]}'), "", "AA"]
    ),
    "beyond ASCII": lambda: "\u00e9.\u00e9.\u00e9",
    "no characters": lambda: "\ud800.\ud800.\ud800",
    "nothing": lambda: "",
    "dots": lambda: "..",
    "zeros": lambda: "\0.\0.\0",
} | {
    f"no {claim}": (lambda claim=claim: sign(without=claim))
    for claim in claims()
    if claim
    not in (
        "access",
        "groups",
        "stamp",
        "version",
    )
}


class TestForgeries:
    """What is not accepted."""

    @pytest.mark.parametrize("kind", FORGERIES)
    def test_refused(self, kind: str) -> None:
        """It is no access token, and no refresh token either; the reason shows nothing of it."""
        text = FORGERIES[kind]()
        readers = [FACTORY.read_access_token]
        if kind != "a refresh token":
            readers.append(FACTORY.read_refresh_token)
        for read in readers:
            with pytest.raises(TokenInvalid) as caught:
                read(text)
            parts = [part for part in text.split(".") if len(part) > 4]
            assert not any(part in str(caught.value) for part in parts)

    def test_purposes(self) -> None:
        """Each of the two kinds of token is good for its own purpose alone."""
        refresh = FACTORY.refresh_token(ALICE, now=NOW, expires=NOW + HOUR)
        assert FACTORY.read_refresh_token(refresh).identity == ALICE
        assert FACTORY.read_access_token(access()).identity == ALICE
        with pytest.raises(TokenInvalid, match="not a refresh token"):
            FACTORY.read_refresh_token(access())
        with pytest.raises(TokenInvalid, match="not an access token"):
            FACTORY.read_access_token(refresh)

    def test_leeway(self) -> None:
        """The clock of the node that signed may be ahead by up to a minute."""
        now = int(time.time()) + CLOCK_SKEW - 2
        assert FACTORY.read_access_token(FACTORY.access_token(ALICE, GRANTS, now=now, life=HOUR))

    @given(st.integers(min_value=0), st.characters(codec="ascii"))
    def test_tampering(self, position: int, character: str) -> None:
        """A token with any character changed is refused, or says exactly what it said."""
        good = access()
        position %= len(good)
        bad = good[:position] + character + good[position + 1 :]
        try:
            found = FACTORY.read_access_token(bad)
        except TokenInvalid:
            return
        # The last character of a signature holds bits that mean nothing.
        assert found == FACTORY.read_access_token(good)
        assert bad.rpartition(".")[0] == good.rpartition(".")[0]

    @given(st.text() | st.text(st.sampled_from("eyJ.-_= A")))
    @example("\ud800")
    def test_any_text(self, text: str) -> None:
        """Any text that is no token is refused, and never anything else."""
        for read in (FACTORY.read_access_token, FACTORY.read_refresh_token, claimed_issuer):
            with pytest.raises(TokenInvalid):
                read(text)

    @given(
        st.dictionaries(
            st.sampled_from(["sub", "kind", "groups", "stamp", "access", "exp", "nbf", "aud"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: (
                    st.lists(inner, max_size=2)
                    | st.dictionaries(st.sampled_from(["type", "name", "actions"]), inner)
                ),
            ),
        )
    )
    def test_any_payload(self, changes: dict[str, Any]) -> None:
        """Whatever somebody else writes into a token, without our key it is refused."""
        header = encode(json.dumps({"alg": "ES256", "kid": RING.newest}).encode())
        body = encode(json.dumps({**claims(), **changes}).encode())
        with pytest.raises(TokenInvalid):
            FACTORY.read_access_token(f"{header}.{body}.{'A' * 86}")

    def test_issuer(self) -> None:
        """Who claims to have issued a token is read before anything is verified."""
        assert claimed_issuer(access()) == ISSUER
        assert claimed_issuer(sign({"iss": "https://ci.example"}, ring=OTHER_RING)) != ISSUER
        assert claimed_issuer(sign(without="iss")) == ""


some_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
some_groups = st.frozensets(some_text, max_size=3)
some_grants = st.builds(
    Grants,
    st.dictionaries(
        st.sampled_from(["team/app", "a", "*", "a-b_c.d"]),
        st.frozensets(st.sampled_from(REPOSITORY_ACTIONS), min_size=1),
    ),
    st.booleans(),
)


class TestContent:
    """What is read is what was written."""

    @given(some_text, some_groups, st.sampled_from(IdentityKind), some_grants)
    @example("~?>\x7f\u00ff", frozenset({"???", "~~~~"}), IdentityKind.FOREIGN, Grants())
    def test_round_trip(
        self, name: str, groups: frozenset[str], kind: IdentityKind, grants: Grants
    ) -> None:
        """Names, groups and grants of any kind are read again, in either token."""
        identity = Identity(name, kind, groups, stamp="ab12")
        now = int(time.time())
        token = FACTORY.access_token(identity, grants, now=now, life=HOUR)
        assert FACTORY.read_access_token(token) == TokenClaims(identity, grants, now + HOUR)
        refresh = FACTORY.refresh_token(identity, now=now, expires=now + 9)
        found = FACTORY.read_refresh_token(refresh)
        assert (found.identity, found.grants, found.expires) == (identity, None, now + 9)

    @given(some_text, some_groups, st.none() | some_grants)
    @example("~?>\x7f\u00ff\u00fe", frozenset({"???", "~~~~"}), None)
    def test_plain_base64(self, name: str, groups: frozenset[str], grants: Grants | None) -> None:
        """The middle of a refresh token is base64 of the standard alphabet too.

        Microsoft's client reads it with that one (`azure-containerregistry`, `_helpers.py`).
        """
        identity = Identity(name, IdentityKind.FOREIGN, groups, stamp="0123456789abcdef")
        token = FACTORY.refresh_token(identity, now=NOW, expires=NOW + HOUR, grants=grants)
        middle = token.split(".")[1]
        assert not set(middle) & set("-_")
        padded = middle + "=" * (-len(middle) % 4)
        payload = json.loads(base64.b64decode(padded, validate=True))
        assert payload["exp"] == NOW + HOUR
        assert payload["grant_type"] == "refresh_token"

    @given(some_grants)
    def test_limited_refresh_token(self, grants: Grants) -> None:
        """A refresh token of limited credentials keeps their limit."""
        token = FACTORY.refresh_token(ALICE, now=NOW, expires=NOW + HOUR, grants=grants)
        assert FACTORY.read_refresh_token(token).grants == grants

    def test_claims(self) -> None:
        """An access token has the claims of Docker's token authentication, and its key's name."""
        token = access()
        header = jwt.get_unverified_header(token)
        assert header == {"alg": "ES256", "kid": RING.newest, "typ": "JWT"}
        found = claims()
        assert found["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
        assert {"iss", "sub", "aud", "exp", "nbf", "iat", "jti"} <= set(found)
        assert found["jti"] != claims()["jti"]

    def test_anonymous(self) -> None:
        """Those who sent no credentials get tokens too."""
        token = FACTORY.access_token(ANONYMOUS, GRANTS, now=int(time.time()), life=HOUR)
        assert FACTORY.read_access_token(token).identity.is_anonymous


PUBLISHED = {
    43: '{"keys":[{"crv":"P-256","kty":"EC",'
    '"x":"mGriUG8f8QTQQjCGHY9LSY9LxMbQCbMPdUTcEpuC0o0",'
    '"y":"ADzMwKZGDgrjKKTZfTx7YdhvxiicGJ8lJREMRBuwfpc",'
    '"kid":"WZsjbh58q8kl1WsGShqtiycImZtCgGbukDn4RAacMig","use":"sig","alg":"ES256"}]}',
    379: '{"keys":[{"crv":"P-256","kty":"EC",'
    '"x":"AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo",'
    '"y":"u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbvbGvVil2UP5I",'
    '"kid":"7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E","use":"sig","alg":"ES256"}]}',
}
"""What is published of private keys, one with a small y and one with a small x."""


class TestKeys:
    """One key signs; those before it verify as long as they have to."""

    async def test_first(self, store: Access, tmp_path: Path, clock: Clock) -> None:
        """Workers that start together share one first key."""
        other = SqliteDatabase(tmp_path, clock=clock)

        try:
            rings = await asyncio.gather(
                *(load_keys(keeper, clock()) for keeper in (store, Access(other)) * 3)
            )
            assert len({ring.newest for ring in rings}) == 1
            assert len(await store.list_keys()) == 1
        finally:
            other.close()

    async def test_rotation(self, store: Access, clock: Clock) -> None:
        """Tokens in flight live on; a key goes once nothing that it signed can be valid."""
        life = HOUR

        async def factory() -> TokenFactory:
            return TokenFactory(await load_keys(store, clock()), audience=AUDIENCE)

        before = await factory()
        token = before.access_token(ALICE, GRANTS, now=int(time.time()), life=HOUR)
        first = (await store.list_keys())[0].id
        clock.forward(1)
        second = await rotate_keys(store, clock(), token_life=life * 1_000_000)
        after = await factory()
        assert after.read_access_token(token).identity == ALICE
        fresh = after.access_token(ALICE, GRANTS, now=int(time.time()), life=HOUR)
        assert jwt.get_unverified_header(fresh)["kid"] == second.id
        with pytest.raises(TokenInvalid):
            before.read_access_token(fresh)
        clock.forward(life - 1)
        third = await rotate_keys(store, clock(), token_life=life * 1_000_000)
        kept = [key.id for key in await store.list_keys()]
        assert kept == [third.id, second.id, first]
        clock.forward(2)
        fourth = await rotate_keys(store, clock(), token_life=life * 1_000_000)
        kept = [key.id for key in await store.list_keys()]
        assert kept == [fourth.id, third.id, second.id]
        with pytest.raises(TokenInvalid):
            (await factory()).read_access_token(token)

    def test_published(self) -> None:
        """What is published is the public half of each key, under its thumbprint, and no more."""
        keys = [make_key(2), make_key(1)]
        ring = KeyRing(keys)
        assert [key["kid"] for key in ring.jwks["keys"]] == [key.id for key in keys]
        for key in ring.jwks["keys"]:
            assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
            required = {name: key[name] for name in ("crv", "kty", "x", "y")}
            canonical = json.dumps(required, separators=(",", ":")).encode()
            assert key["kid"] == encode(hashlib.sha256(canonical).digest())
        token = TokenFactory(ring, audience="a").access_token(ALICE, GRANTS, now=NOW, life=HOUR)
        published = jwt.PyJWKSet.from_dict(ring.jwks)[ring.newest]
        assert jwt.decode(token, published, algorithms=["ES256"], audience="a")["sub"] == "alice"

    @pytest.mark.parametrize("private", PUBLISHED)
    def test_bytes(self, private: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The published set, and the names of its keys, are the same bytes in every version.

        Coordinates keep their leading zeros (RFC 7518, section 6.2.1.2).
        """
        key = ec.derive_private_key(private, ec.SECP256R1())
        monkeypatch.setattr(ec, "generate_private_key", lambda _: key)
        written = json.dumps(KeyRing([make_key(1)]).jwks, separators=(",", ":"))
        assert written == PUBLISHED[private]
