"""Addresses: the client's, and the URL by which the client knows this registry."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 3986, section 3.2.2, as far as registries are named.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")


class Addresses:
    """Finds the addresses of a request.

    `proxies` are the networks whose X-Forwarded-For is trusted. `public_url` is how clients reach
    the registry; if it is empty, the Host header of each request says so.
    """

    def __init__(self, *, public_url: str, proxies: Iterable[Network]) -> None:
        self._public_url = public_url.rstrip("/")
        self._proxies = tuple(proxies)

    def client(self, scope: Scope) -> str:
        """Return the client address: the last one that is not a trusted proxy's.

        An IPv6 address is returned as its /64 network, because one client usually has all of it.
        """
        client = scope.get("client")
        nearest: str = client[0] if client else ""
        if not self._proxies or not self._is_proxy(nearest):
            return _holder(nearest)
        forwarded = _header(scope, b"x-forwarded-for").split(",")
        for hop in reversed([_address(item) for item in forwarded if item.strip()]):
            if not self._is_proxy(hop):
                return _holder(hop)
        return _holder(nearest)

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        parsed = mapped or parsed
        return any(parsed in network for network in self._proxies)

    def base_url(self, scope: Scope) -> str:
        """Return the URL by which the client knows the registry, without a trailing slash."""
        if self._public_url:
            return self._public_url
        host = _header(scope, b"host") or _authority(scope)
        if _HOST.fullmatch(host) is None:
            host = _authority(scope)
        return f"{scope.get('scheme', 'http')}://{host}"


# Some gateways write the port of the connection, which differs each time.
_WITH_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+|\[([0-9a-fA-F:.]+)\](?::\d+)?")


def _address(hop: str) -> str:
    """Return the address of a hop without its port."""
    stripped = hop.strip()
    found = _WITH_PORT.fullmatch(stripped)
    return (found.group(1) or found.group(2)) if found else stripped


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


def _authority(scope: Scope) -> str:
    host, port = scope.get("server") or ("127.0.0.1", None)
    written = f"[{host}]" if ":" in host else host
    return f"{written}:{port}" if port else written
