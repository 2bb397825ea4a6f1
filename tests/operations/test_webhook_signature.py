"""Signatures of webhooks, which the library of Standard Webhooks verifies."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
import standardwebhooks

from portside.operations.webhooks.signature import SecretUnreadable, Signer
from portside.spec.webhooks import SecretSource, Webhook

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
BODY = '{"tag":"größer"}'.encode()
SENT = {"tag": "größer"}
BY_VARIABLE = Webhook("deploy", "https://a.example", SecretSource(variable="SECRET"))


def test_verified() -> None:
    """The library accepts what is signed, and nothing else."""
    headers = Signer({"SECRET": NEW}).sign(BY_VARIABLE, "0a1b", int(time.time()), BODY)
    assert standardwebhooks.Webhook(NEW).verify(BODY, headers) == SENT
    for wrong, name in ((NEW, "webhook-id"), (NEW, "webhook-timestamp"), (OLD, "")):
        changed = headers | {name: str(int(time.time()) + 1)}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(wrong).verify(BODY, changed)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(NEW).verify(json.dumps(SENT), headers)


def test_from_a_file(tmp_path: Path) -> None:
    """The file is read for each signature; while it has two secrets, receivers use either."""
    file = tmp_path / "secret"
    webhook = Webhook("deploy", "https://a.example", SecretSource(file=str(file)))
    signer = Signer({})
    for text, accepted in ((OLD, {OLD}), (f"{NEW}\n{OLD}\n", {OLD, NEW}), (NEW + "\r\n", {NEW})):
        file.write_text(text)
        headers = signer.sign(webhook, "0a1b", int(time.time()), BODY)
        for secret in (OLD, NEW):
            if secret in accepted:
                assert standardwebhooks.Webhook(secret).verify(BODY, headers) == SENT
            else:
                with pytest.raises(standardwebhooks.WebhookVerificationError):
                    standardwebhooks.Webhook(secret).verify(BODY, headers)


def test_without_a_secret() -> None:
    """The id and the time are sent, and no signature."""
    headers = Signer({}).sign(Webhook("deploy", "https://a.example"), "0a1b", 1801000000, BODY)
    assert headers == {"webhook-id": "0a1b", "webhook-timestamp": "1801000000"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (" \n", "{path} is empty"),
        (f"{NEW} s3cret", "{path}: a secret must begin with whsec_, and have 24 to 64 bytes"),
    ],
)
def test_unreadable(tmp_path: Path, text: str | None, problem: str) -> None:
    """The error says where the secret should be, and shows nothing of it."""
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SecretUnreadable) as caught:
        Signer({}).read(SecretSource(file=str(path)))
    assert str(caught.value).startswith(problem.format(path=path))
    assert "s3cret" not in str(caught.value)


def test_variables() -> None:
    """Likewise, of a variable."""
    for environment, problem in (({}, "$SECRET is not set"), ({"SECRET": ""}, "$SECRET is empty")):
        with pytest.raises(SecretUnreadable) as caught:
            Signer(environment).read(BY_VARIABLE.secret)
        assert str(caught.value) == problem
