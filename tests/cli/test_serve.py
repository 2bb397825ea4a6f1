"""`portside serve`: what it prints, how it ends, and what it says of mistakes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from portside.cli.banner import banner
from portside.cli.listeners import listen
from portside.cli.options import refuse_unknown_variables
from portside.config import Setting, list_settings, make_settings
from support.certificates import write_certificate
from support.commands import run_inside
from support.content import digest_of, image, make_blob
from support.memory import scratch
from support.server import PROGRAM, run_portside, running_registry, start_registry
from support.waiting import PATIENCE, until
from support.wire import OCTETS, ONCE, assert_error, connect, open_upload, push

AT_ONCE = make_settings({}).shutdown_timeout / 2
"""Seconds that a stop which waits for no request takes at most, on a slow machine too."""


def suggestion(options: dict[str, str]) -> str:
    """Return the command to try, with PORT for the port."""
    settings = make_settings({"listen": "127.0.0.1:0", **options})
    with closing(listen(settings)) as listener:
        last = banner(settings, listener, is_closed=False).splitlines()[-1]
        return last.removeprefix("Try: ").replace(f":{listener.port}/", ":PORT/")


class TestStart:
    """The first lines, and the settings."""

    def test_banner(self, data: Path) -> None:
        """It says where it listens, where the data is, and what to try."""
        with running_registry(data) as registry:
            lines = registry.banner.splitlines()
            assert lines == [
                f"Portside listens on {registry.url}",
                f"Data is in {data}",
                f"Try: podman push --tls-verify=false IMAGE {registry.address}/library/app:1",
            ]
            assert registry.log == ""

    def test_limit_of_open_files(self, data: Path) -> None:
        """The log has the limit once it is raised, and a warning if it is too low."""
        with running_registry(data, prefix=("prlimit", "--nofile=300:600")) as registry:
            (line,) = registry.limit_lines
            # Without the connections that may wait, a quarter, and the rest of the reserve.
            assert "WARNING RLIMIT_NOFILE: soft 418, hard 600: too low for 4096" in line
            assert "177 are accepted; raise the hard limit to 9312 or more" in line
            for process in (registry.process.pid, *registry.workers):
                limits = Path(f"/proc/{process}/limits").read_text()
                assert limits.partition("Max open files")[2].split()[:2] == ["418", "600"]
        few = ("--max-connections", "300", "--backlog", "128")
        with running_registry(data, *few, prefix=("prlimit", "--nofile=824:824")) as registry:
            line = registry.limit_lines[-1]
            assert "INFO RLIMIT_NOFILE: soft 664, hard 824; up to 300 connections" in line
        with running_registry(data, *few, prefix=("prlimit", "--nofile=823:823")) as registry:
            assert "raise the hard limit to 824 or more" in registry.limit_lines[-1]

    def test_banner_with_access_control(self, data: Path, tmp_path: Path) -> None:
        """It says to log in first, and how to use a self-signed certificate."""
        certificate, key = write_certificate(tmp_path)
        options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        with running_registry(data, *options, "--anonymous", "*:pull") as registry:
            assert registry.banner.splitlines()[-1] == (
                f"Try: podman login --tls-verify=false {registry.address} && podman push"
                f" --tls-verify=false IMAGE {registry.address}/library/app:1"
            )

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"public_url": "https://r.example"}, "podman push IMAGE r.example/library/app:1"),
            (
                {"public_url": "http://r.example:81/", "listen": "unix:s"},
                "podman push --tls-verify=false IMAGE r.example:81/library/app:1",
            ),
            (
                {"listen": "0.0.0.0:0"},
                "podman push --tls-verify=false IMAGE 127.0.0.1:PORT/library/app:1",
            ),
        ],
    )
    def test_suggestion(
        self,
        options: dict[str, str],
        expected: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The command to try fits the public URL, or the listener."""
        monkeypatch.chdir(tmp_path)
        assert suggestion(options) == expected

    def test_suggestion_of_a_name(self, tmp_path: Path) -> None:
        """A certificate that clients trust is valid for some names, and one of them is used."""
        certificate, key = write_certificate(tmp_path, issuer="A CA", names=["*.ex", "r.example"])
        options = {"tls_certificate": str(certificate), "tls_key": str(key)}
        assert suggestion(options) == "podman push IMAGE r.example:PORT/library/app:1"
        certificate, _ = write_certificate(tmp_path, issuer="A CA")
        assert suggestion(options) == "podman push IMAGE 127.0.0.1:PORT/library/app:1"

    def test_is_quick_whatever_the_store_holds(self) -> None:
        """It does as little with ten thousand blobs and as many uploads as without any."""
        with TemporaryDirectory(dir=scratch()) as folder:
            self.compare(Path(folder) / "full", Path(folder) / "empty")

    @staticmethod
    def compare(data: Path, empty: Path) -> None:
        """Start with many files, and without."""
        assert start_registry(data).stop() == 0
        for kind in ("blobs/sha256/ab", "uploads"):
            (data / kind).mkdir(exist_ok=True)
            for number in range(10_000):
                width = 64 if kind.startswith("blobs") else 32
                (data / kind / f"ab{number:0{width - 2}x}").touch()

        def work_to_start(data: Path) -> float:
            """Return the processor time of a start, which other tests hardly change."""
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            with running_registry(data) as registry:
                answer = httpx.get(f"{registry.url}/readyz", **ONCE)
                assert answer.status_code == 200
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        assert start_registry(empty).stop() == 0
        assert any(work_to_start(data) < 1.1 * work_to_start(empty) for _ in range(5))

    def test_environment_file_and_command_line(self, data: Path, tmp_path: Path) -> None:
        """The command line overrides the environment, and that the file."""
        path = tmp_path / "portside.toml"
        path.write_text('dialect = "acr-2017"\nmax-blob-bytes = 10\nworkers = 1\ndelete = false\n')
        env = {
            "PORTSIDE_CONFIG": str(path),
            "PORTSIDE_MAX_BLOB_BYTES": "20",
            "PORTSIDE_MAX_RANGES": "0",
            "PORTSIDE_DELETE": "on",
        }
        with (
            running_registry(data, "--max-blob-bytes", "30", env=env) as registry,
            connect(registry.url) as client,
        ):
            for size, status in ((30, 201), (31, 400)):
                content = make_blob(size, size)
                query = {"digest": digest_of(content)}
                path_ = "/v2/a/blobs/uploads/"
                answer = client.post(path_, params=query, content=content)
                assert answer.status_code == status
            location = open_upload(client, "a")
            assert client.patch(location, content=b"x").status_code == 204
            path_ = f"/v2/a/blobs/{digest_of(make_blob(30, 30))}"
            assert client.get(path_, headers={"Range": "bytes=0-1"}).status_code == 200
            assert client.delete(path_).status_code == 202

    def test_access_log(self, data: Path) -> None:
        """With the setting, each request is one line of JSON; without it, none is written."""
        with (
            running_registry(data, "--access-log", "--workers", "1") as registry,
            connect(registry.url, headers={"User-Agent": "test"}) as client,
        ):
            push(client, "a", image("log", layers=1), "v1")
            started = time.monotonic()
            answer = client.get("/v2/a/manifests/v1?x=1")
            longest = time.monotonic() - started
            client.get("/v2/a/manifests/v2")
            client.head("/v2/a/manifests/v1")
            client.head("/openapi.json")
        events = [json.loads(line) for line in registry.log.splitlines()]
        statuses = [202, 201, 202, 201, 201, 200, 404, 200, 200]
        assert [event["status"] for event in events] == statuses
        assert [event["bytes_out"] for event in events[-2:]] == [0, 0]
        content = image("log", layers=1)
        assert [event["bytes_in"] for event in events[1:5:3]] == [
            len(content.blobs[0]),
            len(content.manifest),
        ]
        missed, pulled = events[-3], events[-4]
        assert missed["error"] == "MANIFEST_UNKNOWN"
        assert 0 < pulled.pop("first_byte") < pulled["seconds"]
        assert 0 < pulled.pop("seconds") < longest
        assert pulled.pop("request") == answer.headers["X-Request-Id"]
        moment = datetime.fromisoformat(pulled.pop("time"))
        assert moment.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=2)
        assert pulled == {
            "trace": None,
            "client": "127.0.0.1",
            "identity": None,
            "token": None,
            "scheme": None,
            "method": "GET",
            "path": "/v2/a/manifests/v1",
            "query": "x=1",
            "operation": "get_manifest",
            "repository": "a",
            "reference": "v1",
            "digest": content.digest,
            "status": 200,
            "error": None,
            "bytes_in": 0,
            "bytes_out": len(content.manifest),
            "agent": "test",
        }

    def test_access_log_keeps_secrets(self, data: Path) -> None:
        """Values that could be a credential are not written."""
        queries = {
            "/v2/?n=1&password=hush": "n=1&password=***",
            "/v2/?refresh%5Ftoken=hush": "refresh%5Ftoken=***",
            "/v2/?Access_Token=hush&token=hush": "Access_Token=***&token=***",
            "/v2/?client_secret=hush&assertion=hush": "client_secret=***&assertion=***",
            "/v2/?Client%5FSecret=hush&n=1": "Client%5FSecret=***&n=1",
            "/v2/?digest=sha256:a&last": "digest=sha256:a&last",
            "/oauth2/token?client_secret=hush": "client_secret=***",
            "/oauth2/token?scope=hush&hush": "scope=***&***",
            "/token?account=hush": "account=***",
        }
        with (
            running_registry(data, "--access-log", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            for path in queries:
                client.get(path)
            form = {"client_secret": "hush", "password": "hush", "refresh_token": "hush"}
            client.post("/oauth2/token", data=form)
            client.get("/v2/", headers={"Authorization": "Bearer hush", "Cookie": "a=hush"})
        assert "hush" not in registry.log
        events = [json.loads(line) for line in registry.log.splitlines()]
        assert [event["query"] for event in events] == [*queries.values(), "", ""]

    def test_keeps_everything(self, data: Path) -> None:
        """With --no-delete, the answer to a DELETE says why."""
        with (
            running_registry(data, "--no-delete", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            content = image("kept", layers=1)
            push(client, "a", content, "v1")
            blob = f"blobs/{digest_of(content.blobs[0])}"
            for path, allowed in (("manifests/v1", "GET, HEAD, PUT"), (blob, "GET, HEAD")):
                answer = client.delete(f"/v2/a/{path}")
                detail = assert_error(answer, 405, "UNSUPPORTED")
                assert detail == "the registry runs with --no-delete"
                assert answer.headers["Allow"] == allowed
                assert client.post(f"/v2/a/{path}").headers["Allow"] == allowed
            session = client.post("/v2/a/blobs/uploads/").headers["Location"]
            assert client.options(session).headers["Allow"] == "DELETE, GET, HEAD, PATCH, PUT"
            assert client.delete(session).status_code == 204

    def test_restart(self, data: Path) -> None:
        """What was pushed is there after a restart."""
        content = image("restart")
        with (
            running_registry(data) as registry,
            connect(registry.url) as client,
        ):
            push(client, "a", content, "v1")
        with running_registry(data) as registry:
            answer = httpx.get(f"{registry.url}/v2/a/manifests/v1", **ONCE)
            assert answer.content == content.manifest

    def test_tls(self, data: Path, tmp_path: Path) -> None:
        """With a certificate it speaks TLS, and HTTP/2."""
        certificate, key = write_certificate(tmp_path)
        options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        with running_registry(data, *options) as registry:
            assert registry.url.startswith("https://")
            context = ssl.create_default_context(cafile=str(certificate))
            with httpx.Client(base_url=registry.url, verify=context) as client:
                push(client, "a", image("tls"), "v1")
                assert client.get("/v2/a/manifests/v1").status_code == 200
            context.set_alpn_protocols(["h2"])
            with (
                socket.create_connection((registry.host, registry.port)) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
            ):
                assert secure.selected_alpn_protocol() == "h2"

    def test_unprivileged(self, data: Path) -> None:
        """It needs none of the capabilities that root has and other users have not."""
        is_root = os.geteuid() == 0
        without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if is_root else ()
        with (
            running_registry(data, prefix=without) as registry,
            connect(registry.url) as client,
        ):
            status = Path(f"/proc/{registry.process.pid}/status").read_text()
            assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
            push(client, "a", image("unprivileged"), "v1")
            assert client.get("/v2/a/manifests/v1").content == image("unprivileged").manifest


class TestStop:
    """SIGTERM, Ctrl-C, and the end of the parent."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_idle(self, data: Path, number: signal.Signals) -> None:
        """It ends at once and with 0."""
        registry = start_registry(data)
        started = time.monotonic()
        registry.process.send_signal(number)
        assert registry.wait() == 0
        assert time.monotonic() - started < AT_ONCE

    def test_requests_in_flight_finish(self, data: Path) -> None:
        """An upload that has begun is taken to its end."""
        registry = start_registry(data, "--workers", "1")
        content = make_blob(2_000_000, "flight")
        half = threading.Event()
        go_on = threading.Event()
        statuses: list[int] = []

        def slowly() -> object:
            yield content[:1_000_000]
            half.set()
            assert go_on.wait(2 * PATIENCE)
            yield content[1_000_000:]

        def upload() -> None:
            with connect(registry.url) as client:
                query = {"digest": digest_of(content)}
                path = "/v2/a/blobs/uploads/"
                body = slowly()
                answer = client.post(path, params=query, content=body, headers=OCTETS)  # type: ignore[arg-type]
                statuses.append(answer.status_code)

        thread = threading.Thread(target=upload)
        thread.start()
        assert half.wait(PATIENCE)
        registry.process.terminate()
        until(lambda: not _accepts(registry.host, registry.port))
        go_on.set()
        thread.join(PATIENCE)
        assert statuses == [201]
        assert registry.wait() == 0

    def test_bounded(self, data: Path) -> None:
        """A client that never ends its request does not keep it for ever."""
        registry = start_registry(data, "--workers", "1", "--shutdown-timeout", "1")
        with socket.create_connection((registry.host, registry.port)) as connection:
            head = "POST /v2/a/blobs/uploads/?digest=sha256:" + "0" * 64 + " HTTP/1.1\r\n"
            connection.sendall(f"{head}Host: localhost\r\nContent-Length: 9\r\n\r\nabc".encode())
            staged = data / "uploads"
            until(lambda: bool(list(staged.iterdir())))
            started = time.monotonic()
            assert registry.stop() == 0
            assert time.monotonic() - started < AT_ONCE

    def test_workers_end_with_their_parent(self, data: Path) -> None:
        """When the first process is killed, the others stop serving."""
        registry = start_registry(data)
        registry.process.kill()
        registry.process.wait()
        until(lambda: not _accepts(registry.host, registry.port))
        registry.kill()
        again = start_registry(data)
        assert again.stop() == 0


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def serve_and_fail(*options: str, env: dict[str, str] | None = None, inside: bool = False) -> str:
    """Start a registry that cannot be started; returns the one line that it prints.

    What is refused before anything starts can be tried `inside` of this process.
    """
    run = run_inside if inside else run_portside
    code, printed, errors = run("serve", *options, env=env)
    assert code == (2 if errors.endswith("--help`.\n") else 1), errors
    assert printed == ""
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("portside: ")
    return errors


class TestMistakes:
    """Each ends in one line on standard error and a code that is not 0."""

    def test_twice_on_the_same_data(self, data: Path) -> None:
        """A second start names the directory, and does the first no harm."""
        with running_registry(data) as registry:
            message = serve_and_fail("--data", str(data), "--listen", "127.0.0.1:0")
            assert f"{data} is in use by another Portside" in message
            assert httpx.get(f"{registry.url}/readyz", **ONCE).status_code == 200

    def test_port_in_use(self, data: Path, tmp_path: Path) -> None:
        """A port that another Portside or another server has is named."""
        with running_registry(data) as registry:
            other = ("--data", str(tmp_path / "other"), "--listen", registry.address)
            assert f"{registry.address} is in use" in serve_and_fail(*other)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            message = serve_and_fail("--data", str(tmp_path / "other"), "--listen", address)
            assert f"{address} is in use" in message

    def test_too_few_files(self, data: Path) -> None:
        """A limit of open files with which nothing can be served is named, with the least."""
        limited = ("prlimit", "--nofile=128", *PROGRAM, "serve", "--data", str(data))
        done = subprocess.run(
            [*limited, "--listen", "127.0.0.1:0"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "may open only 128 files, and 288 are the least; raise the limit" in done.stderr

    def test_leaves_nothing(self, data: Path) -> None:
        """A start that is refused creates no directory."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            taken = f"127.0.0.1:{server.getsockname()[1]}"
            for address, said in (("0.0.0.0:0", "access control is off"), (taken, "is in use")):
                assert said in serve_and_fail("--data", str(data), "--listen", address)
                assert not data.exists()

    def test_a_file_as_the_directory(self, tmp_path: Path) -> None:
        """Every command says that the data directory is a file."""
        path = tmp_path / "file"
        path.touch()
        for command in (("check",), ("collect",), ("migrate",), ("user", "list")):
            code, _, errors = run_portside(*command, "--data", str(path))
            assert code == 2
            assert f"data must be a directory, and {path} is a file" in errors

    def test_unreachable(self) -> None:
        """An unreachable database and missing credentials are named in words."""
        for host in ("127.0.0.1", "localhost"):
            url = f"postgresql://portside@{host}:1/portside"
            _, _, errors = run_portside("user", "list", "--database", url)
            assert errors == (
                f"portside: the database at {host}:1: Connection refused; start PostgreSQL there,"
                " or correct the host and the port in --database\n"
            )
        env = {"AWS_METADATA_ENDPOINT": "http://127.0.0.1:1"}
        _, _, errors = run_portside("check", "--storage", "s3://bucket", env=env)
        assert "found no credentials for the object store" in errors
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in errors

    @pytest.mark.parametrize("kind", ["file", "below a file"])
    def test_data_is_no_directory(self, tmp_path: Path, kind: str) -> None:
        """A path that cannot be a directory is named."""
        path = tmp_path / "file"
        path.touch()
        data = path if kind == "file" else path / "data"
        assert str(data) in serve_and_fail("--data", str(data), "--listen", "127.0.0.1:0")

    def test_unwritable(self, tmp_path: Path) -> None:
        """A directory that may not be written to is named."""
        folder = tmp_path / "readonly"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)], check=True)
        try:
            message = serve_and_fail("--data", str(folder), "--listen", "127.0.0.1:0")
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        assert f"cannot use the data directory {folder}" in message

    def test_broken_database(self, data: Path) -> None:
        """A file that is not a database is reported as such."""
        data.mkdir()
        (data / "portside.db").write_bytes(b"this is no database" * 100)
        message = serve_and_fail("--data", str(data), "--listen", "127.0.0.1:0")
        assert "file is not a database" in message

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--listen", "5000"), "listen must be HOST:PORT"),
            (("--listen", "127.0.0.1:65536"), "listen must be HOST:PORT"),
            (("--listen", "no.such.host.invalid:0"), "cannot listen on no.such.host.invalid:0"),
            (("--listen", "192.0.2.1:5000"), "192.0.2.1:5000: not an address of this machine"),
            (("--workers", "0"), "workers must be a whole number from 1 to 256, not '0'"),
            (("--workers", "many"), "workers must be a whole number"),
            (("--dialect", "klingon"), "dialect must be oci or acr-2017, not 'klingon'"),
            (
                ("--max-manifest-bytes", "-1"),
                "max-manifest-bytes must be a whole number of bytes from 1 to",
            ),
            (
                ("--body-timeout", "0"),
                "body-timeout must be a number of seconds above 0 and up to 86400, not '0'",
            ),
            (("--trusted-proxies", "10.0.0.1,10.0.0.2"), "separated by spaces, not commas"),
            (("--tls-key", "key.pem"), "go together"),
            (("--tls-key", "no.pem", "--tls-certificate", "no.pem"), "certificate no.pem"),
            (("--listen", "a..b:1"), "listen must be HOST:PORT"),
            (("--listen", f"{'a' * 300}:1"), "listen must be HOST:PORT"),
            (("--listen", f"{'a.' * 150}a:1"), "listen must be HOST:PORT"),
            (("--listen", "[::1:50"), "listen must be HOST:PORT"),
            (("--listen", "::1:50"), "[::1]:5000, or unix:/PATH, not '::1:50'"),
            (("--listen", "[localhost]:50"), "listen must be HOST:PORT"),
            (("--listen", "bücher.example:50"), "listen must be HOST:PORT"),
            (("--listen", "127.0.0.1:٣"), "listen must be HOST:PORT"),
            (("--listen", "unix:"), "listen must be unix: and the path"),
            (("--listen", "unix:@abstract"), "listen must be unix: and the path"),
            (("--listen", "unix://host/path"), "listen must be unix:/PATH or unix:///PATH"),
            (("--listen", "unix//run/a.sock"), "or unix:/PATH, not 'unix//run/a.sock'"),
            (("--listen", "unix:~no-such-user/a"), "listen cannot be 'unix:~no-such-user/a'"),
            (("--listen", f"unix:/{'a' * 107}"), "can have 107 bytes, and this one has 108"),
            (("--listen", f"unix:/{'é' * 54}"), "can have 107 bytes, and this one has 109"),
            (("--socket-mode", "rw"), "a file mode in octal, such as \"660\", not 'rw'"),
            (("--socket-mode", "1777"), "socket-mode must be a file mode in octal"),
            (("--header-timeout", "inf"), "above 0 and up to 86400, not 'inf'"),
            (("--header-timeout", "1e22"), "above 0 and up to 86400, not '1e22'"),
            (("--header-timeout", "nan"), "above 0 and up to 86400, not 'nan'"),
            (("--shutdown-timeout", f"1{'0' * 25}"), "from 1 to 86400"),
            (("--upload-expiry", str(2**63 - 1)), "from 1 to 315360000"),
            (("--data", ""), "data must be the path of a directory; it is empty"),
            (("--data", "~no-such-user/data"), "data cannot be '~no-such-user/data'"),
            (("--access", "absent.toml"), "cannot read absent.toml"),
            (("--htpasswd", "absent"), "cannot read absent"),
            (("--config", "absent.toml"), "cannot read absent.toml"),
            (("--config", "/"), "cannot read /: Is a directory"),
        ],
    )
    def test_settings(self, data: Path, options: tuple[str, ...], expected: str) -> None:
        """A setting with a value that it cannot have is named."""
        defaults = () if "--listen" in options else ("--listen", "127.0.0.1:0")
        # The files are read and the address is taken by what serves.
        inside = not expected.startswith(("cannot", "certificate", "192"))
        message = serve_and_fail("--data", str(data), *defaults, *options, inside=inside)
        assert expected in message
        is_usage = not re.match("portside: (cannot|the certificate)", message)
        assert is_usage == message.endswith("See `portside serve --help`.\n")

    @pytest.mark.parametrize("setting", list_settings(), ids=lambda setting: setting.name)
    def test_numbers_are_bounded(self, setting: Setting) -> None:
        """No number is so large that the registry cannot reckon with it."""
        assert setting.type not in (int, float) or setting.most is not None

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("workers = ", "is not valid TOML"),
            ("wrokers = 2", "'wrokers', which is not a setting"),
            ("max_blob_bytes = 5", "not a setting; did you mean max-blob-bytes?"),
            ("[portside]\nworkers = 2", "'portside', which is a table; settings are written at"),
            ("workers = [2]", "workers must be a whole number"),
            ("workers = 'x'", "workers must be a whole number"),
            ("workers = '2'", "workers must be a whole number"),
            ("workers = 2.0", "workers must be a whole number from 1 to 256, not 2.0"),
            ("workers = 0", "workers must be a whole number from 1 to 256, not 0"),
            ("workers = true", "workers must be a whole number"),
            ("workers = 2026-01-01", "workers must be a whole number"),
            ("delete = 1", "delete must be true or false, not 1"),
            ("delete = 'maybe'", "delete must be true or false, not 'maybe'"),
            ("header-timeout = 1e400", "header-timeout must be a number"),
            ("header-timeout = inf", "header-timeout must be a number"),
            ("listen = 5000", "listen must be a string (HOST:PORT), not 5000"),
            ("socket-mode = 660", "socket-mode must be a file mode in octal"),
            ('listen = "a\\u0000b:1"', "listen must not contain a NUL"),
            ('data = "a\\u0000b"', "data must not contain a NUL"),
            ('data = ""', "data must be the path of a directory; it is empty"),
            ('anonymous = ["a:pull", 1]', "anonymous must be"),
            ('trusted-proxies = ["x"]', "trusted-proxies must be"),
            ('allowed-hosts = ["a.example:5000"]', "allowed-hosts must be names or addresses"),
            ('allowed-hosts = ["http://a"]', "allowed-hosts must be names or addresses"),
            ('cors-origins = ["https://ui.example/"]', "cors-origins must be * or origins"),
            ('cors-origins = ["https://ui.example:443"]', "cors-origins must be * or origins"),
            ('cors-origins = ["https://UI.example"]', "cors-origins must be * or origins"),
            ('cors-origins = ["null"]', "cors-origins must be * or origins"),
            ('cors-origins = ["*", "https://ui.example"]', "cors-origins must be * alone"),
            ('public-url = "https://a.example/\\r\\nX: 1"', "public-url must be a URL such as"),
            ('public-url = "https://"', "public-url must be a URL such as"),
            ('public-url = "https://[::1"', "public-url must be a URL such as"),
            ('public-url = "https://a.example:65536"', "public-url must be a URL such as"),
            ('public-url = "https://\u00e4.example"', "public-url must be a URL such as"),
            ('public-url = "https://user@a.example"', "public-url must be a URL such as"),
            ('public-url = "https://a.example?b"', "public-url must be a URL such as"),
            ('token-realm = "https://a b/token"', "token-realm must be a URL such as"),
            (f"x = {'[' * 5000}", "is not valid TOML"),
            (f"workers = {'1' * 5000}", "is not valid TOML"),
        ],
    )
    def test_file(self, tmp_path: Path, text: str, expected: str) -> None:
        """A mistake in the file is named."""
        path = tmp_path / "portside.toml"
        path.write_text(text)
        message = serve_and_fail("--config", str(path), "--listen", "127.0.0.1:0", inside=True)
        assert str(path) in message
        assert expected in message

    @pytest.mark.parametrize(
        ("name", "url"),
        [
            ("public_url", "https://registry.example"),
            ("public_url", "http://[2001:db8::1]:5000/"),
            ("public_url", "https://a_b.example:8443/some/path"),
            ("token_realm", "https://gitlab.example./jwt/auth?a=b%20c"),
        ],
    )
    def test_urls(self, name: str, url: str) -> None:
        """A URL that clients can use is accepted."""
        assert getattr(make_settings({name: url}), name) == url

    @pytest.mark.parametrize(
        ("listen", "expected"),
        [
            ("127.0.0.1:65535", ("127.0.0.1", 65535)),
            ("[::1]:0", ("::1", 0)),
            (f"{'a.' * 126}a:1", (f"{'a.' * 126}a", 1)),
            (f"unix:/{'a' * 106}", Path(f"/{'a' * 106}")),
            ("unix:///run/a.sock", Path("/run/a.sock")),
        ],
    )
    def test_addresses(self, listen: str, expected: tuple[str, int] | Path) -> None:
        """The greatest port, the longest name and the longest path are accepted."""
        assert make_settings({"listen": listen}).address == expected

    def test_environment(self, data: Path) -> None:
        """A mistake in the environment is named."""
        message = serve_and_fail("--data", str(data), env={"PORTSIDE_PAGE_LIMIT": "all"})
        assert "PORTSIDE_PAGE_LIMIT: page-limit must be a whole number" in message
        message = serve_and_fail("--data", str(data), env={"PORTSIDE_DELETE": "maybe"})
        assert "PORTSIDE_DELETE: delete must be on or off, not 'maybe'" in message

    @pytest.mark.parametrize(
        ("variable", "hint"),
        [
            ("PORTSIDE_WROKERS", "did you mean PORTSIDE_WORKERS?"),
            ("PORTSIDE_ACCES", "did you mean PORTSIDE_ACCESS?"),
            ("portside_access", "did you mean PORTSIDE_ACCESS?"),
            ("PORTSIDE_DATABASE_FIEL", "did you mean PORTSIDE_DATABASE_FILE?"),
            # Only secrets can be read from a file.
            ("PORTSIDE_DATA_FILE", "did you mean PORTSIDE_DATA?"),
            # Kubernetes would set it to tcp://….
            ("PORTSIDE_PORT", "did you mean PORTSIDE_LISTEN?"),
            ("PORTSIDE_IMAGE", "see `portside serve --help`"),
        ],
    )
    @pytest.mark.parametrize("command", ["serve", "user add alice", "check"])
    def test_unknown_variables(
        self,
        command: str,
        variable: str,
        hint: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A variable that looks like a setting is refused by every command, which does nothing."""
        monkeypatch.chdir(tmp_path)
        code, printed, errors = run_inside(*command.split(), env={variable: "8080"})
        assert (code, printed) == (1, "")
        assert errors == f"portside: {variable} is not a setting; {hint}\n"
        assert not list(tmp_path.iterdir())

    def test_several_unknown_variables(self) -> None:
        """All of them are named at once; what is no setting's does not matter."""
        env = {"PORTSIDE_WROKERS": "1", "PORTSIDE_WORKERS": "1", "PORTSIDE_DATE": ""}
        assert run_inside("serve", env=env)[2].count(" is not a setting; did you mean ") == 2
        assert "PORTSIDE" not in run_inside("serve", "--data", "", env={"PORTSIDER": "1"})[2]

    def test_variables_of_kubernetes(self) -> None:
        """What Kubernetes sets for services named portside and portside-… is passed over."""
        port = {
            "PORT": "tcp://10.0.0.1:5000",
            "PORT_5000_TCP": "tcp://10.0.0.1:5000",
            "PORT_5000_TCP_ADDR": "10.0.0.1",
            "PORT_5000_TCP_PORT": "5000",
            "PORT_5000_TCP_PROTO": "tcp",
            "SERVICE_HOST": "fd00::1",
            "SERVICE_PORT": "5000",
            "SERVICE_PORT_HTTP": "5000",
        }
        services = ("PORTSIDE_", "PORTSIDE_METRICS_", "PORTSIDE_DATA_")
        refuse_unknown_variables(
            {f"{service}{name}": value for service in services for name, value in port.items()}
        )

    def test_usage(self) -> None:
        """An unknown option or command is a usage error."""
        for arguments in (("serve", "--nonsense"), ("nonsense",)):
            code, printed, errors = run_portside(*arguments)
            assert (code, printed) == (2, "")
            assert errors.startswith("portside: No such")
            assert "--help`" in errors
            assert len(errors.splitlines()) == 1, errors

    def test_help(self) -> None:
        """Help lists every command; the version is told."""
        code, printed, _ = run_portside("--help")
        assert code == 0
        assert all(command in printed for command in ("serve", "check", "collect"))
        assert run_portside("--version")[1].startswith("portside, version ")
