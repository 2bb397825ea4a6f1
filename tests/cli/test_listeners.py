"""What `portside serve` listens on: sockets in the file system, and addresses of IPv6."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from portside.cli.listeners import PortListener
from portside.config import HostPort
from support.access import ALICE, VICTIM, guarded_registry
from support.certificates import write_certificate
from support.content import digest_of, image, make_blob
from support.server import (
    RunningRegistry,
    run_portside,
    running_registry,
    start_registry,
    without_limit,
)
from support.waiting import PATIENCE, until
from support.wire import OCTETS, ONCE, assert_error, connect, push

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a socket that does not exist yet."""
    return tmp_path / "portside.sock"


@pytest.fixture(scope="module")
def at_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve a registry with access control at a socket, where two failed logins are too many."""
    folder = tmp_path_factory.mktemp("socket")
    options = ("--listen", f"unix:{folder}/portside.sock", "--login-failures", "2")
    with guarded_registry(folder / "data", *options, "--max-client-connections", "1") as registry:
        yield registry


@pytest.fixture(scope="module")
def at_ipv6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve an open registry on loopback, with few connections for each client."""
    data = tmp_path_factory.mktemp("ipv6") / "data"
    options = ("--listen", "[::1]:0", "--max-client-connections", "4", "--workers", "1")
    with running_registry(data, *options) as registry:
        yield registry


def connect_socket(registry: RunningRegistry, **options: object) -> httpx.Client:
    """Return a client of the registry at a socket."""
    transport = httpx.HTTPTransport(uds=registry.socket)
    return connect(registry.url, transport=transport, **options)


def is_answering(path: Path) -> bool:
    """Whether a registry answers at a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(str(path))
        except OSError:
            return False
        client.sendall(HEALTH)
        return client.recv(1000).startswith(b"HTTP/1.1 200")


def fail_to_serve(data: Path, path: Path | str) -> str:
    """Start a registry that cannot be started; returns the one line that it prints."""
    code, printed, errors = run_portside("serve", "--data", str(data), "--listen", f"unix:{path}")
    assert (code, printed) == (1, "")
    assert errors.startswith("portside: ")
    assert len(errors.splitlines()) == 1, errors
    assert "os error" not in errors
    return errors


def make_stale(path: Path) -> None:
    """Leave a socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


class TestRequests:
    """A registry at a socket, and a proxy that connects to it."""

    def test_push_and_pull(self, at_socket: RunningRegistry) -> None:
        content = image("socket")
        with connect_socket(at_socket, auth=ALICE.pair) as client:
            push(client, "team/app", content, "v1")
            assert client.get("/v2/team/app/manifests/v1").content == content.manifest
            blob = content.blobs[0]
            assert client.get(f"/v2/team/app/blobs/{digest_of(blob)}").content == blob

    @pytest.mark.parametrize(
        ("headers", "realm"),
        [
            (
                {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example"},
                "https://registry.example",
            ),
            ({"Forwarded": "proto=https;host=registry.example"}, "https://registry.example"),
            (
                {"X-Forwarded-Proto": "https", "Host": "registry.example"},
                "https://registry.example",
            ),
            ({"Host": "registry.example"}, "http://registry.example"),
        ],
    )
    def test_realm(self, at_socket: RunningRegistry, headers: dict[str, str], realm: str) -> None:
        """It is the URL that the client called, as whoever connects is a trusted proxy."""
        with connect_socket(at_socket) as client:
            challenge = client.get("/v2/", headers=headers).headers["WWW-Authenticate"]
        assert challenge.startswith(f'Bearer realm="{realm}/oauth2/token",')

    def test_without_a_host(self, at_socket: RunningRegistry) -> None:
        """HTTP/1.0 requires no Host; the path of the socket is not shown."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(at_socket.socket)
            client.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
            assert b'realm="http://localhost/oauth2/token"' in client.recv(4096)

    def test_failed_logins(self, at_socket: RunningRegistry) -> None:
        """One client's wrong passwords lock out no other client."""
        with connect_socket(at_socket) as client:

            def log_in(address: str, password: str) -> int:
                headers = {"X-Forwarded-For": address}
                query = {"service": "portside"}
                pair = (VICTIM.name, password)
                return client.get(
                    "/oauth2/token", params=query, headers=headers, auth=pair
                ).status_code

            statuses = [log_in("192.0.2.1", "wrong") for _ in range(3)]
            assert statuses == [401, 401, 429]
            assert log_in("192.0.2.1", VICTIM.password) == 429
            assert log_in("192.0.2.2", VICTIM.password) == 200

    def test_many_connections(self, at_socket: RunningRegistry) -> None:
        """The limit for each client is not one for all clients of the proxy."""
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(20)]
            for client in opened:
                client.settimeout(PATIENCE)
                client.connect(at_socket.socket)
            for client in opened * 2:
                client.sendall(HEALTH)
                assert client.recv(1000).startswith(b"HTTP/1.1 200")

    def test_open(self, data: Path, path: Path) -> None:
        """Without access control, the names by which a proxy is called are served."""
        with (
            running_registry(data, "--listen", f"unix:{path}", "--access-log") as registry,
            connect_socket(registry) as client,
        ):
            assert registry.banner.splitlines() == [
                f"Portside listens on unix:{path}",
                f"Data is in {data}",
                f"Try: curl --unix-socket {path} http://localhost/",
            ]
            assert client.get("/v2/", headers={"Host": "registry.example"}).status_code == 200
            until(lambda: '"client":null' in registry.log)

    def test_tls(self, data: Path, tmp_path: Path) -> None:
        """The command to try works as it is printed, with TLS and a path of any characters."""
        certificate, key = write_certificate(tmp_path)
        options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        path = tmp_path / "a 'b' $c.sock"
        with running_registry(data, "--listen", f"unix:{path}", *options) as registry:
            _, _, command = registry.banner.splitlines()[-1].partition(": ")
            done = subprocess.run(shlex.split(command), capture_output=True, check=True)
            assert b'"name":"Portside"' in done.stdout


class TestFiles:
    """What is at the path before, while and after a registry listens there."""

    @pytest.mark.parametrize(("options", "mode"), [((), 0o660), (("--socket-mode", "0606"), 0o606)])
    def test_mode(self, data: Path, path: Path, options: tuple[str, ...], mode: int) -> None:
        """The socket has the mode of the setting, whatever the umask is."""
        before = os.umask(0o077)
        try:
            registry = start_registry(data, "--listen", f"unix://{path}", *options)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert registry.stop() == 0
        assert not path.exists()
        assert without_limit(registry.log) == ""

    def test_stale(self, data: Path, path: Path) -> None:
        """A socket that nobody listens on is replaced."""
        make_stale(path)
        with running_registry(data, "--listen", f"unix:{path}"):
            assert is_answering(path)

    def test_killed(self, data: Path, path: Path) -> None:
        """After a crash, the next start takes the socket that was left."""
        killed = start_registry(data, "--listen", f"unix:{path}")
        killed.process.kill()
        with running_registry(data, "--listen", f"unix:{path}"):
            killed.kill()
            assert is_answering(path)

    def test_in_use(self, data: Path, path: Path, tmp_path: Path) -> None:
        """A start where another registry listens is refused, and does that one no harm."""
        with running_registry(data, "--listen", f"unix:{path}"):
            other = tmp_path / "other"
            assert f"unix:{path} is in use; choose" in fail_to_serve(other, path)
            assert not other.exists()
            assert is_answering(path)

    def test_full_backlog(self, data: Path, path: Path) -> None:
        """A server that accepts nothing is still one."""
        with ExitStack() as stack:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(path))
            server.listen(0)
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.connect(str(path))
            assert "is in use" in fail_to_serve(data, path)

    @pytest.mark.parametrize("kind", ["file", "directory", "link", "link to a socket", "datagrams"])
    def test_something_else(self, data: Path, path: Path, tmp_path: Path, kind: str) -> None:
        """What is not a socket of a server is left alone."""
        with ExitStack() as stack:
            if kind == "file":
                path.write_text("kept")
            elif kind == "directory":
                path.mkdir()
            elif kind == "datagrams":
                bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                stack.enter_context(bound).bind(str(path))
            else:
                target = tmp_path / "target"
                if kind == "link to a socket":
                    make_stale(target)
                path.symlink_to(target)
            before = path.lstat()
            message = fail_to_serve(data, path)
            assert "choose another path with --listen" in message
            expected = "another kind of socket" if kind == "datagrams" else "is not a socket"
            assert expected in message
            assert path.lstat() == before
            assert not data.exists()

    def test_no_directory(self, data: Path, tmp_path: Path) -> None:
        message = fail_to_serve(data, tmp_path / "absent" / "portside.sock")
        assert f"there is no directory {tmp_path}/absent" in message

    def test_no_permission(self, data: Path) -> None:
        """A directory in which nobody may create a socket is named."""
        assert "listen on unix:/proc/self/a.sock" in fail_to_serve(data, "/proc/self/a.sock")

    def test_refused_start(self, data: Path, path: Path) -> None:
        """A start that fails later leaves no socket."""
        data.mkdir()
        (data / "portside.db").write_bytes(b"this is no database" * 100)
        assert "file is not a database" in fail_to_serve(data, path)
        assert not path.exists()

    @pytest.mark.parametrize("kind", ["socket", "file"])
    def test_successor(self, data: Path, path: Path, kind: str) -> None:
        """What has taken the place of the socket stays when the registry stops."""
        with ExitStack() as stack:
            registry = start_registry(data, "--listen", f"unix:{path}")
            path.unlink()
            if kind == "socket":
                server = stack.enter_context(socket.socket(socket.AF_UNIX))
                server.bind(str(path))
            else:
                path.write_text("kept")
            before = path.lstat()
            assert registry.stop() == 0
            assert path.lstat() == before

    def test_failed_worker(self, data: Path, path: Path) -> None:
        """A worker that is replaced accepts connections on the same socket."""
        with running_registry(data, "--listen", f"unix:{path}", "--workers", "1") as registry:
            pid = registry.process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children")
            os.kill(int(children.read_text()), signal.SIGKILL)
            assert is_answering(path)


class TestStop:
    """SIGTERM while requests are answered."""

    def test_successor_while_requests_end(self, data: Path, path: Path, tmp_path: Path) -> None:
        """The path is free at once, and the next registry keeps the socket that it creates."""
        first = start_registry(data, "--listen", f"unix:{path}", "--workers", "1")
        content = make_blob(1000, "slow")
        half, go_on = Event(), Event()
        statuses: list[int] = []

        def slowly() -> Iterator[bytes]:
            yield content[:500]
            half.set()
            assert go_on.wait(2 * PATIENCE)
            yield content[500:]

        def upload() -> None:
            with connect_socket(first) as client:
                query = {"digest": digest_of(content)}
                where = "/v2/a/blobs/uploads/"
                answer = client.post(where, params=query, content=slowly(), headers=OCTETS)
                statuses.append(answer.status_code)

        thread = Thread(target=upload)
        thread.start()
        assert half.wait(PATIENCE)
        first.process.terminate()
        with running_registry(tmp_path / "other", "--listen", f"unix:{path}"):
            go_on.set()
            thread.join(PATIENCE)
            assert statuses == [201]
            assert first.wait() == 0
            assert is_answering(path)


class TestPort:
    """A port whose sockets are opened for the workers."""

    def test_no_delay(self) -> None:
        """What is sent does not wait until the client acknowledges what was sent before."""
        with closing(PortListener(HostPort("127.0.0.1", 0))) as listener:
            listener.listen(workers=1, backlog=1)
            listener.choose(0)
            listener.accepting.settimeout(PATIENCE)
            listener.connect()
            connection, _ = listener.accepting.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class TestIPv6:
    """A registry that listens on an address of IPv6."""

    def test_banner(self, at_ipv6: RunningRegistry) -> None:
        """Every address is written in brackets."""
        assert at_ipv6.host == "[::1]"
        first, _, last = at_ipv6.banner.splitlines()
        assert first == f"Portside listens on http://[::1]:{at_ipv6.port}"
        assert last.endswith(f" IMAGE [::1]:{at_ipv6.port}/library/app:1")

    def test_push_and_pull(self, at_ipv6: RunningRegistry) -> None:
        content = image("ipv6")
        with connect(at_ipv6.url) as client:
            push(client, "a", content, "v1")
            assert client.get("/v2/a/manifests/v1").content == content.manifest

    def test_hosts(self, at_ipv6: RunningRegistry) -> None:
        """Loopback is served under its own names only."""
        with connect(at_ipv6.url) as client:
            for host in (at_ipv6.address, "[::1]", "localhost", "[0:0:0:0:0:0:0:1]:80"):
                assert client.get("/v2/", headers={"Host": host}).status_code == 200
            for host in ("evil.example", "[2001:db8::1]", "::1"):
                answer = client.get("/v2/", headers={"Host": host})
                assert_error(answer, 421, "UNSUPPORTED")

    def test_client_limit(self, at_ipv6: RunningRegistry) -> None:
        """A client with more connections than it may have loses those without a request."""
        with ExitStack() as stack:
            opened = [
                stack.enter_context(
                    socket.create_connection(("::1", at_ipv6.port), timeout=PATIENCE)
                )
                for _ in range(20)
            ]
            for ended in opened[:16]:
                assert ended.recv(1) == b""
            opened[-1].sendall(HEALTH)
            assert opened[-1].recv(1000).startswith(b"HTTP/1.1 200")

    def test_realm(self, data: Path) -> None:
        """It is the address that the client called, or what a trusted proxy forwards."""
        options = ("--listen", "[::]:0", "--trusted-proxies", "::1")
        with guarded_registry(data, *options) as registry:
            assert registry.host == "[::]"
            for host in ("[::1]", "127.0.0.1"):
                url = f"http://{host}:{registry.port}"
                challenge = httpx.get(f"{url}/v2/", **ONCE).headers["WWW-Authenticate"]
                assert challenge.startswith(f'Bearer realm="{url}/oauth2/token",')
            headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "[2001:db8::1]:8443"}
            answer = httpx.get(f"http://[::1]:{registry.port}/v2/", headers=headers, **ONCE)
            realm = "https://[2001:db8::1]:8443/oauth2/token"
            assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="{realm}",')

    def test_in_use(self, at_ipv6: RunningRegistry, data: Path) -> None:
        where = at_ipv6.address
        code, _, errors = run_portside("serve", "--data", str(data), "--listen", where)
        assert code == 1
        assert f"{where} is in use" in errors

    def test_access_control(self, data: Path) -> None:
        """It is required where other machines can reach the registry."""
        code, _, errors = run_portside("serve", "--data", str(data), "--listen", "[::]:0")
        assert code == 1
        assert ":: can be reached from other machines" in errors

    def test_mapped_loopback(self, data: Path) -> None:
        """An address of IPv4 that is written as one of IPv6 is the same address."""
        with running_registry(data, "--listen", "[::ffff:127.0.0.1]:0") as registry:
            assert httpx.get(f"http://127.0.0.1:{registry.port}/v2/", **ONCE).status_code == 200
