"""What the server listens on: a TCP port, or a socket in the file system."""

from __future__ import annotations

import errno
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from portside.cli.connections import SO_DETACH_FILTER
from portside.cli.errors import ServerError
from portside.cli.locks import LOCK_TIMEOUT, PAUSE, lock
from portside.config import HostPort, Settings


class Listener(ABC):
    """An address that this process holds; the workers accept connections on it."""

    on_loopback = False
    """Whether web pages in a browser of this machine can reach it."""

    is_local = False
    """Whether other machines cannot reach it."""

    port: int | None = None
    """The TCP port, if it is one."""

    @property
    def options(self) -> dict[str, Any]:
        """What the HTTP server needs to know of the address."""
        return {}

    @abstractmethod
    def url(self, scheme: str) -> str:
        """Return where the registry listens, for people."""

    authority = ""
    """The host and the port by which clients of this machine reach it, if it is a port."""

    @abstractmethod
    def connect(self) -> None:
        """Connect once, to see that a connection is accepted; raises OSError."""

    @abstractmethod
    def listen(self, workers: int, backlog: int) -> None:
        """Listen on behalf of so many workers; raises ServerError."""

    @abstractmethod
    def choose(self, worker: int) -> int:
        """Return the descriptor of the socket of a worker, which is started next."""

    @abstractmethod
    def keep_chosen(self) -> None:
        """Close the sockets of other workers, in the process of the worker that was chosen last."""

    @property
    @abstractmethod
    def accepting(self) -> socket.socket:
        """The socket of this worker."""

    def leave(self) -> None:
        """Accept no further connection in this worker; its successor has the same socket.

        The HTTP server cannot be asked for that, so its socket is replaced by one that nobody
        connects to.
        """
        own = os.fstat(self.accepting.fileno())
        with socket.socket(socket.AF_UNIX) as unknown:
            # Linux chooses an address for an empty one (unix(7), autobind).
            unknown.bind("")
            unknown.settimeout(0)
            unknown.listen()
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    found = os.fstat(int(name))
                    if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                        os.dup2(unknown.fileno(), int(name))

    @abstractmethod
    def withdraw(self) -> None:
        """Let no further client find the address, while requests are answered."""

    @abstractmethod
    def close(self) -> None:
        """Close what this process holds; further calls do nothing."""


def listen(settings: Settings) -> Listener:
    """Hold the address in the settings; raises ServerError if it cannot be used."""
    address = settings.address
    if isinstance(address, Path):
        return SocketListener(address, int(settings.socket_mode, 8), settings.backlog)
    return PortListener(address)


class PortListener(Listener):
    """A TCP port, reserved until the workers listen on it.

    The workers share the port by SO_REUSEPORT, and would silently share it with any other server of
    the same user. The first socket does not share, so that it finds out. The sockets of the workers
    stay open in this process: connections wait there while one worker takes another one's place.
    """

    def __init__(self, address: HostPort) -> None:
        host, port = address
        self.host = host
        try:
            family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(found)
                probe.listen()
                found = probe.getsockname()
            self._held = socket.socket(family)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._held.bind(found)
        except OSError as error:
            raise ServerError(explain_port(error, host, port)) from error
        except UnicodeError as error:
            unknown = f"cannot listen on {host}:{port}: {host} is not a host name"
            raise ServerError(unknown) from error
        self._address, self.port = self._held.getsockname()[:2]
        self._sockets: list[socket.socket] = []
        self._chosen = 0
        self._reachable = address.reachable
        self.authority = f"{_bracketed(self._reachable)}:{self.port}"
        self.is_local = self.on_loopback = _is_loopback(host)

    def __str__(self) -> str:
        return self.host

    @property
    def options(self) -> dict[str, Any]:
        """The address and the port."""
        return {"address": self._address, "port": self.port}

    def url(self, scheme: str) -> str:
        """Return the URL with the host as it was set."""
        return f"{scheme}://{_bracketed(self.host)}:{self.port}"

    def connect(self) -> None:
        """Connect to the port; raises OSError."""
        socket.create_connection((self._reachable, self.port), timeout=1).close()

    def listen(self, workers: int, backlog: int) -> None:
        """Open a socket for each worker; raises ServerError."""
        bound = self._held.getsockname()
        try:
            for _ in range(workers):
                one = socket.socket(self._held.family)
                self._sockets.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                # Connections inherit it. The end of a response would wait for the client to
                # acknowledge what is before it, up to 40 ms (RFC 9293, section 3.7.4).
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.bind(bound)
                one.settimeout(0)
                one.listen(backlog)
        except OSError as error:
            raise ServerError(explain_port(error, self.host, bound[1])) from error

    def choose(self, worker: int) -> int:
        """Return the socket of the worker, and let it accept again.

        The worker before may have held connections back; see `connections`.
        """
        self._chosen = worker
        with suppress(OSError):
            self._sockets[worker].setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        return self._sockets[worker].fileno()

    @property
    def accepting(self) -> socket.socket:
        """The socket that was chosen last."""
        return self._sockets[self._chosen]

    def keep_chosen(self) -> None:
        """Close all sockets but one."""
        for index, one in enumerate(self._sockets):
            if index != self._chosen:
                one.close()

    def withdraw(self) -> None:
        """Close the sockets of this process; workers close theirs as soon as they are to end."""
        for one in self._sockets:
            one.close()

    def close(self) -> None:
        """Release the port."""
        self.withdraw()
        self._held.close()


class SocketListener(Listener):
    """A socket in the file system, which this process listens on and the workers inherit.

    What is at the path is looked at, replaced and removed under a lock of its directory, so that
    two registries that start or stop at the same time do not remove each other's socket.
    """

    is_local = True

    def __init__(self, path: Path, mode: int, backlog: int) -> None:
        self.path = path
        self._held = socket.socket(socket.AF_UNIX)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT
            while not self._take(mode, backlog):
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"{self} is in use; choose another path with --listen. If a registry there"
                        " was killed, its workers exit within its --shutdown-timeout"
                    )
                time.sleep(PAUSE)
        except OSError as error:
            self._held.close()
            raise ServerError(self._explain(error)) from error
        except ServerError:
            self._held.close()
            raise
        self._held.settimeout(0)
        self._owner = os.getpid()
        self._is_withdrawn = False

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def url(self, scheme: str) -> str:
        """Return the address as it is set."""
        del scheme
        return str(self)

    def connect(self) -> None:
        """Connect to the socket; raises OSError."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0)
            client.connect(os.fsencode(self.path))

    def listen(self, workers: int, backlog: int) -> None:
        """Do nothing: the socket that was opened is the one of all workers."""

    def choose(self, worker: int) -> int:
        """Return the socket."""
        del worker
        return self._held.fileno()

    @property
    def accepting(self) -> socket.socket:
        """The socket of all workers."""
        return self._held

    def keep_chosen(self) -> None:
        """Do nothing."""

    def withdraw(self) -> None:
        """Remove the socket from its directory, unless another one has taken its place.

        While this process holds the socket, no other file has the same inode.
        """
        if self._is_withdrawn or os.getpid() != self._owner:
            return
        self._is_withdrawn = True
        with suppress(OSError, ServerError), _locked(self.path.parent):
            if self._identify() == self._identity:
                self.path.unlink()

    def close(self) -> None:
        """Remove the socket from its directory, and close it."""
        self.withdraw()
        self._held.close()

    def _take(self, mode: int, backlog: int) -> bool:
        """Listen at the path, unless another process does; raises OSError and ServerError."""
        with _locked(self.path.parent):
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_socket()):
                other = f"{self.path} exists and is not a socket; choose another path with --listen"
                raise ServerError(other)
            if self._is_in_use():
                return False
            self.path.unlink(missing_ok=True)
            self._bind(mode)
            self._identity = self._identify()
            # From here on, another start finds out that the socket is in use.
            self._held.listen(backlog)
        return True

    def _is_in_use(self) -> bool:
        """Whether a process listens at the path; raises OSError if that cannot be found out."""
        try:
            self.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            # More connections wait for the process than it allows.
            return True
        return True

    def _identify(self) -> tuple[int, int]:
        """Return what identifies the file at the path; raises OSError."""
        found = self.path.lstat()
        return found.st_dev, found.st_ino

    def _bind(self, mode: int) -> None:
        """Create the socket with its mode, whatever the umask of this process is."""
        before = os.umask(0o777 & ~mode)
        try:
            self._held.bind(os.fsencode(self.path))
        finally:
            os.umask(before)

    def _explain(self, error: OSError) -> str:
        folder = self.path.parent
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return f"cannot listen on {self}: there is no directory {folder}"
        if error.errno in {errno.EACCES, errno.EPERM}:
            return f"no permission to listen on {self}; choose another path with --listen"
        if error.errno == errno.EPROTOTYPE:
            return f"{self} is in use by another kind of socket; choose another path with --listen"
        return f"cannot listen on {self}: {error.strerror or error}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a directory for the length of a block; raises OSError and ServerError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(descriptor, f"the directory {folder} is locked by another process")
        yield
    finally:
        os.close(descriptor)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
        addresses = [ip_address(entry[4][0]) for entry in found]
    except (OSError, ValueError):
        return False
    mapped = (getattr(address, "ipv4_mapped", None) or address for address in addresses)
    return all(address.is_loopback for address in mapped)


def explain_port(error: OSError, host: str, port: int, option: str = "listen") -> str:
    """Return why a port cannot be used, and what to do."""
    shown = f"{_bracketed(host)}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{shown} is in use; choose another port with --{option}"
    if error.errno == errno.EACCES:
        return (
            f"no permission to listen on {shown}; choose a port above 1023 with --{option}, or"
            " allow lower ones (AmbientCapabilities=CAP_NET_BIND_SERVICE of systemd)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {shown}: not an address of this machine; 0.0.0.0 stands for all"
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {shown}: the name {host} is unknown here ({error.strerror})"
    return f"cannot listen on {shown}: {error.strerror or error}"
