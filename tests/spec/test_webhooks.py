"""Webhooks: which events they want, and what may be a secret."""

from __future__ import annotations

import base64

import pytest

from portside.spec.patterns import RepositoryPattern, TagPattern
from portside.spec.webhooks import EXPRESSED, Format, Secret, SecretInvalid, Webhook
from portside.stores.events import EventAction

ALL = Webhook("all", "https://a.example/")
TAGS = ALL._replace(tags=(TagPattern("b*"), TagPattern("v*")))
TEAM = ALL._replace(repositories=(RepositoryPattern("team/*"),))


def names(*actions: str) -> frozenset[str]:
    """Return the actions of a webhook."""
    return frozenset(actions)


@pytest.mark.parametrize(
    ("webhook", "action", "repository", "wanted"),
    [
        (ALL, "tag.set", "team/app", True),
        (ALL, "user.added", "", False),
        (ALL, "content.collected", "", False),
        (TEAM, "tag.set", "team/app", True),
        (TEAM, "tag.set", "other", False),
        (ALL._replace(actions=names("tag.*", "user.*")), "tag.set", "team/app", True),
        (ALL._replace(actions=names("tag.*", "user.*")), "manifest.pushed", "team/app", False),
        (ALL._replace(actions=names("tag.*", "user.*")), "user.added", "", True),
        (ALL._replace(actions=names("user.added")), "user.removed", "", False),
        (TEAM._replace(actions=names("tag.*", "user.*")), "user.added", "", False),
        (TAGS, "tag.set", "team/app", True),
        (TAGS, "manifest.deleted", "team/app", False),
        (TAGS._replace(tags=(TagPattern("b*"),)), "tag.set", "team/app", False),
        (TAGS._replace(actions=names("user.*")), "user.added", "", False),
        (ALL._replace(format=Format.ACR), "manifest.pushed", "team/app", True),
        (ALL._replace(format=Format.ACR), "tag.deleted", "team/app", False),
        (ALL._replace(format=Format.DISTRIBUTION), "tag.deleted", "team/app", True),
        (ALL._replace(format=Format.DISTRIBUTION), "tag.set", "team/app", False),
    ],
)
def test_wants(webhook: Webhook, action: str, repository: str, wanted: bool) -> None:
    """Events are sent by action, repository and format; those of access only if named."""
    tags = ["1", "v2"] if action == "tag.set" else []
    assert webhook.wants(action, repository, tags) is wanted


def test_expressed() -> None:
    """Formats express actions that there are."""
    assert {action for actions in EXPRESSED.values() for action in actions} <= set(EventAction)


KEY = bytes(range(24))


def written(key: bytes) -> str:
    """Return a secret as a person has it."""
    return f"whsec_{base64.b64encode(key).decode()}"


class TestSecrets:
    """Keys, and texts that are none."""

    @pytest.mark.parametrize("key", [KEY, bytes(64)])
    def test_parse(self, key: bytes) -> None:
        """A secret is what Standard Webhooks says, and is not shown."""
        secret = Secret.parse(written(key))
        assert secret.key == key
        assert f"{secret!r} {secret} {(secret,)}" == "Secret(…) Secret(…) (Secret(…),)"

    @pytest.mark.parametrize(
        "text",
        [
            written(KEY[1:]),
            written(bytes(65)),
            written(KEY).removeprefix("whsec_"),
            written(KEY) + "!",
            written(bytes(25)).rstrip("="),
            "whsec_" + "ä" * 40,
            "password",
            "",
        ],
    )
    def test_invalid(self, text: str) -> None:
        """Anything else is refused, without showing it."""
        with pytest.raises(SecretInvalid) as caught:
            Secret.parse(text)
        assert str(caught.value) == (
            "a secret must begin with whsec_, and have 24 to 64 bytes in base64 behind it"
        )


def test_shown() -> None:
    """A webhook shows its name, as its URL may hold a secret."""
    assert repr(ALL) == str(ALL) == "Webhook('all')"
