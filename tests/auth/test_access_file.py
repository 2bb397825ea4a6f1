"""The access file: what it says, and one clear line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.auth.access_files import AccessFiles, parse_access_file, parse_anonymous
from portside.auth.issuers import ClaimMissing, Issuer
from portside.auth.policy import Subjects
from portside.files.text import FileInvalid
from portside.spec.actions import ALL, Action

WHOLE = """
[groups]
developers = ["alice", "bob"]
leads = ["alice"]

[[access]]
identities = ["*", "carol"]
groups = ["developers"]
repositories = ["team/*", "tools"]
actions = ["pull", "content/write"]

[[access]]
groups = ["leads"]
repositories = ["*"]
actions = ["*"]
effect = "deny"

[[issuer]]
name = "ci"
issuer = "https://ci.example"
audience = "registry.example"
jwks-url = "https://ci.example/.well-known/jwks.json"
jwks-refresh = 60
identity = "{repository}/{environment}"
groups-claim = "roles"
"""

ACCESS = '[[access]]\nidentities = ["a"]\nrepositories = ["r"]\nactions = ["pull"]\n'
ISSUER = (
    '[[issuer]]\nname = "ci"\nissuer = "https://ci.example"\naudience = "r"\n'
    'jwks-url = "https://ci.example/keys"\n'
)


def issuer(**settings: str) -> str:
    """Write an issuer with other settings than those above."""
    lines = [line for line in ISSUER.splitlines() if line.partition(" ")[0] not in settings]
    return "\n".join([*lines, *(f'{name} = "{value}"' for name, value in settings.items())])


class TestWhatItSays:
    """Rules, groups and issuers."""

    def test_rules(self) -> None:
        """Each table is one rule for each pattern and each of those whom it names."""
        found = parse_access_file(WHOLE, name="access.toml")
        first = [rule for rule in found.rules if rule.allows]
        assert {(rule.subjects, rule.who, str(rule.pattern)) for rule in first} == {
            (subjects, who, pattern)
            for subjects, who in (
                (Subjects.USERS, ""),
                (Subjects.IDENTITY, "carol"),
                (Subjects.GROUP, "developers"),
            )
            for pattern in ("team/*", "tools")
        }
        assert {rule.actions for rule in first} == {frozenset({Action.PULL, Action.PUSH})}
        (denial,) = (rule for rule in found.rules if not rule.allows)
        assert (denial.who, denial.actions) == ("leads", ALL)
        assert denial.source == "access.toml, [[access]] 2"

    def test_groups(self) -> None:
        """Groups are looked up by the names of their members."""
        found = parse_access_file(WHOLE, name="access.toml")
        assert found.groups == {
            "alice": frozenset({"developers", "leads"}),
            "bob": frozenset({"developers"}),
        }

    def test_issuers(self) -> None:
        """An issuer maps claims to identities that no user of the registry can have."""
        (found,) = parse_access_file(WHOLE, name="access.toml").issuers
        claims = {"repository": "org/app", "environment": 7, "roles": ["ops", 5], "sub": "x"}
        identity = found.identify(claims)
        assert identity.name == "ci:org/app/7"
        assert identity.groups == {"ci:ops"}
        assert found.jwks_refresh == 60

    def test_nothing(self) -> None:
        """An empty file lets nobody do anything."""
        assert parse_access_file("", name="x") == ((), {}, ())


MISTAKES = [
    ("not toml", "is not valid TOML"),
    ("[[access]]\n[[access", "is not valid TOML"),
    (f"acces = {'[' * 5000}", "is not valid TOML"),
    (f"acces = {'1' * 5000}", "is not valid TOML"),
    ("acces = []", "acces"),
    (ACCESS + "action = 1", "[[access]] 1"),
    (ACCESS + "groups = 5", "groups"),
    (ACCESS + 'effect = "maybe"', "effect"),
    (ACCESS.replace('["pull"]', '["fly"]'), "[[access]] 1, actions: unknown action 'fly'"),
    (ACCESS.replace('["pull"]', "[]"), "[[access]] 1, actions: "),
    (ACCESS.replace('["pull"]', '[""]'), "[[access]] 1, actions: unknown action ''"),
    (ACCESS.replace('["r"]', "[]"), "[[access]] 1, repositories: "),
    (ACCESS.replace('["r"]', '["te*m"]'), "[[access]] 1, repositories: invalid pattern 'te*m'"),
    (ACCESS.replace('["r"]', '["team/"]'), "[[access]] 1, repositories: invalid pattern 'team/'"),
    (ACCESS.replace('["r"]', '["Team/*"]'), "[[access]] 1, repositories: invalid pattern 'Team/*'"),
    (ACCESS.replace('["a"]', "[]"), "[[access]] 1, identities: the rule names neither"),
    (
        ACCESS.replace('identities = ["a"]\n', ""),
        "[[access]] 1, identities: the rule names neither",
    ),
    (ACCESS.replace('repositories = ["r"]\n', ""), "repositories"),
    (ACCESS.replace('actions = ["pull"]\n', ""), "actions"),
    (ACCESS + ACCESS.replace('["r"]', '["R"]'), "[[access]] 2, repositories: invalid"),
    ('[groups]\ndevelopers = "alice"', "groups"),
    (issuer(name="CI"), "name"),
    (issuer(name="a:b"), "name"),
    (issuer(name=""), "name"),
    (issuer(name="ci\\n"), "name"),
    (issuer(issuer=""), "[[issuer]] 1, issuer: must not be empty"),
    (issuer(audience=""), "[[issuer]] 1, audience: must not be empty"),
    (ISSUER.replace('audience = "r"\n', ""), "audience"),
    (issuer(identity="nobody"), "[[issuer]] 1, identity: "),
    (issuer(identity="{sub"), "[[issuer]] 1, identity: "),
    (issuer(identity="{}"), "[[issuer]] 1, identity: "),
    (issuer(identity="{}{sub}"), "[[issuer]] 1, identity: "),
    (issuer(identity="{sub.x}"), "[[issuer]] 1, identity: "),
    (issuer(identity="{sub[0]}"), "[[issuer]] 1, identity: "),
    (issuer(identity=""), "[[issuer]] 1, identity: "),
    (issuer(colour="red"), "colour"),
    (
        issuer(**{"jwks-file": "keys.json"}),
        "[[issuer]] 1, jwks-url: set either jwks-file or jwks-url",
    ),
    (ISSUER.replace("jwks-url", "#"), "[[issuer]] 1, jwks-url: set either jwks-file or jwks-url"),
    (ISSUER + "jwks-refresh = 1", "jwks"),
    (ISSUER + ISSUER, "[[issuer]] 2, name: another issuer"),
    (ISSUER + issuer(name="other"), "[[issuer]] 2, issuer: another issuer"),
    (ISSUER + issuer(issuer="https://other.example"), "[[issuer]] 2, name: another issuer"),
]


class TestMistakes:
    """What cannot be used."""

    @pytest.mark.parametrize(("text", "place"), MISTAKES)
    def test_one_line(self, text: str, place: str) -> None:
        """A mistake is one line that names the file and the place."""
        with pytest.raises(FileInvalid) as caught:
            parse_access_file(text, name="access.toml")
        message = str(caught.value)
        assert message.startswith("access.toml")
        assert place in message
        assert "\n" not in message

    @pytest.mark.parametrize(
        "url",
        [
            "http://ci.example/keys",
            "http://127.0.0.1.example/keys",
            "http://127.0.0.1@ci.example/keys",
            "http://localhost.example/keys",
            "http://169.254.169.254/keys",
            "http:///keys",
            "http://[::2]/keys",
            "http://[bad/keys",
            "file:///etc/passwd",
            "ftp://127.0.0.1/keys",
            "https:///keys",
            "keys.json",
            "//ci.example/keys",
        ],
    )
    def test_unsafe_url(self, url: str) -> None:
        """Keys come over TLS, or from this machine: who can forge them can be anybody."""
        with pytest.raises(FileInvalid, match=r"\[\[issuer\]\] 1, jwks-url: must begin"):
            parse_access_file(issuer(**{"jwks-url": url}), name="access.toml")

    @pytest.mark.parametrize(
        "url",
        [
            "https://ci.example/keys",
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]:1/keys",
            "HTTPS://ci.example/keys",
        ],
    )
    def test_safe_url(self, url: str) -> None:
        """TLS and loopback are taken."""
        (found,) = parse_access_file(issuer(**{"jwks-url": url}), name="access.toml").issuers
        assert found.jwks_url == url

    @given(st.text(st.sampled_from('[]{}="\n#agciosue \ud800'), max_size=60) | st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """Any text is an access file, or FileInvalid says that it is none."""
        try:
            parse_access_file(text, name="access.toml")
        except FileInvalid:
            return

    def test_while_it_is_used(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A mistake in a file that is in use changes nothing; the log names it."""
        path = tmp_path / "access.toml"
        path.write_text(ACCESS)
        book = AccessFiles(anonymous=(), access_file=str(path), htpasswd="")
        before = book.read()
        path.write_text(ACCESS + "[[access]]\n")
        assert book.read() == before
        assert "access.toml" in caplog.text
        path.write_text(ACCESS + ACCESS.replace('["a"]', '["b"]'))
        after = book.read()
        assert after.version != before.version
        assert len(after.policy.rules) == 2

    def test_key_file(self, tmp_path: Path) -> None:
        """A registry does not start with an issuer whose key file cannot be used."""
        path = tmp_path / "access.toml"
        keys = tmp_path / "missing.json"
        path.write_text(ISSUER.splitlines(keepends=True)[0] + _with_key_file(str(keys)))
        with pytest.raises(FileInvalid, match=r"missing\.json"):
            AccessFiles(anonymous=(), access_file=str(path), htpasswd="")


def _with_key_file(path: str) -> str:
    lines = ISSUER.splitlines()[1:-1]
    return "\n".join([*lines, f'jwks-file = "{path}"\n'])


class TestClaims:
    """Which identity a token of an issuer is."""

    @pytest.mark.parametrize("value", [None, "", True, 1.5, ["a"], {"a": "b"}, "\ud800"], ids=repr)
    def test_no_text(self, value: object) -> None:
        """A claim that is missing, or no text, names nobody."""
        (found,) = parse_access_file(WHOLE, name="x").issuers
        for claims in ({"repository": "a", "environment": value}, {"environment": "a"}, {}):
            with pytest.raises(ClaimMissing):
                found.identify(claims)

    @given(
        st.dictionaries(
            st.sampled_from(["sub", "roles", "name"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
                ),
            ),
        )
    )
    def test_any_claims(self, claims: dict[str, object]) -> None:
        """Whatever the claims are, the identity and its groups bear the issuer's name."""
        found = Issuer(name="ci", issuer="i", audience="a", groups_claim="roles")
        try:
            identity = found.identify(claims)
        except ClaimMissing:
            return
        assert identity.name.startswith("ci:")
        assert all(group.startswith("ci:") for group in identity.groups)
        assert len(identity.name) > len("ci:")


class TestAnonymous:
    """Rules for those who send no credentials."""

    def test_rules(self) -> None:
        """The last colon ends the pattern, and the rule is for everyone."""
        (rule,) = parse_anonymous(("public/*:pull,metadata/read",))
        assert (rule.subjects, str(rule.pattern)) == (Subjects.EVERYONE, "public/*")
        assert rule.actions == {Action.PULL, Action.METADATA_READ}

    @pytest.mark.parametrize("text", ["", "public/*", "public/*:", ":pull", "a:b:pull", "a:fly"])
    def test_mistakes(self, text: str) -> None:
        """Anything else is refused in one line."""
        with pytest.raises(FileInvalid, match=r"^anonymous: .*$"):
            parse_anonymous((text,))


def test_unknown_group() -> None:
    """A rule for a group that is not in the file is a mistake; an issuer's group has a colon."""
    table = '[[access]]\nrepositories = ["*"]\nactions = ["pull"]\ngroups = ["{}"]\n'
    with pytest.raises(FileInvalid, match=r"\[\[access\]\] 1, groups: there is no group 'devs'"):
        parse_access_file(table.format("devs"), name="access.toml")
    assert parse_access_file(table.format("ci:devs"), name="access.toml").rules


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[acces]]", "f, line 1: there is no field 'acces' (allowed: groups, access, issuer)"),
        (
            '[[access]]\nactions = ["pull"]',
            "f, line 1, [[access]] 1: repositories is missing",
        ),
        (
            '[[access]]\n\nrepositories = "a"\nactions = []',
            "f, line 3, [[access]] 1, repositories: expected a list, found a string",
        ),
        (
            '[[access]]\nrepositories = []\nactions = []\nuser = "a"',
            (
                "f, line 4, [[access]] 1: there is no field 'user' "
                "(allowed: repositories, actions, identities, groups, effect)"
            ),
        ),
        (
            '[[access]]\nrepositories = []\nactions = []\neffect = "no"',
            'f, line 4, [[access]] 1, effect: must be "allow" or "deny"',
        ),
        ("groups = 1", "f, line 1, groups: expected a table, found a whole number"),
    ],
)
def test_a_problem_names_the_table_the_field_and_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(FileInvalid) as caught:
        parse_access_file(text, name="f")
    assert str(caught.value) == problem
