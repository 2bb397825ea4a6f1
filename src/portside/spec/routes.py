"""Routes: from a path to its endpoints.

Repository names may contain slashes, and words such as `blobs` or `manifests` as components, so
paths are matched from the right: the last two or three segments determine the endpoint, and
everything between `/v2/` and them is the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from portside.spec.endpoints import Endpoint

_PREFIX = "/v2/"
_NAME = "/v2/{name}/"


class Route(NamedTuple):
    """The endpoints of one path, by method; what has a GET has a HEAD as well (RFC 9110, 9.1)."""

    path: str
    methods: dict[str, Endpoint]


class Match(NamedTuple):
    """A path that was matched: its route, and the texts of the name and the last variable."""

    route: Route
    name: str
    last: str


class _Suffix(NamedTuple):
    """The end of a path: its literal segments, and whether a variable follows them."""

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
            path.rstrip("/"): Match(route, "", "")
            for path, route in self.by_path.items()
            if "{" not in path
        }
        self._suffixes = _suffixes(self.by_path)

    def match(self, path: str) -> Match | None:
        """Return the match of a decoded path, or None if it has no route."""
        head, _, last = path.rpartition("/")
        if not last:
            return self._match_slashed(head)
        for literals, has_variable, route in self._suffixes.get(head[head.rfind("/") + 1 :], ()):
            if has_variable:
                if head.endswith(literals):
                    return _named(route, head[: -len(literals)], last)
            elif path.endswith(literals):
                return _named(route, path[: -len(literals)], "")
        return self._fixed.get(path)

    def _match_slashed(self, head: str) -> Match | None:
        """Match a path that ends in a slash: only those that the specification writes so."""
        if not head:
            return self._fixed.get(head)
        found = self.match(head) if head.rpartition("/")[2] else None
        return found if found is not None and found.route.path.endswith("/") else None


def _suffixes(routes: dict[str, Route]) -> dict[str, list[_Suffix]]:
    """Index the routes of repositories by the segment before the last one."""
    index: dict[str, list[_Suffix]] = {}
    for path, route in routes.items():
        if not path.startswith(_NAME):
            continue
        segments = path[len(_NAME) :].rstrip("/").split("/")
        has_variable = segments[-1].startswith("{")
        literals = "/".join(segments[:-1] if has_variable else segments)
        suffix = _Suffix(f"/{literals}", has_variable, route)
        index.setdefault(segments[-2], []).append(suffix)
    for suffixes in index.values():
        suffixes.sort(key=lambda suffix: suffix.has_variable)
    return index


def _named(route: Route, prefix: str, last: str) -> Match | None:
    if not prefix.startswith(_PREFIX):
        return None
    return Match(route, prefix[len(_PREFIX) :], last)
