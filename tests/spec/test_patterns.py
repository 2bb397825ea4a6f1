"""Patterns of repositories: a name, or the start of names."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.spec.errors import NameInvalid
from portside.spec.names import NAME_MAX_LENGTH, RepositoryName
from portside.spec.patterns import PatternInvalid, RepositoryPattern, TagPattern

component = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,2})[a-z0-9]{1,4})?", fullmatch=True)
names = st.lists(component, min_size=1, max_size=4).map("/".join)


@st.composite
def starts_of_names(draw: st.DrawFn) -> tuple[str, str]:
    """Return a name and a pattern with a star that matches it."""
    name = draw(names)
    return name, name[: draw(st.integers(0, len(name) - 1))] + "*"


class TestParsing:
    """Which texts are patterns."""

    @given(names)
    def test_every_name(self, name: str) -> None:
        """Every name is a pattern, written as it was read, and matches itself alone."""
        pattern = RepositoryPattern.parse(name)
        assert str(pattern) == name
        assert pattern.is_exact
        assert pattern.matches(name)
        assert not pattern.matches(name + "a")
        assert not pattern.matches(name[:-1])

    @given(starts_of_names())
    def test_every_start(self, given_: tuple[str, str]) -> None:
        """The start of a name with a star is a pattern that matches it, and not the start."""
        name, text = given_
        pattern = RepositoryPattern.parse(text)
        assert str(pattern) == text
        assert not pattern.is_exact
        assert pattern.matches(name)
        assert not pattern.matches(text[:-1])

    @given(st.text(max_size=20) | st.text(st.sampled_from("aB0/._-*"), max_size=12))
    @example("\ud800")
    @example("team/app\n")
    @example("team/")
    @example("a..b")
    def test_any_text(self, text: str) -> None:
        """A text is a pattern that some name matches, or PatternInvalid says that it is none."""
        try:
            pattern = RepositoryPattern.parse(text)
        except PatternInvalid as error:
            message = str(error)
        else:
            possible = text if pattern.is_exact else text.removesuffix("*") + "a"
            assert pattern == text
            assert pattern.matches(RepositoryName.parse(possible))
            return
        assert "team/*" in message
        assert len(message) < 1000

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "**",
            "*/app",
            "te*m/app",
            "team/**",
            "Team/app",
            "/team",
            "team/",
            "team//app",
            "team//*",
            "team/../app",
            ".*",
            "-*",
            "team/-*",
            "a___*",
            "team/app:v1",
            "team app",
            "t\u00e9am/*",
            "a" * (NAME_MAX_LENGTH + 1),
            "a" * NAME_MAX_LENGTH + "*",
        ],
    )
    def test_no_patterns(self, text: str) -> None:
        """What could match no repository, or not as it reads, is refused."""
        with pytest.raises(PatternInvalid):
            RepositoryPattern.parse(text)

    @pytest.mark.parametrize(
        "text", ["*", "team/*", "team-*", "team_*", "team__*", "team.*", "t*", "a" * 255]
    )
    def test_patterns(self, text: str) -> None:
        """What some name begins with is taken."""
        assert RepositoryPattern.parse(text) == text


class TestRanges:
    """The names that a pattern matches, as a range in which a store looks."""

    @given(names, names, st.data())
    @example("a", "b", None)
    def test_range(self, name: str, other: str, data: st.DataObject | None) -> None:
        """A name is in the range exactly if the pattern matches it."""
        start = name[: data.draw(st.integers(0, len(name) - 1))] if data is not None else ""
        for text in (name, start + "*"):
            pattern = RepositoryPattern.parse(text)
            within = pattern.names
            assert within.is_single is pattern.is_exact
            for found in (name, other, f"{name}0", f"{start}0", f"{start}z/z", name[:-1] + "-0"):
                assert (within.start <= found < within.stop) is pattern.matches(found)
            for last in (other, name, f"{start}0"):
                rest = within.after(last)
                for found in (name, other, f"{name}0", f"{last}0", f"{start}00"):
                    expected = pattern.matches(found) and found > last
                    assert (rest.start <= found < rest.stop) is expected
            assert within.after("") == within


class TestSpecificity:
    """Which of two patterns counts."""

    @given(names, st.data())
    def test_no_ties(self, name: str, data: st.DataObject) -> None:
        """Of two different patterns that match a name, one is more specific: the longer one."""
        cuts = st.integers(0, len(name) - 1)
        texts = st.one_of(st.just(name), cuts.map(lambda cut: name[:cut] + "*"))
        one, other = (RepositoryPattern.parse(data.draw(texts)) for _ in range(2))
        assert one.matches(name)
        assert other.matches(name)
        assert (one == other) is (one.specificity == other.specificity)
        if not other.is_exact and (one.is_exact or len(one) > len(other)):
            assert one.specificity > other.specificity

    @given(names, st.text(max_size=10))
    def test_below(self, name: str, rest: str) -> None:
        """A pattern that ends in a slash matches what lies below, and nothing beside it."""
        pattern = RepositoryPattern.parse(f"{name}/*")
        below = f"{name}/{rest}"
        try:
            RepositoryName.parse(below)
        except NameInvalid:
            return
        assert pattern.matches(below)
        assert not pattern.matches(name)
        assert not pattern.matches(f"{name}x/{rest}")


class TestTags:
    """Patterns of tags."""

    @pytest.mark.parametrize(
        ("pattern", "matched", "others"),
        [
            ("latest", ["latest"], ["latest1", "lates", "Latest"]),
            ("*", ["a", "1.0"], []),
            ("pr-*", ["pr-1", "pr--"], ["pr-", "xpr-1"]),
            ("*-rc*", ["1-rc1", "1-rc-rc1"], ["1-rc", "-rc1"]),
            ("v*.*.*", ["v1.2.3", "v1..2.3"], ["v1.2", "v..1", "v.1.1"]),
            ("a*a", ["aba", "aaa"], ["aa", "a"]),
            ("_*", ["_a"], ["_"]),
        ],
    )
    def test_matches(self, pattern: str, matched: list[str], others: list[str]) -> None:
        """A star stands for at least one character."""
        parsed = TagPattern.parse(pattern)
        assert parsed == pattern
        assert [tag for tag in matched + others if parsed.matches(tag)] == matched

    @given(
        st.text(st.sampled_from("ab.*"), min_size=1, max_size=8),
        st.text(st.sampled_from("ab."), min_size=1, max_size=12),
    )
    def test_as_an_expression(self, pattern: str, tag: str) -> None:
        """A pattern matches what the regular expression for it does."""
        try:
            parsed = TagPattern.parse(pattern)
        except PatternInvalid:
            assert pattern.startswith(".")
            return
        expression = ".+".join(map(re.escape, pattern.split("*")))
        assert parsed.matches(tag) == bool(re.fullmatch(expression, tag))

    @pytest.mark.parametrize("text", ["", "a/b", "a:b", "-*", ".*", "a b", "*\n", "a" * 129, "a?"])
    def test_invalid(self, text: str) -> None:
        """A text that no tag can match is refused."""
        with pytest.raises(PatternInvalid, match=r"such as pr-\*"):
            TagPattern.parse(text)
