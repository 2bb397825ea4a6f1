"""Watch the connections of a worker, and end those that hold it for nothing.

Granian times the head of an HTTP/1 request and nothing else: not the connection that sends nothing,
the HTTP/2 preface, the idle HTTP/2 connection, or the client that does not read. It has no hooks
either. But its sockets are this process's own: a thread looks them up in `/proc/self/fd`, asks the
system what moves on them, and shuts down those that have waited for too long, which Granian
notices as it notices any client that goes away.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from time import monotonic

from portside.api.connections import Client, Connection, Connections
from portside.cli.descriptors import CannotWatch, Descriptors

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between two counts of the descriptors, at most."""

PERIOD = 1.0
"""Seconds between two looks at all connections while nothing happens, at most."""

BURST = 16
"""New descriptors that are a reason to look at once."""

SO_COOKIE = 57
"""The option that identifies a socket for as long as the system runs; Python does not name it."""

# struct tcp_info of linux/tcp.h, up to tcpi_notsent_bytes.
_TCP_INFO = struct.Struct("=24xI92xQQ8xI")

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
"""The options for a filter of the packets that arrive; Python does not name them either."""

_RETURN_0 = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_DROP_ALL = struct.pack("HP", 1, ctypes.addressof(_RETURN_0))
"""A struct sock_fprog of one instruction (linux/filter.h): keep no byte of a packet."""

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Limits:
    """How long a connection may wait for what, in seconds, and how many there may be."""

    header_timeout: float
    idle_timeout: float
    write_timeout: float
    connections: int
    client_connections: int

    @property
    def period(self) -> float:
        """Seconds between two looks at all connections: few of the shortest time limit."""
        shortest = min(self.header_timeout, self.idle_timeout, self.write_timeout)
        return max(0.01, min(PERIOD, shortest / 8))


@dataclass(frozen=True)
class Traffic:
    """What the system knows of a connection: bytes received, bytes read by the other end."""

    received: int = 0
    acknowledged: int = 0
    is_sending: bool = False

    @classmethod
    def of(cls, connection: socket.socket) -> Traffic:
        """Ask the system; raises OSError."""
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(told) < _TCP_INFO.size:
            raise CannotWatch("TCP_INFO is too short")
        unacknowledged, acknowledged, received, unsent = _TCP_INFO.unpack(told)
        return cls(received, acknowledged, bool(unacknowledged or unsent))


@dataclass(eq=False)
class Watched:
    """One connection, and since when it waits for what."""

    cookie: bytes
    client: Client
    holder: str
    accepted: float
    traffic: Traffic = field(default_factory=Traffic)
    moved: float = 0.0
    quiet: float | None = None
    quiet_received: int = 0
    head: float | None = None
    requests: Connection | None = None
    is_ended: bool = False

    def look(self, traffic: Traffic, now: float) -> None:
        """Note what has moved since the last look."""
        if traffic.acknowledged != self.traffic.acknowledged or not traffic.is_sending:
            self.moved = now
        self.traffic = traffic
        requests = self.requests
        if requests is None:
            return
        if requests.running or traffic.is_sending:
            self.quiet = self.head = None
        elif self.quiet is None or requests.latest > self.quiet:
            self.quiet, self.head = max(now, requests.latest), None
            self.quiet_received = traffic.received
        elif self.head is None and traffic.received > self.quiet_received:
            self.head = now

    def fault(self, limits: Limits, now: float) -> str | None:
        """Return why the connection has to end, if it has to."""
        requests = self.requests
        if self.traffic.is_sending and now - self.moved >= limits.write_timeout:
            return "write-timeout"
        if requests is None:
            return "header-timeout" if now - self.accepted >= limits.header_timeout else None
        since = requests.waits_since()
        if since is not None and now - since >= limits.write_timeout:
            return "write-timeout"
        if self.quiet is not None and now - self.quiet >= limits.idle_timeout:
            return "idle-timeout"
        # What an HTTP/2 client sends between two requests need not be the head of another.
        if self.head is not None and not requests.has_streams:
            return "header-timeout" if now - self.head >= limits.header_timeout else None
        return None

    @property
    def rank(self) -> tuple[int, float]:
        """Where the connection stands among those to be closed when there are too many."""
        if self.requests is None:
            return 0, self.accepted
        if self.quiet is not None:
            return 1, self.quiet
        return 2, -self.accepted


class Watcher:
    """A thread that looks at the connections of this process that were accepted on a port."""

    def __init__(
        self,
        connections: Connections,
        port: int,
        limits: Limits,
        proxies: tuple[IPv4Network | IPv6Network, ...],
        descriptors: Descriptors,
    ) -> None:
        self._known = connections.known
        self._port = port
        self._limits = limits
        self._proxies = proxies
        self._descriptors = descriptors
        self._watched: dict[int, Watched] = {}
        self._others: dict[int, bytes] = {}
        self._looked = monotonic()
        self._listener: int | None = None
        self._is_holding_back = False

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._run, name="connections", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        period = self._limits.period
        count = 0
        while not pause.wait(min(TICK, period)):
            try:
                opened = self._descriptors.count()
                self._adapt(opened)
                is_many = len(self._watched) * 2 > self._limits.connections
                if is_many or opened > count + BURST or monotonic() - self._looked >= period:
                    self.look()
                    count = self._descriptors.count()
                    self._adapt(count)
            except CannotWatch as error:
                log.warning("idle and silent connections are not closed: %s", error)
                return
            except Exception:
                # Without another look, one client could hold the registry.
                log.exception("looking at the connections failed")

    def _adapt(self, opened: int) -> None:
        """Hold new connections back while descriptors run out.

        Those that wait to be accepted take the reserve; Granian ends those that were shut down only
        once it has accepted all that wait.
        """
        is_rush = self._descriptors.is_rush(opened)
        if is_rush != self._is_holding_back:
            if self._listener is not None:
                self._filter(self._listener, is_rush=is_rush)
            self._is_holding_back = is_rush
            if is_rush:
                log.warning("%d descriptors are open: connections are held back", opened)
                self._descriptors.release_reserve()
            else:
                self._descriptors.raise_limit()

    def _filter(self, descriptor: int, *, is_rush: bool) -> None:
        """Set or remove a filter that drops every packet for the listening socket."""
        with _borrowed(descriptor, is_known=True) as listener:
            if is_rush:
                listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _DROP_ALL)
            else:
                listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    def look(self) -> None:
        """Look at every connection, and end those that have to end."""
        before, now = self._looked, monotonic()
        self._looked = now
        found: dict[int, Watched] = {}
        for descriptor in self._descriptors.list():
            watched = self._find(descriptor, before, now)
            if watched is not None:
                found[descriptor] = watched
        self._watched = found
        self._forget(before)
        self._end_faulty(now)
        self._end_excess()

    def _find(self, descriptor: int, before: float, now: float) -> Watched | None:
        """Return the connection of a descriptor; None if it is something else."""
        watched = self._watched.get(descriptor)
        try:
            with _borrowed(descriptor, is_known=watched is not None) as connection:
                cookie = connection.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
                if self._others.get(descriptor) == cookie:
                    return None
                if watched is None or watched.cookie != cookie:
                    watched = self._meet(connection, cookie, now)
                    if watched is None:
                        if self._is_listener(connection):
                            self._listener = descriptor
                        self._others[descriptor] = cookie
                        return None
                if not watched.is_ended:
                    requests = self._known.get(watched.client)
                    # Another connection may have had the same port before.
                    if requests is not None and (watched.requests or requests.latest >= before):
                        watched.requests = requests
                    watched.look(Traffic.of(connection), now)
                return watched
        except OSError:
            # It is not a socket, or was closed a moment ago.
            return None

    def _meet(self, connection: socket.socket, cookie: bytes, now: float) -> Watched | None:
        if connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        if connection.getsockname()[1] != self._port:
            return None
        try:
            host, port = connection.getpeername()[:2]
        except OSError:
            return None
        host = host.partition("%")[0]
        return Watched(cookie, (host, str(port)), self._holder(host), now, moved=now)

    def _is_listener(self, found: socket.socket) -> bool:
        is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(is_listening) and found.getsockname()[1] == self._port

    def _holder(self, host: str) -> str:
        """Return whose connection it is; nothing if it is a trusted proxy's."""
        address = ip_address(host)
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._proxies):
            return ""
        if isinstance(address, IPv6Address):
            return str(IPv6Network((int(address), 64), strict=False))
        return str(address)

    def _forget(self, before: float) -> None:
        """Forget the requests of connections that are closed."""
        clients = {watched.client for watched in self._watched.values()}
        for client, connection in tuple(self._known.items()):
            if client not in clients and not connection.running and connection.latest < before:
                self._known.pop(client, None)

    def _end_faulty(self, now: float) -> None:
        for descriptor, watched in self._watched.items():
            fault = None if watched.is_ended else watched.fault(self._limits, now)
            if fault is not None:
                self._end(descriptor, watched, fault)

    def _end_excess(self) -> None:
        """End connections of clients that have too many, and of all if a limit is near."""
        limits = self._limits
        by_holder: dict[str, list[tuple[int, Watched]]] = defaultdict(list)
        for descriptor, watched in self._watched.items():
            if not watched.is_ended:
                by_holder[watched.holder].append((descriptor, watched))
        if limits.client_connections:
            for holder, held in by_holder.items():
                excess = len(held) - limits.client_connections
                if holder and excess > 0:
                    self._end_first(held, excess, "max-client-connections")
        remaining = [each for each in self._watched.items() if not each[1].is_ended]
        # Some are free at any time, so that a new client need not wait for another to go.
        excess = len(remaining) - (limits.connections - max(1, limits.connections // 8))
        if excess > 0:
            useless = [each for each in remaining if each[1].rank[0] < 2]  # noqa: PLR2004
            self._end_first(useless, excess, "max-connections")

    def _end_first(self, held: list[tuple[int, Watched]], count: int, fault: str) -> None:
        held.sort(key=lambda each: each[1].rank)
        for descriptor, watched in held[:count]:
            self._end(descriptor, watched, fault)

    def _end(self, descriptor: int, watched: Watched, fault: str) -> None:
        """Shut a connection down, unless the descriptor has become another's."""
        watched.is_ended = True
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8) != watched.cookie:
                return
            if fault == "write-timeout":
                # What the client does not read must not stay in the system's memory.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            connection.shutdown(socket.SHUT_RDWR)
        log.debug("connection of %s:%s ended: %s", *watched.client, fault)


@contextmanager
def _borrowed(descriptor: int, *, is_known: bool) -> Iterator[socket.socket]:
    """Open a descriptor of another owner as a socket, and leave it open; raises OSError."""
    if is_known:
        # The family is not needed, and to ask for it takes longer than the rest.
        connection = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor
        )
    else:
        connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()
