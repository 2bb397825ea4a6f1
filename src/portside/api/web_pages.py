"""Keep web pages away from a registry that is open to everybody on this machine.

A browser on this machine reaches what listens on loopback, and so does every page in it. A name
that its owner points at 127.0.0.1 (DNS rebinding) makes the registry part of the page's own site;
and a page can send a POST to any site without asking first. Only the headers tell such requests
from others: browsers write Host, Origin and Sec-Fetch-Site themselves, and no page can change them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from portside.spec.errors import CrossSiteRefused, HostNotServed, RegistryError

# RFC 3986, section 3.2.2: a host, with the port after it.
_AUTHORITY = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")

ANY = "*"

KNOWN_HOSTS = 1024
"""Host headers whose answer is kept, as most requests send the same one."""


class WebPages:
    """Tells what only a web page of another site would send.

    `hosts` are names that the registry has besides those of loopback, and `origins` those of the
    pages that may use it; `*` among either stands for all.
    """

    def __init__(self, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._allows_any_origin = ANY.encode() in self._origins
        self._serves = lru_cache(KNOWN_HOSTS)(self._look_up)

    def refusal(self, headers: Mapping[bytes, bytes]) -> RegistryError | None:
        """Return why a request is refused, if it is; a request without a Host is not a page's."""
        host, origin = headers.get(b"host", b""), headers.get(b"origin", b"")
        if host and not self._serves(host):
            return HostNotServed(
                f"{host.decode('latin-1')[:300]!r} is not a name of this machine's loopback"
                " address, and this registry is open to everybody who reaches it; to serve"
                " that name, list it in --allowed-hosts, or turn on access control"
            )
        is_cross_site = b"cross-site" in headers.get(b"sec-fetch-site", b"")
        if self._allows_any_origin or not (origin or is_cross_site):
            return None
        if origin in self._origins or (origin and _is_same(origin, host)):
            return None
        shown = origin.decode("latin-1")[:300]
        return CrossSiteRefused(
            f"the request comes from a web page{f' of {shown!r}' if shown else ''}, and this"
            " registry is open to everybody who reaches it; to allow the page, list its origin in"
            " --cors-origins, or turn on access control"
        )

    def _look_up(self, authority: bytes) -> bool:
        """Whether a Host header names this machine's loopback, or a name that is allowed."""
        found = _AUTHORITY.fullmatch(authority.decode("latin-1"))
        if ANY in self._hosts:
            return True
        if found is None:
            return False
        host = (found["address"] or found["name"]).lower().removesuffix(".")
        return host in self._hosts or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    """Whether a host is an address of loopback, or a name that always is one (RFC 6761, 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_same(origin: bytes, host: bytes) -> bool:
    """Whether a page comes from the registry itself; a proxy may have changed the scheme."""
    return origin.partition(b"://")[2].lower() == host.lower()
