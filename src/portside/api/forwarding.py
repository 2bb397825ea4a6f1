"""Forwarding headers: what proxies say of the requests that they received.

X-Forwarded-For, -Proto, -Host and -Port are what most proxies write; Forwarded is the standard (RFC
7239). Where both are sent, the first are read: a proxy that writes them passes a client's Forwarded
on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple

from starlette.types import Scope

FOR, PROTO, HOST, PORT = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
)
FORWARDED = b"forwarded"

_DEFAULT_PORTS = {"http": "80", "https": "443"}

# Characters, from the end of the header: what is before can only have been written by a client.
_MOST = 4096

# RFC 7239, section 4: forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105  # a production of RFC 9110
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_PAIR = rf"{_TOKEN}=(?:{_TOKEN}|{_QUOTED})"
_LAST_ELEMENT = re.compile(rf"(?:^|,)[ \t]*+({_PAIR}(?:[ \t]*+;[ \t]*+(?:{_PAIR})?)*+)[ \t]*+$")
_PAIRS = re.compile(rf"({_TOKEN})=(?:({_TOKEN})|({_QUOTED}))")
_ESCAPED = re.compile(r"\\(.)")

# Some gateways write the port of the connection, which differs each time.
_WITH_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+|\[([0-9a-fA-F:.]+)\](?::\d+)?")


class Hop(NamedTuple):
    """A request as one proxy received it; what the proxy does not say is empty.

    `address` is where the request came from, without a port.
    """

    address: str
    scheme: str
    host: str


def read_hops(scope: Scope) -> Iterator[Hop]:
    """Yield the hops that the headers of a request name, the nearest first."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in (FOR, PROTO, HOST, PORT, FORWARDED):
            headers.setdefault(name, []).append(value)
    texts = {name: b",".join(values).decode("latin-1") for name, values in headers.items()}
    if texts.keys() & {FOR, PROTO, HOST}:
        lists = (_backwards(texts.get(name, "")) for name in (FOR, PROTO, HOST, PORT))
        for address, proto, host, port in zip_longest(*lists, fillvalue=""):
            scheme = proto.lower()
            yield Hop(_address(address), scheme, _with_port(host, port, scheme))
    else:
        yield from _elements(texts.get(FORWARDED, ""))


def _backwards(text: str) -> Iterable[str]:
    return reversed([item.strip() for item in text.split(",") if item.strip()])


def _with_port(host: str, port: str, scheme: str) -> str:
    """Return a host with the port that the client used, if the host does not name one."""
    if not host or not port.isdecimal() or port == _DEFAULT_PORTS.get(scheme):
        return host
    is_named = host.rpartition("]")[2].count(":") > 0
    return host if is_named else f"{host}:{port}"


def _elements(text: str) -> Iterator[Hop]:
    """Yield the elements of Forwarded from the last to the first one that is malformed.

    The header is read backwards, so that a quote that a client leaves open hides nothing that a
    proxy appended.
    """
    left = text[-_MOST:]
    while found := _LAST_ELEMENT.search(left):
        pairs = {
            name.lower(): token or _ESCAPED.sub(r"\1", quoted[1:-1])
            for name, token, quoted in _PAIRS.findall(found[1])
        }
        address, scheme, host = (pairs.get(name, "") for name in ("for", "proto", "host"))
        yield Hop(_address(address), scheme.lower(), host)
        left = left[: found.start()]


def _address(node: str) -> str:
    """Return the address of a node without its port."""
    found = _WITH_PORT.fullmatch(node)
    return (found[1] or found[2]) if found else node
