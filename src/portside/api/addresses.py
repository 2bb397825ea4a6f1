"""Addresses: the client's, and the URL by which the client knows this registry."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

from portside.api.forwarding import Hop, read_hops

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 3986, section 3.2.2, as far as registries are named.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")

_SCHEMES = frozenset({"http", "https"})


class Addresses:
    """Finds the addresses of a request.

    `proxies` are the networks whose forwarding headers are trusted. `on_socket` says that the
    server listens on a socket in the file system, where only a trusted proxy can connect.
    `public_url` is how clients reach the registry; if it is empty, what the nearest proxies and the
    Host header of each request say.
    """

    def __init__(
        self, *, public_url: str, proxies: Iterable[Network], on_socket: bool = False
    ) -> None:
        self._public_url = public_url.rstrip("/")
        self._proxies = tuple(proxies)
        self._on_socket = on_socket
        self._has_warned = False

    @property
    def has_proxies(self) -> bool:
        """Whether the forwarding headers of any request are trusted."""
        return self._on_socket or bool(self._proxies)

    def client(self, scope: Scope) -> str:
        """Return who is counted as one client, by the address of the request.

        An IPv6 address is returned as its /64 network, because one client usually has all of it.
        """
        return _holder(self.client_address(scope))

    def client_address(self, scope: Scope) -> str:
        """Return the address of the client: the last one that is not a trusted proxy's.

        It is empty if the server listens on a socket in the file system and no proxy names one.
        """
        hops = self._hops(scope)
        if not hops:
            return _nearest(scope)
        farthest = hops[-1].address
        if not _is_address(farthest) or self._is_proxy(farthest):
            return _nearest(scope)
        return farthest

    def _hops(self, scope: Scope) -> list[Hop]:
        """Return the hops that trusted proxies vouch for, the nearest first.

        A proxy vouches for the hop that it adds, and so for the address that it was called from; if
        that is another trusted proxy, this one vouches for the hop before.
        """
        if not self.is_called_by_proxy(scope):
            return []
        found = []
        for hop in read_hops(scope):
            found.append(hop)
            if not self._is_proxy(hop.address):
                break
        return found

    def is_called_by_proxy(self, scope: Scope) -> bool:
        """Whether a trusted proxy sent the request, so that its headers count."""
        if self._on_socket:
            return not _nearest(scope)
        return bool(self._proxies) and self._is_proxy(_nearest(scope))

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        parsed = mapped or parsed
        return any(parsed in network for network in self._proxies)

    def base_url(self, scope: Scope) -> str:
        """Return the URL by which the client knows the registry, without a trailing slash.

        The farthest trusted proxy that names a scheme or a host received the client's. A value that
        is neither is ignored, so that nothing breaks out of the quotes of a challenge.
        """
        if self._public_url:
            return self._public_url
        farthest_first = self._hops(scope)[::-1]
        schemes = (hop.scheme for hop in farthest_first if hop.scheme in _SCHEMES)
        scheme = next(schemes, scope.get("scheme", "http"))
        forwarded = (hop.host for hop in farthest_first)
        host = next(filter(_HOST.fullmatch, (*forwarded, _header(scope, b"host"))), "")
        found = f"{scheme}://{host or self._authority(scope)}"
        if scheme == "http" and not self._has_warned and not self.is_called_by_proxy(scope):
            self._warn_of_proxy(scope, found)
        return found

    def _warn_of_proxy(self, scope: Scope, found: str) -> None:
        """Warn, once, of a proxy that ends TLS and is not trusted.

        Its clients are sent from TLS to plain HTTP, with a password. Anybody can send the header
        that says so, and with it cause one line in the log, but no more.
        """
        if next((hop.scheme for hop in read_hops(scope)), "") != "https":
            return
        self._has_warned = True
        log.warning(
            "%s forwards a request that came over TLS, and is not a trusted proxy: its client is"
            " sent to %s for a token; set --public-url, or name the proxy in --trusted-proxies",
            _nearest(scope),
            found,
        )

    def _authority(self, scope: Scope) -> str:
        """Return the address of the server, for a request that does not name a host."""
        if self._on_socket:
            return "localhost"
        host, port = scope.get("server") or ("127.0.0.1", None)
        written = f"[{host}]" if ":" in host else host
        return f"{written}:{port}" if port else written

    def authority(self, scope: Scope) -> str:
        """Return the host, and the port if there is one, by which the client knows the registry."""
        return self.base_url(scope).partition("://")[2].partition("/")[0]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _nearest(scope: Scope) -> str:
    """Return the address that the connection comes from; empty for a socket in the file system."""
    client = scope.get("client")
    return client[0] if client else ""


@lru_cache(maxsize=1024)
def _holder(address: str) -> str:
    """Return one spelling for all addresses of one client."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))


def _header(scope: Scope, name: bytes) -> str:
    return b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1")
