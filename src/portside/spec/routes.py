"""Routes: from a path to its endpoints.

Repository names may contain slashes, and words such as `blobs` or `manifests` as components, so
paths are matched from the right: the last segments determine the endpoint, and everything between
`/v2/` or `/acr/v1/` and them is the name. No component of a name begins with an underscore, so
`_tags` and `_manifests` are never part of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from portside.spec.endpoints import Endpoint

_NAME = "{name}"

REMEMBERED = 4096
"""Paths whose match is kept, as most requests are for what others have asked for."""

LONGEST = 512
"""Characters of a path that is kept: more than any path has that is served."""


class Route(NamedTuple):
    """The endpoints of one path, by method; what has a GET has a HEAD as well (RFC 9110, 9.1)."""

    path: str
    methods: dict[str, Endpoint]


class Match(NamedTuple):
    """A path that was matched: its route, and the texts of the name and the last variable."""

    route: Route
    name: str
    last: str


class _Pattern(NamedTuple):
    """A path that holds a name: what is before it, and the literal segments behind it.

    `has_variable` says whether a variable follows those.
    """

    prefix: str
    literals: str
    has_variable: bool
    route: Route


class Routes:
    """The routes of some endpoints."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.by_path: dict[str, Route] = {}
        for endpoint in endpoints:
            route = self.by_path.setdefault(endpoint.path, Route(endpoint.path, {}))
            route.methods[endpoint.method] = endpoint
        for route in self.by_path.values():
            if "GET" in route.methods:
                route.methods.setdefault("HEAD", route.methods["GET"])
        # Both spellings are served: the distribution-spec writes the slash, the 2017 description
        # does not.
        self._fixed = {
            spelled: Match(route, "", "")
            for path, route in self.by_path.items()
            if "{" not in path
            for spelled in (path, path.rstrip("/"))
        }
        patterns = [_pattern(route) for path, route in self.by_path.items() if _NAME in path]
        self._by_segment, self._others = _indexed(patterns)
        self._remembered = lru_cache(REMEMBERED)(self._find)

    def match(self, path: str) -> Match | None:
        """Return the match of a decoded path, or None if it has no route."""
        return self._remembered(path) if len(path) <= LONGEST else self._find(path)

    def _find(self, path: str) -> Match | None:
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        head, _, last = path.rpartition("/")
        if not last:
            return self._match_slashed(head)
        patterns = self._by_segment.get(head[head.rfind("/") + 1 :], self._others)
        for prefix, literals, has_variable, route in patterns:
            named = head if has_variable else path
            if named.endswith(literals) and named.startswith(prefix):
                start, end = len(prefix), len(named) - len(literals)
                if start <= end:
                    return Match(route, named[start:end], last if has_variable else "")
        return None

    def _match_slashed(self, head: str) -> Match | None:
        """Match a path that ends in a slash: only those that the specification writes so."""
        found = self._find(head) if head.rpartition("/")[2] else None
        return found if found is not None and found.route.path.endswith("/") else None


def _pattern(route: Route) -> _Pattern:
    prefix, _, behind = route.path.partition(_NAME)
    literals, _, variable = behind.rstrip("/").partition("/{")
    return _Pattern(prefix, literals, bool(variable), route)


def _rank(pattern: _Pattern) -> tuple[bool, int]:
    return (pattern.has_variable, -len(pattern.prefix) - len(pattern.literals))


def _indexed(patterns: list[_Pattern]) -> tuple[dict[str, list[_Pattern]], list[_Pattern]]:
    """Index patterns by the segment before the last one; return those where it may be a name's too.

    The latter may match behind every segment, and are tried last. Otherwise, of two that match a
    path, the one that leaves less to the name is first.
    """
    by_segment: dict[str, list[_Pattern]] = {}
    others = []
    for pattern in patterns:
        segments = pattern.literals.split("/")[1:]
        known = segments if pattern.has_variable else segments[:-1]
        if known:
            by_segment.setdefault(known[-1], []).append(pattern)
        else:
            others.append(pattern)
    for found in (*by_segment.values(), others):
        found.sort(key=_rank)
    return {segment: [*found, *others] for segment, found in by_segment.items()}, others
