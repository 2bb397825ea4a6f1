"""Where requests come from, and what the registry is called there."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portside.api.actors import client_actor
from portside.api.addresses import Addresses
from portside.api.records import RECORD, RequestRecord

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8")))
BEHIND = Addresses(public_url="", proxies=PROXIES)
DIRECT = Addresses(public_url="", proxies=())
AT_SOCKET = Addresses(public_url="", proxies=PROXIES, on_socket=True)


def request(client: str | None = "192.0.2.1", scheme: str = "http", **headers: str) -> Any:
    """Make what ASGI says of a request."""
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return {
        "type": "http",
        "scheme": scheme,
        "client": (client, 1234) if client is not None else None,
        "server": ("127.0.0.1", 5000),
        "headers": pairs,
    }


class TestSource:
    """The client's address."""

    @pytest.mark.parametrize(
        ("client", "forwarded", "expected"),
        [
            ("192.0.2.1", "", "192.0.2.1"),
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.1.1.1", "", "10.1.1.1"),
            ("10.1.1.1", "198.51.100.7", "198.51.100.7"),
            ("10.1.1.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
            ("10.1.1.1", "203.0.113.9, 198.51.100.7, 10.2.2.2", "198.51.100.7"),
            ("10.1.1.1", "10.3.3.3, 10.2.2.2", "10.1.1.1"),
            ("10.1.1.1", " , ,198.51.100.7, ", "198.51.100.7"),
            ("10.1.1.1", "2001:db8::1, fd00::2", "2001:db8::/64"),
            ("10.1.1.1", "203.0.113.9, 198.51.100.7:54711", "198.51.100.7"),
            ("10.1.1.1", "203.0.113.9, [2001:db8::1]:54711", "2001:db8::/64"),
            ("fd00::1", "198.51.100.7", "198.51.100.7"),
            ("::ffff:10.1.1.1", "198.51.100.7", "198.51.100.7"),
            ("::ffff:192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.1.1.1", "198.51.100.7, ::ffff:10.2.2.2", "198.51.100.7"),
            ("10.1.1.1", "10.9.9.9, ::ffff:198.51.100.7", "198.51.100.7"),
        ],
    )
    def test_last_hop(self, client: str, forwarded: str, expected: str) -> None:
        """The last address that no trusted proxy has is the client's: others can be invented."""
        headers = {"x_forwarded_for": forwarded} if forwarded else {}
        assert BEHIND.client(request(client, **headers)) == expected

    def test_in_events(self) -> None:
        """Events name the address itself, and not the network that is counted as one client."""
        scope = request("10.1.1.1", x_forwarded_for="203.0.113.9, [2001:db8::1]:54711")
        scope[RECORD] = RequestRecord(b"1")
        scope["method"] = "PUT"
        assert client_actor(BEHIND, scope).address == "2001:db8::1"
        assert BEHIND.client(scope) == "2001:db8::/64"

    @given(st.text(st.characters(max_codepoint=255)))
    @example("10.0.0.1, 198.51.100.7")
    def test_nobody_is_believed(self, forwarded: str) -> None:
        """Without proxies, or from elsewhere, the header says nothing."""
        scope = request("192.0.2.1", x_forwarded_for=forwarded)
        assert DIRECT.client(scope) == BEHIND.client(scope) == "192.0.2.1"

    @given(st.text(st.characters(max_codepoint=255)))
    def test_invented(self, invented: str) -> None:
        """What a client writes in front changes nothing about where it comes from."""
        scope = request("10.1.1.1", x_forwarded_for=f"{invented}, 198.51.100.7")
        assert BEHIND.client(scope) == "198.51.100.7"

    @pytest.mark.parametrize(
        ("client", "forwarded", "expected"),
        [
            ("192.0.2.1", "for=198.51.100.7", "192.0.2.1"),
            ("10.1.1.1", "for=198.51.100.7", "198.51.100.7"),
            ("10.1.1.1", "For=198.51.100.7;Proto=https", "198.51.100.7"),
            ("10.1.1.1", 'for="198.51.100.7:4711"', "198.51.100.7"),
            ("10.1.1.1", 'for="198.51.100.7:54711"', "198.51.100.7"),
            ("10.1.1.1", 'for="[2001:db8::1]"', "2001:db8::/64"),
            ("10.1.1.1", r'for="198.\51.\100.7"', "198.51.100.7"),
            ("10.1.1.1", 'by=_x ; for="[2001:db8::1]:4711"', "2001:db8::/64"),
            ("10.1.1.1", "for=203.0.113.9, for=198.51.100.7", "198.51.100.7"),
            ("10.1.1.1", "for=203.0.113.9,for=198.51.100.7, for=10.2.2.2", "198.51.100.7"),
            ("10.1.1.1", 'for=198.51.100.7, for="[fd00::2]:80"', "198.51.100.7"),
            ("10.1.1.1", 'for=203.0.113.9;by="a, b", for=198.51.100.7;x="\\""', "198.51.100.7"),
            ("10.1.1.1", 'for="203.0.113.9, for=198.51.100.7', "198.51.100.7"),
            ("10.1.1.1", 'for=203.0.113.9;by="x, for="[2001:db8::1]"', "2001:db8::/64"),
            ("10.1.1.1", "for=198.51.100.7, for=unknown", "10.1.1.1"),
            ("10.1.1.1", "for=198.51.100.7, for=_hidden", "10.1.1.1"),
            ("10.1.1.1", "for=198.51.100.7, proto=https", "10.1.1.1"),
            ("10.1.1.1", "for=198.51.100.7; nonsense", "10.1.1.1"),
            ("10.1.1.1", "198.51.100.7", "10.1.1.1"),
            ("10.1.1.1", "for=10.3.3.3, for=10.2.2.2", "10.1.1.1"),
        ],
    )
    def test_forwarded(self, client: str, forwarded: str, expected: str) -> None:
        """The same holds for the header of RFC 7239."""
        assert BEHIND.client(request(client, forwarded=forwarded)) == expected

    @given(st.text(st.characters(max_codepoint=255)))
    @example('for="')
    def test_invented_element(self, invented: str) -> None:
        """No element that a client writes hides the one that a proxy appends."""
        scope = request("10.1.1.1", forwarded=f"{invented}, for=198.51.100.7;proto=https")
        assert BEHIND.client(scope) == "198.51.100.7"
        assert BEHIND.base_url(scope) == "https://127.0.0.1:5000"

    def test_both(self) -> None:
        """Forwarded does not count beside X-Forwarded-For, whatever it says."""
        scope = request(
            "10.1.1.1",
            forwarded="for=203.0.113.9;proto=https;host=evil.example",
            x_forwarded_for="198.51.100.7",
            host="registry.example",
        )
        assert BEHIND.client(scope) == "198.51.100.7"
        assert BEHIND.base_url(scope) == "http://registry.example"

    def test_many_elements(self) -> None:
        """A header of any length is read in no time."""
        for forwarded in ('a=",' * 16000, 'a=";,' * 13000, "for=10.1.1.1," * 5000, " \t" * 30000):
            started = time.thread_time()
            BEHIND.base_url(request("10.1.1.1", forwarded=forwarded))
            BEHIND.base_url(request("10.1.1.1", x_forwarded_for=forwarded))
            assert time.thread_time() - started < 1

    def test_several_headers(self) -> None:
        """Several headers are one list (RFC 9110, section 5.3)."""
        scope = request("10.1.1.1", x_forwarded_for="203.0.113.9")
        scope["headers"].append((b"x-forwarded-for", b"198.51.100.7"))
        assert BEHIND.client(scope) == "198.51.100.7"

    @pytest.mark.parametrize("nearest", [None, ""])
    def test_no_address(self, nearest: str | None) -> None:
        """A client without an address is one source, and no proxy."""
        scope = request(nearest, x_forwarded_for="198.51.100.7", x_forwarded_proto="https")
        assert BEHIND.client(scope) == ""
        assert BEHIND.base_url(scope) == "http://127.0.0.1:5000"

    @pytest.mark.parametrize(
        ("forwarded", "expected"),
        [
            ("", ""),
            ("198.51.100.7", "198.51.100.7"),
            ("203.0.113.9, 198.51.100.7", "198.51.100.7"),
            ("203.0.113.9, 198.51.100.7, 10.2.2.2", "198.51.100.7"),
            ("203.0.113.9, unix:", ""),
            ("203.0.113.9, ,", "203.0.113.9"),
        ],
    )
    def test_socket(self, forwarded: str, expected: str) -> None:
        """At a socket in the file system, what connects is a trusted proxy."""
        assert AT_SOCKET.client(request("", x_forwarded_for=forwarded)) == expected

    def test_unnamed_hop(self) -> None:
        """A hop without an address gains no trust, and no hop before it does."""
        scope = request("", forwarded='for=203.0.113.9;host=evil.example, for="";host=a.example')
        assert AT_SOCKET.base_url(scope) == "http://a.example"
        assert AT_SOCKET.client(scope) == ""

    def test_no_socket(self) -> None:
        """An address at a socket is not believed."""
        scope = request("192.0.2.1", x_forwarded_for="198.51.100.7", x_forwarded_proto="https")
        assert AT_SOCKET.client(scope) == "192.0.2.1"
        assert AT_SOCKET.base_url(scope).startswith("http:")


class TestBaseUrl:
    """The URL that challenges name."""

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("registry.example", "http://registry.example"),
            ("registry.example:5000", "http://registry.example:5000"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("localhost", "http://localhost"),
        ],
    )
    def test_host(self, host: str, expected: str) -> None:
        """It is the name by which the client called."""
        assert DIRECT.base_url(request(host=host)) == expected
        assert DIRECT.base_url(request(host=host, scheme="https")) == f"https{expected[4:]}"

    @pytest.mark.parametrize(
        "host",
        ["", 'a",error="x', "a/b", "a@b", "a b", "a?b", "a#b", "a:b", "a:123456", "\u00e9", "a\\b"],
    )
    def test_strange_host(self, host: str) -> None:
        """A name that could break out of the challenge is replaced by the address."""
        assert DIRECT.base_url(request(host=host)) == "http://127.0.0.1:5000"

    @given(st.text(st.characters(max_codepoint=255)))
    def test_any_host(self, host: str) -> None:
        """Whatever the name is, it cannot end the quotes of the challenge."""
        url = DIRECT.base_url(request(host=host))
        assert not set(url) & set('"\\ ,\r\n')

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"x_forwarded_proto": "https"}, "https://inner:5000"),
            ({"x_forwarded_proto": "HTTPS"}, "https://inner:5000"),
            ({"x_forwarded_host": "registry.example"}, "http://registry.example"),
            ({"x_forwarded_host": "registry.example:8443"}, "http://registry.example:8443"),
            ({"x_forwarded_host": "[2001:db8::1]:8443"}, "http://[2001:db8::1]:8443"),
            (
                {
                    "x_forwarded_proto": "https",
                    "x_forwarded_host": "a.b",
                    "x_forwarded_port": "443",
                },
                "https://a.b",
            ),
            (
                {
                    "x_forwarded_proto": "https",
                    "x_forwarded_host": "a.b",
                    "x_forwarded_port": "8443",
                },
                "https://a.b:8443",
            ),
            (
                {"x_forwarded_host": "[::1]", "x_forwarded_port": "8443"},
                "http://[::1]:8443",
            ),
            (
                {"x_forwarded_host": "a.b:1", "x_forwarded_port": "8443"},
                "http://a.b:1",
            ),
            ({"x_forwarded_port": "8443"}, "http://inner:5000"),
            # One proxy vouches for the last of a list; the rest may be the client's.
            ({"x_forwarded_host": "evil.example, a.b"}, "http://a.b"),
            ({"x_forwarded_proto": "http, https"}, "https://inner:5000"),
            # Two proxies: the first received the client's request.
            (
                {"x_forwarded_for": "198.51.100.7, 10.2.2.2", "x_forwarded_proto": "https, http"},
                "https://inner:5000",
            ),
            (
                {"x_forwarded_for": "198.51.100.7, 10.2.2.2", "x_forwarded_proto": "https"},
                "https://inner:5000",
            ),
            ({"forwarded": "proto=https;host=a.b"}, "https://a.b"),
            ({"forwarded": 'for=192.0.2.9;host="a.b:8443";Proto="HTTPS"'}, "https://a.b:8443"),
            ({"forwarded": 'host="[2001:db8::1]:8443"'}, "http://[2001:db8::1]:8443"),
            ({"forwarded": "host=evil.example;proto=https, for=192.0.2.9"}, "http://inner:5000"),
            (
                {"forwarded": "host=a.b;proto=https, for=10.2.2.2;host=middle;proto=http"},
                "https://a.b",
            ),
            ({"forwarded": "for=1.2.3.4, for=10.2.2.2;proto=https"}, "https://inner:5000"),
        ],
    )
    def test_forwarded(self, headers: dict[str, str], expected: str) -> None:
        """A trusted proxy says by which scheme and name the client called; nobody else does."""
        assert BEHIND.base_url(request("10.1.1.1", host="inner:5000", **headers)) == expected
        for addresses in (BEHIND, DIRECT):
            url = addresses.base_url(request("192.0.2.1", host="inner:5000", **headers))
            assert url == "http://inner:5000"
        known = Addresses(public_url="https://known.example", proxies=PROXIES)
        assert known.base_url(request("10.1.1.1", **headers)) == "https://known.example"

    @pytest.mark.parametrize("proto", ["", "ftp", "https://", 'https"', "ht tp", "javascript"])
    @pytest.mark.parametrize("host", ["", 'a",error="x', "a/b", "a@b", "a b", "a\r\nb", "a:123456"])
    def test_hostile(self, proto: str, host: str) -> None:
        """What is no scheme and no host is ignored, whoever sends it."""
        given_by_x = {"x_forwarded_proto": proto, "x_forwarded_host": host}
        escaped = host.replace('"', '\\"')
        standard = {"forwarded": f'proto="{proto}";host="{escaped}"'}
        for headers in (given_by_x, standard):
            scope = request("10.1.1.1", host="inner:5000", **headers)
            assert BEHIND.base_url(scope) == "http://inner:5000"

    @given(*[st.text(st.characters(max_codepoint=255))] * 4)
    def test_any_forwarding(self, proto: str, host: str, port: str, forwarded: str) -> None:
        """Nothing that is forwarded can end the quotes of the challenge."""
        named = {"x_forwarded_proto": proto, "x_forwarded_host": host, "x_forwarded_port": port}
        for headers in (named, {"forwarded": forwarded}, {"forwarded": f'host="{host}"'}):
            url = BEHIND.base_url(request("10.1.1.1", **headers))
            assert not set(url) & set('"\\ ,\r\n')

    def test_two_hosts(self) -> None:
        """Two names are none."""
        scope = request(host="one.example")
        scope["headers"].append((b"host", b"two.example"))
        assert DIRECT.base_url(scope) == "http://127.0.0.1:5000"

    def test_public_url(self) -> None:
        """Where it is configured, the client's name for it does not count."""
        known = Addresses(public_url="https://registry.example/", proxies=())
        assert known.base_url(request(host="evil.example")) == "https://registry.example"

    def test_ipv6(self) -> None:
        """An address of IPv6 is written in brackets."""
        scope = request()
        scope["server"] = ("::1", 5000)
        assert DIRECT.base_url(scope) == "http://[::1]:5000"
        scope["server"] = None
        assert DIRECT.base_url(scope) == "http://127.0.0.1"


class TestWarning:
    """A proxy that ends TLS and is not trusted is told of, once."""

    TLS = {"x_forwarded_proto": "https", "host": "registry.example"}  # noqa: RUF012

    def warnings(self, caplog: pytest.LogCaptureFixture, addresses: Addresses, *asked: Any) -> str:
        """Ask for the URL of requests; returns what is logged."""
        for scope in asked:
            addresses.base_url(scope)
        return "\n".join(record.getMessage() for record in caplog.records)

    def test_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """The line names the proxy, the URL and what to set, and does not come again."""
        addresses = Addresses(public_url="", proxies=PROXIES)
        asked = [request("192.0.2.1", **self.TLS), request("192.0.2.2", **self.TLS)]
        (line,) = self.warnings(caplog, addresses, *asked).splitlines()
        assert line.startswith("192.0.2.1 forwards a request that came over TLS")
        assert "sent to http://registry.example for a token" in line
        assert "--public-url" in line
        assert "--trusted-proxies" in line

    @pytest.mark.parametrize(
        "headers",
        [{}, {"x_forwarded_proto": "http"}, {"x_forwarded_for": "198.51.100.7"}],
    )
    def test_no_tls(self, caplog: pytest.LogCaptureFixture, headers: dict[str, str]) -> None:
        """A request that did not come over TLS is where it says."""
        addresses = Addresses(public_url="", proxies=PROXIES)
        assert self.warnings(caplog, addresses, request("192.0.2.1", **headers)) == ""

    @pytest.mark.parametrize(
        ("addresses", "scope"),
        [
            (Addresses(public_url="https://r.example", proxies=()), request(**TLS)),
            (Addresses(public_url="", proxies=PROXIES), request("10.1.1.1", **TLS)),
            (Addresses(public_url="", proxies=(), on_socket=True), request(None, **TLS)),
            (Addresses(public_url="", proxies=()), request(scheme="https", **TLS)),
        ],
        ids=["public URL", "trusted", "socket", "TLS all the way"],
    )
    def test_in_order(
        self, caplog: pytest.LogCaptureFixture, addresses: Addresses, scope: Any
    ) -> None:
        """Where clients are sent to the right place, nothing is logged."""
        assert self.warnings(caplog, addresses, scope) == ""
