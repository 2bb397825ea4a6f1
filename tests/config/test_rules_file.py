"""The rules file: what it says, and one clear line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.config.rules import parse_rules_file, watch_rules_file
from portside.files.text import FileInvalid
from portside.spec.patterns import RepositoryPattern, TagPattern
from portside.spec.rules import NO_RULES, RetentionRule, Rules, UntaggedRule
from portside.spec.webhooks import Format, SecretSource, Webhook

HOUR = 3600 * 1_000_000
DAY = 24 * HOUR

WHOLE = """
[[repositories]]
match = "team/*"
immutable-tags = ["v*", "latest"]
quota = "50GiB"

[[repositories.retention]]
tags = "pr-*"
keep-newest = 10
keep-pushed-within = "30d"
keep-pulled-within = "12h"

[[repositories.retention]]
tags = "*-rc*"
keep-newest = 1

[[repositories.untagged]]
delete-after = "7d"

[[repositories]]
match = "team/app"
quota = "none"
retention = []
"""


def parse(text: str) -> Rules:
    """Read a file of that name."""
    return parse_rules_file(text, name="rules.toml")


class TestWhatItSays:
    """The rules of a repository."""

    def test_of_a_table(self) -> None:
        """Each key is a rule, which knows where it was written."""
        found = parse(WHOLE).of("team/other")
        assert found.immutable_tags == ("v*", "latest")
        assert found.quota == 50 * 2**30
        first, second = found.retention
        assert first == RetentionRule(
            source="rules.toml, [[repositories]] 1, [[repositories.retention]] 1",
            tags=first.tags,
            keep_newest=10,
            keep_pushed_within=30 * DAY,
            keep_pulled_within=12 * HOUR,
        )
        assert (second.tags, second.keep_newest) == ("*-rc*", 1)
        assert second.keep_pushed_within is second.keep_pulled_within is None
        assert found.untagged == UntaggedRule(
            source="rules.toml, [[repositories]] 1, [[repositories.untagged]] 1",
            delete_after=7 * DAY,
        )

    def test_most_specific(self) -> None:
        """Each part comes from the most specific table that has it, even if it is empty."""
        found = parse(WHOLE).of("team/app")
        assert (found.quota, found.retention) == (None, ())
        assert found.immutable_tags == ("v*", "latest")
        assert found.untagged is not None

    @pytest.mark.parametrize("repository", ["other", "team", "teams/app"])
    def test_of_others(self, repository: str) -> None:
        """A repository that no table matches has no rules."""
        found = parse(WHOLE).of(repository)
        assert found == NO_RULES.of(repository)
        assert not found.deletes
        assert found.quota is None

    def test_order(self) -> None:
        """The order of the tables does not matter."""
        first, second = WHOLE.split("\n[[repositories]]\n")[1:]
        turned = parse(f"[[repositories]]\n{second}\n[[repositories]]\n{first}")
        assert turned.of("team/app").quota is None
        assert turned.of("team/app").untagged is not None

    def test_immutable(self) -> None:
        """Immutable tags are those that a pattern matches."""
        found = parse(WHOLE).of("team/app")
        assert [tag for tag in ("v1", "v", "1v", "latest", "late") if found.is_immutable(tag)] == [
            "v1",
            "latest",
        ]

    def test_deletes(self) -> None:
        """Whether any rule can delete something."""
        assert parse(WHOLE).delete
        assert not parse('[[repositories]]\nmatch = "*"\nimmutable-tags = ["*"]').delete
        assert not parse('[[repositories]]\nmatch = "*"\nretention = []\nuntagged = []').delete
        assert parse('[[repositories]]\nmatch = "*"\nuntagged = [{ delete-after = "0s" }]').delete


class TestWebhooks:
    """The receivers that a file names."""

    def test_of_a_table(self) -> None:
        """Each key is a part; the file of a secret is found from that of the rules."""
        text = """
        [[webhook]]
        name = "deploy"
        url = "http://127.0.0.1:8080/hook?a=b"
        secret-file = "secrets/deploy"
        actions = ["manifest.*", "tag.deleted"]
        repositories = ["team/*", "library/app"]
        tags = ["v*"]
        format = "distribution"
        allow-private = true

        [[webhook]]
        name = "audit"
        url = "https://audit.example"
        secret-env = "AUDIT_SECRET"
        """
        rules = parse_rules_file(text, name="/etc/portside/rules.toml")
        deploy, audit = rules.webhooks
        assert deploy == Webhook(
            name="deploy",
            url="http://127.0.0.1:8080/hook?a=b",
            secret=SecretSource(file="/etc/portside/secrets/deploy"),
            actions=frozenset({"manifest.*", "tag.deleted"}),
            repositories=(RepositoryPattern("team/*"), RepositoryPattern("library/app")),
            tags=(TagPattern("v*"),),
            format=Format.DISTRIBUTION,
            allow_private=True,
        )
        assert audit == Webhook(
            "audit", "https://audit.example", SecretSource(variable="AUDIT_SECRET")
        )
        assert not rules.tables


TABLE = '[[repositories]]\nmatch = "a/*"\n'
WEBHOOK = '[[webhook]]\nname = "a"\nurl = "https://a.example/"\n'
RETENTION = TABLE + '[[repositories.retention]]\ntags = "*"\n'

MISTAKES = [
    ("not toml", "is not valid TOML"),
    ("[[repository]]", "line 1: there is no field 'repository' (allowed: repositories, webhook)"),
    ("[[repositories]]", "line 1, [[repositories]] 1: match is missing"),
    (TABLE + "keep = 1", "line 3, [[repositories]] 1: there is no field 'keep'"),
    (TABLE.replace("a/*", "*/a"), "line 2, [[repositories]] 1, match: invalid pattern '*/a'"),
    (TABLE * 2, "line 4, [[repositories]] 2, match: [[repositories]] 1 has the same match"),
    (
        TABLE + 'immutable-tags = "v*"',
        "line 3, [[repositories]] 1, immutable-tags: expected a list",
    ),
    (TABLE + 'immutable-tags = ["v*",\n"a/b"]', "immutable-tags: invalid pattern 'a/b': use a tag"),
    (TABLE + 'immutable-tags = [""]', "immutable-tags: invalid pattern ''"),
    (TABLE + "quota = 5", "line 3, [[repositories]] 1, quota: expected a string, found a whole"),
    (TABLE + 'quota = "50"', "quota: invalid size '50': use a whole number and a unit (B, KiB"),
    (TABLE + 'quota = "1.5GiB"', "quota: invalid size '1.5GiB'"),
    (TABLE + 'quota = "50 gb"', "quota: invalid size '50 gb'"),
    (TABLE + 'quota = "-1GiB"', "quota: invalid size '-1GiB'"),
    (TABLE + 'quota = "8388608TiB"', "quota: invalid size '8388608TiB': less than"),
    (TABLE + 'quota = "0B"', 'quota: must be above 0, or "none"'),
    (RETENTION, "line 3, [[repositories]] 1, [[repositories.retention]] 1: the rule would delete"),
    (
        RETENTION + "keep-newest = 0",
        "line 5, [[repositories]] 1, [[repositories.retention]] 1, keep",
    ),
    (RETENTION + "keep-newest = 0", "expected a whole number that is at least 1"),
    (RETENTION + "keep-newest = true", "keep-newest: expected a whole number, found true or false"),
    (RETENTION + 'keep-newest = "1"', "keep-newest: expected a whole number, found a string"),
    (RETENTION + "keep-pushed-within = 30", "keep-pushed-within: expected a string"),
    (RETENTION + 'keep-pushed-within = "30"', "keep-pushed-within: invalid duration '30': use"),
    (RETENTION + 'keep-pushed-within = "0d"', "keep-pushed-within: must be longer than 0"),
    (
        RETENTION + 'keep-pulled-within = "3651d"',
        "keep-pulled-within: invalid duration '3651d': at",
    ),
    (RETENTION + 'keep-pulled-within = "1y"', "keep-pulled-within: invalid duration '1y'"),
    (
        RETENTION + "keep-newest = 1\nkeep-oldest = 1",
        "there is no field 'keep-oldest' (allowed: tags",
    ),
    (
        RETENTION.replace('"*"', '"a b"') + "keep-newest = 1",
        "line 4, [[repositories]] 1, [[reposit",
    ),
    (TABLE + "[[repositories.untagged]]", "[[repositories.untagged]] 1: delete-after is missing"),
    (TABLE + "[repositories.untagged]", "line 3, [[repositories]] 1, untagged: expected a list"),
    (
        TABLE + '[[repositories.untagged]]\ndelete-after = "1d"\n' * 2,
        "line 5, [[repositories]] 1, [[repositories.untagged]] 2: a table can have one",
    ),
    ('[[webhook]]\nname = "a"', "line 1, [[webhook]] 1: url is missing"),
    (WEBHOOK + "secret = 1", "line 4, [[webhook]] 1: there is no field 'secret' (allowed: name, u"),
    (WEBHOOK.replace('"a"', '"A"'), "line 2, [[webhook]] 1, name: invalid name 'A': use up to 63"),
    (WEBHOOK * 2, "line 5, [[webhook]] 2, name: [[webhook]] 1 has the same name"),
    (WEBHOOK + 'secret-file = ""', "line 4, [[webhook]] 1, secret-file: must be the path"),
    (WEBHOOK + 'secret-env = "a b"', "line 4, [[webhook]] 1, secret-env: must be the name of an"),
    (WEBHOOK + 'secret-env = "PORTSIDE_A"', "secret-env: variables that begin with PORTSIDE_ are"),
    (WEBHOOK + 'secret-env = "A"\nsecret-file = "a"', "secret-env: set secret-file or secret-env"),
    (WEBHOOK + "actions = []", "line 4, [[webhook]] 1, actions: name an action, or remove the key"),
    (WEBHOOK + 'actions = ["tag.sat"]', "actions: unknown action 'tag.sat': expected one such as"),
    (
        WEBHOOK + 'format = "acr"\nactions = ["manifest.*", "tag.*"]',
        "line 5, [[webhook]] 1, actions: the format acr has no tag.*, only manifest.deleted, ",
    ),
    (WEBHOOK + "repositories = []", "line 4, [[webhook]] 1, repositories: name one, or remove"),
    (WEBHOOK + "tags = []", "line 4, [[webhook]] 1, tags: name one, or remove the key to send"),
    (WEBHOOK + 'tags = ["a/b"]', "tags: invalid pattern 'a/b'"),
    (WEBHOOK + 'repositories = ["*/a"]', "repositories: invalid pattern '*/a'"),
    (WEBHOOK + 'format = "xml"', 'format: must be one of "cloudevents", "acr", "distribution"'),
    (WEBHOOK + 'allow-private = "yes"', "allow-private: expected true or false, found a string"),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_mistakes(text: str, problem: str) -> None:
    """A mistake is one line that names the file, the line and the reason."""
    with pytest.raises(FileInvalid) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("rules.toml")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/s3cret",
        "https://s3cret@a.example/",
        "https://a.example/#s3cret",
        "https://a.example/s3cret ",
        "https://a.example:70000/s3cret",
        f"https://a.example/s3cret{'a' * 2048}",
    ],
)
def test_url_of_webhook(url: str) -> None:
    """A URL that cannot be used is refused, and not shown: it may hold a secret."""
    with pytest.raises(FileInvalid) as caught:
        parse(WEBHOOK.replace("https://a.example/", url))
    assert "line 3, [[webhook]] 1, url: must be a URL such as" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@given(
    st.text(st.sampled_from('[]{}="\n#repositoiesmatch\ud800'), max_size=60) | st.text(max_size=60)
)
def test_any_text(text: str) -> None:
    """Any text is a rules file, or FileInvalid says that it is none."""
    try:
        parse(text)
    except FileInvalid:
        return


def test_while_it_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A change takes effect; a mistake keeps the rules, and the log names its line."""
    path = tmp_path / "rules.toml"
    path.write_text(TABLE + 'quota = "1KiB"')
    rules = watch_rules_file(str(path))
    assert rules().of("a/b").quota == 1024
    path.write_text(TABLE + 'quota = "2GB"')
    assert rules().of("a/b").quota == 2 * 10**9
    path.write_text(TABLE + 'quota = "lots"')
    assert rules().of("a/b").quota == 2 * 10**9
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "rules.toml, line 3, [[repositories]] 1, quota: " in record.getMessage()


def test_without_a_file(tmp_path: Path) -> None:
    """No path means no rules; a path without a file is refused."""
    assert not watch_rules_file("")().delete
    with pytest.raises(FileInvalid, match="cannot read"):
        watch_rules_file(str(tmp_path / "missing"))
