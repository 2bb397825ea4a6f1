"""Addresses and URLs within settings."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

# RFC 3986, section 3.2.2: brackets separate the colons of an address from the one before the port.
# RFC 1035, section 2.3.1, with the underscore, which some networks use in names.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_ADDRESS = re.compile(
    rf"(?:(?P<host>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<address>[^\[\]]+)\]):(?P<port>[0-9]{{1,5}})"
)

# RFC 3986, sections 3.3 and 3.4: what a path may hold; queries hold the same here.
_PATH = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
_URL = re.compile(
    rf"https?://(?:(?P<host>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<address>[0-9A-Fa-f:.]+)\])"
    rf"(?::(?P<port>[0-9]{{1,5}}))?(?:/{_PATH})?(?P<query>\?{_PATH})?"
)

_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")

# RFC 6454, section 6.2. Browser extensions have schemes of their own.
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?"
)

_UNIX = "unix:"

SOCKET_PATH_BYTES = 107
"""The longest path of a socket; Linux keeps 108 bytes for it and the NUL after it (unix(7))."""

_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")


class SettingsInvalid(Exception):
    """A setting has an invalid value; the message is for the person who set it."""


_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing listens there


class HostPort(NamedTuple):
    """A TCP port of a host, which is a name or an address without brackets."""

    host: str
    port: int

    @property
    def reachable(self) -> str:
        """The host to connect to: that of this machine where the address stands for all."""
        return _LOOPBACK.get(self.host, self.host)


def parse_address(listen: str) -> HostPort | Path:
    """Return the host and the port of HOST:PORT, or the path of a socket in the file system.

    The path is absolute. Raises SettingsInvalid.
    """
    if listen.startswith(_UNIX) and _ADDRESS.fullmatch(listen) is None:
        return _parse_socket(listen)
    found = _find_host_port(listen)
    if found is None:
        shape = "listen must be HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000, or unix:/PATH"
        raise SettingsInvalid(f"{shape}, not {shortened(listen)}")
    return found


def parse_host_port(metrics_listen: str) -> HostPort:
    """Return the host and the port of HOST:PORT; raises SettingsInvalid."""
    found = _find_host_port(metrics_listen)
    if found is None:
        shape = "metrics-listen must be HOST:PORT, such as 127.0.0.1:9500 or [::1]:9500"
        raise SettingsInvalid(f"{shape}, not {shortened(metrics_listen)}")
    return found


def _find_host_port(text: str) -> HostPort | None:
    written = _ADDRESS.fullmatch(text)
    if written is None or int(written["port"]) > 65535 or not _is_host(written):  # noqa: PLR2004
        return None
    return HostPort(written["host"] or written["address"], int(written["port"]))


def _parse_socket(listen: str) -> Path:
    """Return the path of unix:PATH or unix:///PATH as an absolute path; raises SettingsInvalid."""
    text = listen.removeprefix(_UNIX)
    if text.startswith("//"):
        text = text.removeprefix("//")
        if not text.startswith("/"):
            shape = "listen must be unix:/PATH or unix:///PATH for a socket in the file system"
            raise SettingsInvalid(f"{shape}, not {shortened(listen)}")
    if not text or text.startswith("@"):
        shape = "listen must be unix: and the path of a socket in the file system"
        raise SettingsInvalid(f"{shape}, not {shortened(listen)}")
    try:
        path = Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        # The user does not exist, or the working directory was removed.
        raise SettingsInvalid(f"listen cannot be {shortened(listen)}: {error}") from error
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES:
        long = f"the path of a socket can have {SOCKET_PATH_BYTES} bytes, and this one has {size}"
        raise SettingsInvalid(f"listen cannot be {shortened(listen)}: {long}")
    return path


def without_password(database: str) -> str:
    """Return the URL of a database without its secrets.

    Raises SettingsInvalid, whose message does not show them either.
    """
    try:
        parts = urlsplit(database)
        is_known = parts.scheme in {"postgresql", "postgres"}
    except ValueError:
        is_known = False
    # A password with an unencoded "/" or "#" ends the host early, and what follows must not be
    # shown. Neither must a password without a host, which looks like a port.
    is_whole = is_known and "@" not in parts.path + parts.query + parts.fragment
    hosts = parts.netloc.rpartition("@")[2] if is_whole else ""
    if not is_whole or not _are_hosts(hosts):
        shape = (
            "database must be postgresql://USER@HOST/NAME, with /, #, ? and @ in a password"
            " written as %2F, %23, %3F and %40"
        )
        raise SettingsInvalid(shape)
    return f"{parts.scheme}://{hosts}{parts.path}"


def check_url(
    name: str, value: str, *, has_query: bool = False, may_be_secret: bool = False
) -> None:
    """Refuse a setting that is not empty and not an HTTP URL that a header can hold.

    `has_query` allows a query. Raises SettingsInvalid, without a value that `may_be_secret`.
    """
    if value and not is_url(value, has_query=has_query):
        parts = "user or fragment" if has_query else "user, query or fragment"
        shape = (
            f"{name.replace('_', '-')} must be a URL such as https://registry.example, in ASCII and"
            f" without a {parts}"
        )
        raise SettingsInvalid(shape if may_be_secret else f"{shape}, not {shortened(value)}")


def is_url(text: str, *, has_query: bool = False) -> bool:
    """Whether a text is an HTTP URL without a user and a fragment; `has_query` allows a query."""
    written = _URL.fullmatch(text)
    return (
        written is not None
        and (has_query or written["query"] is None)
        and int(written["port"] or 0) <= 65535  # noqa: PLR2004
        and _is_host(written)
    )


def check_networks(texts: tuple[str, ...]) -> None:
    """Refuse trusted proxies that are not addresses or networks; raises SettingsInvalid."""
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            shape = f"trusted-proxies must be addresses or networks such as 10.0.0.0/8: {error}"
            if "," in text:
                shape = "trusted-proxies are separated by spaces, not commas"
            raise SettingsInvalid(shape) from error


def check_hosts(texts: tuple[str, ...]) -> None:
    """Refuse allowed hosts that are not names or addresses; raises SettingsInvalid."""
    for text in texts:
        if text != "*" and not _HOST.fullmatch(text):
            shape = "allowed-hosts must be names or addresses without a port, or * for all"
            raise SettingsInvalid(f"{shape}, not {shortened(text)}")


def check_origins(texts: tuple[str, ...]) -> None:
    """Refuse origins that no browser sends, which would match nothing; raises SettingsInvalid."""
    for text in texts:
        if text == "*" and len(texts) > 1:
            alone = "cors-origins must be * alone, or origins: pages of * get no credentials"
            raise SettingsInvalid(alone)
        if text != "*" and (not _ORIGIN.fullmatch(text) or _DEFAULT_PORT.fullmatch(text)):
            shape = (
                "cors-origins must be * or origins as browsers send them, such as"
                " https://ui.example: in lower case, without a path or the default port"
            )
            raise SettingsInvalid(f"{shape}, not {shortened(text)}")


def _are_hosts(written: str) -> bool:
    """Whether every port in a list of hosts is a number."""
    ports = (host.rpartition("]")[2].partition(":") for host in written.split(","))
    return all(port.isdecimal() for _, colon, port in ports if colon)


def _is_host(written: re.Match[str]) -> bool:
    """Whether the host is a name of valid length, or an IPv6 address if it is in brackets."""
    if written["address"] is None:
        return len(written["host"]) <= 253  # noqa: PLR2004  # RFC 1035, section 2.3.4
    try:
        ipaddress.IPv6Address(written["address"])
    except ValueError:
        return False
    return True


def shortened(value: object) -> str:
    """Return a value for a message of one line, cut off if it is long."""
    written = repr(value)
    return written if len(written) <= 80 else f"{written[:80]}…"  # noqa: PLR2004
