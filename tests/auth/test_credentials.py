"""The Authorization header."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.auth.credentials import (
    BasicCredentials,
    BearerCredentials,
    CredentialsMalformed,
    parse_authorization,
)


def basic(text: bytes) -> str:
    """Write a header as clients do."""
    return f"Basic {base64.b64encode(text).decode('ascii')}"


@given(st.text().filter(lambda name: ":" not in name), st.text())
def test_basic(name: str, password: str) -> None:
    """Names end at the first colon; passwords may hold more of them (RFC 7617, section 2)."""
    found = parse_authorization(basic(f"{name}:{password}".encode()))
    assert found == (BasicCredentials(name, password) if name or password else None)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "  Bearer", "Bearer  "])
def test_bearer(scheme: str) -> None:
    """The scheme is read in any case."""
    assert parse_authorization(f"{scheme} abc.def ") == BearerCredentials("abc.def")


def test_none() -> None:
    """No header is no credentials, and a name and a password of no characters are none either."""
    assert parse_authorization(None) is None
    assert parse_authorization("Basic Og==") is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Bearer",
        "Bearer ",
        "Digest username=a",
        "QWxhZGRpbjpvcGVu",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
        "Basic QWxh!ZGRpbjpvcGVu",
        "Basic QWxhZGRp bjpvcGVu",
        "Basic \u00e9\u00e9\u00e9\u00e9",
        basic(b"no colon"),
        basic(b"\xff\xfe:a"),
        basic("\ud800:a".encode("utf-16", "surrogatepass")),
    ],
)
def test_malformed(header: str) -> None:
    """Anything else is malformed, and the message shows nothing of it."""
    with pytest.raises(CredentialsMalformed) as caught:
        parse_authorization(header)
    secret = header.strip().rpartition(" ")[2]
    assert not secret or secret in ("Basic", "Bearer") or secret not in str(caught.value)


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"Basic {text}"))
@example("Basic \ud800")
@example("\ud800")
def test_any_text(header: str) -> None:
    """Any header is read or malformed, and never anything else."""
    try:
        parse_authorization(header)
    except CredentialsMalformed:
        return
