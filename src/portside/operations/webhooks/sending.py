"""One request to a receiver: a POST, and its status.

The host is looked up once, and the connection goes to an address that was checked, so that a name
whose addresses change in between leads nowhere else. Redirects are not followed, and proxies of the
environment are not used. All of it, from the lookup to the last byte of the answer, has one time
limit but the lookup itself, which has that of the system.

This is `http.client` of Python, and not the library of `stores.sources`: that one looks hosts up
itself, follows redirects, and limits each wait for bytes and not all of them together.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, RemoteDisconnected
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

Result = TypeVar("Result")

Address = IPv4Address | IPv6Address

PORTS = {"http": 80, "https": 443}

MOST_ADDRESSES = 4
"""Addresses of a host that are tried in an attempt."""

MOST_READ = 16 * 1024
"""Bytes of the body of an answer that are read, so that a receiver sees its answer taken."""

# Machines in clouds read their credentials and settings from these.
METADATA = frozenset(
    map(
        ip_address,
        ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)

# RFC 6052, section 2.1: a gateway sends what goes to such an address to the IPv4 address in it.
_NAT64 = ip_network("64:ff9b::/96")


class Post(NamedTuple):
    """What is sent to a URL; `allow_private` lets its host have a private address."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    allow_private: bool = False


class Answer(NamedTuple):
    """What came of it: a status, 0 where there was none, and what a person is told of a failure.

    `retry_after` is for how many seconds the receiver asks not to be called, if it does.
    """

    status: int
    error: str = ""
    retry_after: int | None = None


class AddressRefused(Exception):
    """The host has no address that may be connected to; the message says which it has."""


async def send(post: Post, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of the whole request
    """Send a request within so many seconds, in a thread of its own.

    Threads that others share would be taken by slow receivers. What is not awaited any more ends by
    itself, and keeps no process from ending.
    """
    return await _in_thread(lambda: send_blocking(post, timeout=timeout))


async def reach(url: str, *, allow_private: bool, timeout: float) -> str:  # noqa: ASYNC109
    """Return why a receiver cannot be connected to within so many seconds, or an empty text.

    Nothing is sent.
    """
    return await _in_thread(lambda: _reach(url, timeout, allow_private=allow_private))


def _reach(url: str, timeout: float, *, allow_private: bool) -> str:
    parts = urlsplit(url)
    try:
        _connect(parts, time.monotonic() + timeout, allow_private=allow_private).close()
    except (AddressRefused, OSError, ValueError) as error:
        return _explain(error, parts.netloc, timeout)
    return ""


def send_blocking(post: Post, *, timeout: float) -> Answer:
    """Send a request within so many seconds; what fails is the answer."""
    deadline = time.monotonic() + timeout
    parts = urlsplit(post.url)
    place = parts.netloc.rpartition("@")[2]
    try:
        connected = _connect(parts, deadline, allow_private=post.allow_private)
        try:
            return _exchange(connected, parts, post, deadline)
        finally:
            connected.close()
    except (AddressRefused, OSError, HTTPException, ValueError) as error:
        return Answer(0, _explain(error, place, timeout))


def _explain(error: Exception, place: str, timeout: float) -> str:
    match error:
        case AddressRefused():
            said = str(error)
        case TimeoutError():
            said = f"{place} did not answer within {timeout:g} s"
        case socket.gaierror():
            said = f"cannot look up {place}: {error.strerror}"
        case ssl.SSLError():
            reason = getattr(error, "verify_message", "") or error.reason or "it failed"
            said = f"no TLS connection to {place}: {reason}"
        case RemoteDisconnected():
            said = f"{place} closed the connection before it had answered"
        case OSError():
            said = f"no connection to {place}: {error.strerror or error}"
        case _:
            # What it says could be the receiver's words.
            said = f"{place} did not answer as HTTP servers do ({type(error).__name__})"
    return said


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """Whether a receiver can have an address.

    Those by which a machine in a cloud reaches its own settings are refused in any case.
    """
    embedded = _embedded(address)
    if embedded is not None:
        return is_allowed(embedded, allow_private=allow_private)
    if address in METADATA or address.is_link_local or address.is_multicast:
        return False
    if address.is_unspecified or (address.is_reserved and not address.is_loopback):
        return False
    return address.is_global or allow_private


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, if it does for one."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _connect(parts: SplitResult, deadline: float, *, allow_private: bool) -> socket.socket:
    """Connect to an address of the host that is allowed.

    Raises AddressRefused and OSError.
    """
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # An IPv6 address can name an interface behind it.
    addresses = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    allowed = [
        each
        for each, address in zip(found, addresses, strict=True)
        if is_allowed(address, allow_private=allow_private)
    ][:MOST_ADDRESSES]
    if not allowed:
        hint = "" if allow_private else "; allow-private is not set"
        raise AddressRefused(f"{host} has the address {addresses[0]}, which is refused{hint}")
    error: OSError = TimeoutError()
    for number, (family, kind, protocol, _, target) in enumerate(allowed):
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.settimeout(_left(deadline) / (len(allowed) - number))
            connecting.connect(target)
            if parts.scheme == "http":
                return connecting
            connecting.settimeout(_left(deadline))
            return verifier().wrap_socket(connecting, server_hostname=host)
        except OSError as failed:
            connecting.close()
            error = failed
    raise error


def _exchange(connected: socket.socket, parts: SplitResult, post: Post, deadline: float) -> Answer:
    """Send the request, and read the answer."""
    connected.settimeout(_left(deadline))
    connection = HTTPConnection(parts.hostname or "")
    connection.sock = connected
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    place = parts.netloc.rpartition("@")[2]
    headers = {"Host": place, **post.headers, "Connection": "close"}
    connection.request("POST", target, post.body, headers)
    limited = _Limited(connected, deadline)
    response = HTTPResponse(cast("socket.socket", limited), method="POST")
    try:
        response.begin()
        # http.client takes the end of the connection for the end of the headers.
        if limited.reader.is_over:
            raise RemoteDisconnected("within the headers")
        answer = _understood(response)
        if not answer.error:
            _take(response)
        return answer
    finally:
        response.close()


def _understood(response: HTTPResponse) -> Answer:
    status = response.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer(status)
    try:
        said = f"answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        said = f"answered {status}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        said += "; redirects are not followed"
    return Answer(status, said, _seconds(response.getheader("Retry-After", "")))


def _take(response: HTTPResponse) -> None:
    """Read a part of the body; the status counts, whatever becomes of the rest."""
    try:
        response.read(MOST_READ)
    except (OSError, HTTPException, ValueError):
        return


def _seconds(text: str) -> int | None:
    """Read a Retry-After: seconds, or a time (RFC 9110, section 10.2.3)."""
    if text.isascii() and text.isdigit():
        return int(text[:9])
    try:
        return max(0, int(parsedate_to_datetime(text).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


class _Limited:
    """What an answer is read from: a socket that is over at a time, however few bytes come."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self.reader = _Reader(connected, deadline)

    def makefile(self, *_: Any) -> io.BufferedReader:
        """Return what http.client reads."""
        return io.BufferedReader(self.reader)


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._connected = connected
        self._deadline = deadline
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connected.settimeout(_left(self._deadline))
        number = self._connected.recv_into(buffer)
        self.is_over = not number
        return number


def _left(deadline: float) -> float:
    """Return the seconds until a deadline; raises TimeoutError."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def verifier() -> ssl.SSLContext:
    """Return what verifies receivers by the certificates of the system, or of SSL_CERT_FILE."""
    return ssl.create_default_context()


async def _in_thread(work: Callable[[], Result]) -> Result:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(result: Result | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("Result", result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as failed:  # noqa: BLE001  # it is raised where it is awaited
            error = failed
        try:
            loop.call_soon_threadsafe(tell, result, error)
        except RuntimeError:
            # The loop is closed: no one waits any more.
            return

    threading.Thread(target=run, name="webhook", daemon=True).start()
    return await done
