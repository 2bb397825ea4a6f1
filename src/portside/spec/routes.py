"""From a path to the endpoints it names.

Repository names may hold slashes, and words such as `blobs` or `manifests` as components, so that a
path can be told apart only from its right end: the last two or three segments say which endpoint is
meant, and all that stands between `/v2/` and them is the name.
"""

from __future__ import annotations

from typing import NamedTuple

from portside.spec.endpoints import ENDPOINTS, Endpoint

_PREFIX = "/v2/"
_NAME = "/v2/{name}/"


class Route(NamedTuple):
    """The endpoints of one path, by method."""

    path: str
    methods: dict[str, Endpoint]

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods, as the Allow header lists them."""
        heads = {"HEAD"} if "GET" in self.methods else set()
        return tuple(sorted(self.methods.keys() | heads))

    def endpoint(self, method: str) -> Endpoint | None:
        """Find the endpoint of a method; what has a GET has a HEAD as well (RFC 9110, 9.1)."""
        found = self.methods.get(method)
        return self.methods.get("GET") if found is None and method == "HEAD" else found


class Match(NamedTuple):
    """A path that was understood: its route, and the texts of the name and the last variable."""

    route: Route
    name: str
    last: str


class _Suffix(NamedTuple):
    """The end of a path: its literal segments, and whether a variable stands behind them."""

    literals: str
    has_variable: bool
    route: Route


def _routes() -> dict[str, Route]:
    routes: dict[str, Route] = {}
    for endpoint in ENDPOINTS:
        route = routes.setdefault(endpoint.path, Route(endpoint.path, {}))
        route.methods[endpoint.method] = endpoint
    return routes


ROUTES = _routes()
"""Every route, by the path of its endpoints."""

# Both spellings are served: the distribution-spec writes the slash, the 2017 description does not.
_FIXED = {path.rstrip("/"): route for path, route in ROUTES.items() if "{" not in path}


def _suffixes() -> dict[str, list[_Suffix]]:
    """Index the routes of repositories by the segment before the last one."""
    index: dict[str, list[_Suffix]] = {}
    for path, route in ROUTES.items():
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


_SUFFIXES = _suffixes()


def match(path: str) -> Match | None:
    """Find the route of a decoded path, or None if the path names nothing."""
    head, _, last = path.rpartition("/")
    if not last:
        return _match_slashed(head)
    for suffix in _SUFFIXES.get(head[head.rfind("/") + 1 :], ()):
        if suffix.has_variable:
            if head.endswith(suffix.literals):
                return _named(suffix.route, head[: -len(suffix.literals)], last)
        elif path.endswith(suffix.literals):
            return _named(suffix.route, path[: -len(suffix.literals)], "")
    fixed = _FIXED.get(path)
    return Match(fixed, "", "") if fixed else None


def _match_slashed(head: str) -> Match | None:
    """Match a path that ends in a slash: only those that the specification writes so."""
    found = match(head) if head.rpartition("/")[2] else None
    return found if found is not None and found.route.path.endswith("/") else None


def _named(route: Route, prefix: str, last: str) -> Match | None:
    if not prefix.startswith(_PREFIX):
        return None
    return Match(route, prefix[len(_PREFIX) :], last)
