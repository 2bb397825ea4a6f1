"""Scopes: what clients ask for, in the grammar of Docker's token authentication."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.spec.actions import (
    ALL,
    REPOSITORY_ACTIONS,
    Action,
    ActionInvalid,
    Actions,
    acr_names,
    ordered,
    parse_actions,
)
from portside.spec.scopes import (
    CATALOG_SCOPE,
    MAX_SCOPES,
    REPOSITORY,
    Scope,
    parse_scopes,
    repository_scope,
)

some_actions: st.SearchStrategy[Actions] = st.frozensets(
    st.sampled_from(REPOSITORY_ACTIONS), min_size=1
)
resource_names = st.from_regex(r"[a-z0-9._/-]+(:[0-9]+/[a-z]+)?|\*", fullmatch=True)
repository_scopes = st.builds(Scope, st.just(REPOSITORY), resource_names, some_actions)
some_scopes = st.one_of(st.just(CATALOG_SCOPE), repository_scopes)


class TestScopes:
    """Reading and writing."""

    @given(st.lists(some_scopes, max_size=10))
    def test_round_trip(self, scopes: list[Scope]) -> None:
        """What is written is read again, in one parameter or in several."""
        texts = [str(scope) for scope in scopes]
        assert parse_scopes(texts) == scopes
        assert parse_scopes([" ".join(texts)]) == scopes

    @given(st.lists(st.text(max_size=40), max_size=4))
    @example(["repository:a:pull repository:a:", "::", "registry:catalog:pull", ":a:pull"])
    @example(["repository(" + "a" * 1000])
    def test_any_text(self, texts: list[str]) -> None:
        """Any text is read; each scope in it has a resource and at least one action."""
        for scope in parse_scopes(texts):
            assert scope.name
            assert scope == CATALOG_SCOPE or scope.type == REPOSITORY
            assert scope.actions
            assert scope.actions <= ALL | {Action.CATALOG}

    @given(st.text(st.sampled_from("repositygcal(pugn):*,/- \t\n"), max_size=60))
    def test_near_misses(self, text: str) -> None:
        """A scope that is read is read again from what it is written as."""
        scopes = parse_scopes([text])
        assert parse_scopes(map(str, scopes)) == scopes

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("repository:team/app:pull", repository_scope("team/app", Action.PULL)),
            ("repository:a:push,pull", repository_scope("a", Action.PULL, Action.PUSH)),
            ("repository:a:*", repository_scope("a", *REPOSITORY_ACTIONS)),
            ("repository:a:pull,fly", repository_scope("a", Action.PULL)),
            ("repository(plugin):a:pull", repository_scope("a", Action.PULL)),
            ("repository:host:5000/a:pull", repository_scope("host:5000/a", Action.PULL)),
            ("repository:a:metadata_read", repository_scope("a", Action.METADATA_READ)),
            ("repository:a:deleted_read", repository_scope("a", Action.METADATA_READ)),
            (
                "repository:a:deleted_read,deleted_restore",
                repository_scope("a", Action.METADATA_READ, Action.PUSH),
            ),
            ("registry:catalog:*", CATALOG_SCOPE),
            ("registry:deleted_catalog:*", CATALOG_SCOPE),
            ("registry:deleted_catalog:pull", None),
            ("registry:catalog:pull", None),
            ("registry:other:*", None),
            ("repository:a:", None),
            ("repository:a", None),
            ("repository::pull", None),
            ("repository:a:catalog", None),
            ("repository:a:none", None),
            ("repository:a:PULL", None),
            ("Repository:a:pull", None),
            ("image:a:pull", None),
            ("", None),
        ],
    )
    def test_examples(self, text: str, expected: Scope | None) -> None:
        """What means nothing here is left out, and its neighbours are not."""
        kept = repository_scope("z", Action.PULL)
        assert parse_scopes([text, str(kept)]) == [*([expected] if expected else []), kept]

    def test_many(self) -> None:
        """More scopes than make sense are not read."""
        assert len(parse_scopes(["repository:a:pull " * (MAX_SCOPES + 5)])) == MAX_SCOPES


class TestActions:
    """Lists of actions in either dialect's words."""

    @given(some_actions)
    def test_round_trip(self, actions: Actions) -> None:
        """Actions are read from Docker's words and from ACR's."""
        assert parse_actions(",".join(ordered(actions))) == actions
        assert parse_actions(", ".join(acr_names(actions))) == actions

    @given(st.text(max_size=30))
    @example("pull,")
    @example("catalog")
    @example("none")
    @example("\ud800")
    def test_any_text(self, text: str) -> None:
        """A text is a list of actions, or ActionInvalid says that it is none."""
        try:
            actions = parse_actions(text)
        except ActionInvalid:
            return
        assert actions <= ALL
        assert actions

    def test_all(self) -> None:
        """A star is every action."""
        assert parse_actions("*") == ALL
