"""Web pages: what an open registry refuses them, and what the setting for origins allows."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from portside.api import cors
from portside.api.web_pages import WebPages
from portside.spec.errors import CrossSiteRefused, HostNotServed
from support.access import ALICE, guarded_registry
from support.content import digest_of, image
from support.server import RunningRegistry, running_registry
from support.wire import ONCE, assert_error, connect, push

UI = "https://ui.example"
EVIL = "https://evil.example"

WRITES = (
    ("POST", "/v2/a/blobs/uploads/"),
    ("PUT", "/v2/a/manifests/v1"),
    ("GET", "/v2/a/tags/list"),
    ("GET", "/"),
    ("OPTIONS", "/v2/"),
    ("GET", "/nothing"),
)


def refusal(headers: dict[str, str], **options: tuple[str, ...]) -> type | None:
    """Return the kind of error that refuses a request with some headers."""
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    found = WebPages(**options).refusal(encoded)
    return None if found is None else type(found)


class TestOpenOnLoopback:
    """A registry without access control that listens on loopback, with the default settings."""

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST.",
            "a.localhost:80",
            "127.0.0.1",
            "127.9.8.7:5",
            "[::1]:5000",
            "[::ffff:127.0.0.1]",
            "::",
        ],
    )
    @pytest.mark.parametrize("suffix", ["", ":5000"])
    def test_hosts(self, host: str, suffix: str) -> None:
        """Names and addresses of loopback are served with any port, and nothing else is."""
        written = host if host.endswith(("0", "5")) else host + suffix
        expected = HostNotServed if host == "::" else None
        assert refusal({"host": written}) is expected

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evillocalhost",
            "128.0.0.1",
            "10.0.0.1:5000",
            "0.0.0.0",
            "[::2]",
            "[::ffff:10.0.0.1]:5000",
            "[::1",
            "localhost@evil.example",
            "localhost:5000:80",
            "localhost, evil.example",
            "host.docker.internal",
        ],
    )
    def test_foreign_hosts(self, client: httpx.Client, host: str) -> None:
        """Another name is 421 with what to do, whatever the path and the method."""
        for method, path in WRITES:
            answer = client.request(method, path, headers={"Host": host})
            detail = assert_error(answer, 421, "UNSUPPORTED")
            assert "--allowed-hosts" in detail

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": EVIL},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": EVIL, "Sec-Fetch-Site": "same-origin"},
        ],
    )
    def test_foreign_pages(
        self, client: httpx.Client, repository: str, headers: dict[str, str]
    ) -> None:
        """What a page of another site sends is 403, and changes nothing."""
        content = image(repository)
        push(client, repository, content)
        manifest = {"Content-Type": content.media_type, **headers}
        path = f"/v2/{repository}/manifests/v1"
        answer = client.put(path, content=content.manifest, headers=manifest)
        assert "--cors-origins" in assert_error(answer, 403, "DENIED")
        assert "access-control-allow-origin" not in answer.headers
        assert client.get(path).status_code == 404
        for method, other in WRITES:
            assert_error(client.request(method, other, headers=headers), 403, "DENIED")

    def test_own_pages(self, registry: RunningRegistry, client: httpx.Client) -> None:
        """A page of the registry itself, and what a person types, are served."""
        for headers in (
            {"Origin": registry.url, "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert client.get("/v2/", headers=headers).status_code == 200

    def test_allowed(self) -> None:
        """The settings allow more hosts and other origins; `*` allows all."""
        hosts = ("Registry.example", "2001:db8::1")
        assert refusal({"host": "Registry.Example:1"}, hosts=hosts) is None
        assert refusal({"host": "[2001:db8::1]:1"}, hosts=hosts) is None
        assert refusal({"host": "a.registry.example"}, hosts=hosts) is HostNotServed
        assert refusal({"host": "evil.example"}, hosts=("*",)) is None
        page = {"host": "localhost", "origin": UI, "sec-fetch-site": "cross-site"}
        assert refusal(page) is CrossSiteRefused
        assert refusal(page, origins=(UI,)) is None
        assert refusal(page, origins=("*",)) is None
        assert refusal(page, origins=(EVIL,)) is CrossSiteRefused

    @pytest.mark.parametrize(
        ("origin", "expected"),
        [
            ("http://localhost:5000", None),
            ("https://LocalHost:5000", None),
            ("http://localhost", CrossSiteRefused),
            ("http://localhost:50001", CrossSiteRefused),
            ("http://localhost:5000.evil.example", CrossSiteRefused),
            ("http://evil.localhost:5000", CrossSiteRefused),
            ("localhost:5000", CrossSiteRefused),
        ],
    )
    def test_whole_origins(self, origin: str, expected: type | None) -> None:
        """An origin is that of the registry itself only if all of it is."""
        assert refusal({"host": "localhost:5000", "origin": origin}) is expected

    def test_settings(self, data: Path) -> None:
        """Hosts come from the setting for them and from the public URL."""
        settings = ("--allowed-hosts", "one.example", "--public-url", "https://two.example:9")
        with running_registry(data, "--workers", "1", *settings) as registry:
            for host, status in (("one.example", 200), ("two.example", 200), ("evil.example", 421)):
                answer = httpx.get(f"{registry.url}/v2/", headers={"Host": host}, **ONCE)
                assert answer.status_code == status

    def test_closed(self, shared: RunningRegistry) -> None:
        """A registry with access control serves any host, and asks pages for credentials."""
        headers = {"Host": "evil.example", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
        assert httpx.get(f"{shared.url}/v2/", headers=headers, **ONCE).status_code == 401
        answer = httpx.get(f"{shared.url}/v2/", headers=headers, auth=ALICE.pair, **ONCE)
        assert answer.status_code == 200


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve with access control, to the pages of one origin."""
    data = tmp_path_factory.mktemp("shared") / "data"
    with guarded_registry(data, "--cors-origins", UI, "--workers", "1", "--no-delete") as registry:
        yield registry


def preflight(
    registry: RunningRegistry, path: str, method: str, headers: str = "", *, origin: str = UI
) -> httpx.Response:
    """Ask as a browser does before a page's request."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return httpx.options(registry.url + path, headers=asked, **ONCE)


class TestCors:
    """Pages of the origins that the setting names."""

    @pytest.mark.parametrize(
        ("path", "method", "allowed"),
        [
            ("/v2/", "GET", "GET, HEAD"),
            ("/v2/team/app/blobs/uploads/", "POST", "POST"),
            (f"/v2/team/app/blobs/uploads/{'0' * 32}", "PATCH", "DELETE, GET, HEAD, PATCH, PUT"),
            ("/v2/team/app/manifests/v1", "DELETE", "GET, HEAD, PUT"),
            ("/oauth2/token", "POST", "GET, HEAD, POST"),
            ("/", "GET", "GET, HEAD"),
        ],
    )
    def test_preflight(self, shared: RunningRegistry, path: str, method: str, allowed: str) -> None:
        """It is answered without credentials, with what the path really allows."""
        asked = "authorization, Content-Type,content-range,x-unknown"
        answer = preflight(shared, path, method, asked)
        assert (answer.status_code, answer.content) == (204, b"")
        sent = {name: value for name, value in answer.headers.items() if "access-control" in name}
        assert sent == {
            "access-control-allow-origin": UI,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": allowed,
            "access-control-allow-headers": "authorization, content-range, content-type",
            "access-control-max-age": "7200",
        }
        assert "Origin" in answer.headers["Vary"]
        assert "www-authenticate" not in answer.headers
        assert "access-control-allow-headers" not in preflight(shared, path, method).headers

    def test_every_header(self, shared: RunningRegistry) -> None:
        """A page may send every header that the registry reads and a page can set."""
        read = (
            "accept, authorization, cache-control, content-range, content-type, docker-upload-uuid,"
            " if-match, if-none-match, if-range, range, x-requested-with"
        )
        answer = preflight(
            shared, "/v2/team/app/blobs/uploads/", "POST", f"{read}, x-forwarded-for"
        )
        assert answer.headers["Access-Control-Allow-Headers"] == read

    @pytest.mark.parametrize("origin", [EVIL, "null", "http://ui.example", f"{UI}.evil.example"])
    def test_other_origins(self, shared: RunningRegistry, origin: str) -> None:
        """They get what a registry without the setting answers, and caches can tell."""
        answer = preflight(shared, "/v2/", "GET", origin=origin)
        assert_error(answer, 405, "UNSUPPORTED")
        refused = httpx.get(f"{shared.url}/v2/", headers={"Origin": origin}, **ONCE)
        for other in (answer, refused, httpx.get(f"{shared.url}/v2/", **ONCE)):
            assert not any("access-control" in name for name in other.headers)
            assert other.headers["Vary"] == "Origin"

    def test_responses(self, shared: RunningRegistry) -> None:
        """Content, challenges, refusals and unknown paths can be read by the page."""
        with connect(shared.url, headers={"Origin": UI}) as client:
            content = image("cors", layers=1)
            with connect(shared.url, headers={"Origin": UI}, auth=ALICE.pair) as alice:
                pushed = push(alice, "team/app", content, "v1")
                blob = f"/v2/team/app/blobs/{digest_of(content.blobs[0])}"
                answers = [
                    (pushed, 201),
                    (alice.get("/v2/team/app/manifests/v1"), 200),
                    (alice.get(blob), 200),
                    (alice.get(blob, headers={"Range": "bytes=0-0"}), 206),
                    (alice.head(blob), 200),
                    (alice.delete(blob), 405),
                    (alice.get("/v2/team/app/manifests/none"), 404),
                ]
            answers += [
                (client.get("/v2/"), 401),
                (client.get("/v2/team/app/manifests/v1"), 401),
                (client.get("/oauth2/token"), 200),
                (client.get("/nothing"), 404),
                (client.options("/v2/"), 405),
                (client.put("/healthz"), 405),
            ]
        for answer, status in answers:
            assert answer.status_code == status, answer.request.url
            assert answer.headers["Access-Control-Allow-Origin"] == UI
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            assert answer.headers["Vary"].split(", ")[-1] == "Origin"
            exposed = set(answer.headers["Access-Control-Expose-Headers"].lower().split(", "))
            sent = {
                name
                for name in answer.headers
                if not name.startswith(("access-control-", "content-security", "x-content"))
            }
            server = {"vary", "server", "date", "connection"}
            assert sent - exposed <= cors.SAFELISTED | server

    def test_exposed(self) -> None:
        """Every header that a handler or an error names is exposed, and those of the protocol."""
        api = Path(inspect.getfile(cors)).parent
        sent = set()
        for path in api.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                name = getattr(getattr(node, "func", None), "id", "")
                if name in {"headers", "no_content", "json_response", "PreparedResponse"}:
                    assert isinstance(node, ast.Call)
                    sent |= {word.arg.replace("_", "-") for word in node.keywords if word.arg}
        exposed = {name.lower() for name in cors.EXPOSED}
        assert {"docker-content-digest", "link", "location", "oci-subject", "oci-tag"} <= sent
        for_proxies = {"x-accel-buffering"}
        unseen = sent - exposed - cors.SAFELISTED
        assert unseen <= {"fields", "x-content-type-options"} | for_proxies
        assert exposed >= {
            "docker-content-digest",
            "docker-distribution-api-version",
            "docker-upload-uuid",
            "etag",
            "link",
            "location",
            "oci-filters-applied",
            "oci-subject",
            "oci-tag",
            "range",
            "retry-after",
            "www-authenticate",
        }

    def test_any_origin(self, data: Path) -> None:
        """`*` opens an open registry to every page, without saved credentials."""
        with running_registry(data, "--workers", "1", "--cors-origins", "*") as registry:
            for origin in (EVIL, "null"):
                headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
                answer = httpx.get(f"{registry.url}/v2/", headers=headers, **ONCE)
                asked = preflight(registry, "/v2/a/blobs/uploads/", "POST", origin=origin)
                assert (answer.status_code, asked.status_code) == (200, 204)
                for other in (answer, asked):
                    assert other.headers["Access-Control-Allow-Origin"] == "*"
                    assert "access-control-allow-credentials" not in other.headers
            rebound = httpx.get(f"{registry.url}/v2/", headers={"Host": "evil.example"}, **ONCE)
            assert_error(rebound, 421, "UNSUPPORTED")

    def test_off(self, client: httpx.Client) -> None:
        """Without the setting, no response mentions it."""
        answer = client.get("/v2/")
        assert answer.status_code == 200
        assert not any("access-control" in name or name == "vary" for name in answer.headers)
