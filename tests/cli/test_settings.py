"""Every setting, with another value than its default, arrives where it is used.

The application and the server are built as `portside serve` builds them, once with the setting and
once without it. Where a setting arrives is written down here by hand, so that a setting that is
not passed on, or is passed on in the place of another one, is noticed.
"""

# ruff: noqa: SLF001
# What a setting changes is kept inside of the objects that use it.

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from portside.api.access_log import AccessLog
from portside.api.app import RegistryApp
from portside.api.cors import Cors
from portside.bootstrap.application import make_app
from portside.bootstrap.collecting import grace_period, make_collector
from portside.bootstrap.preparing import prepare
from portside.bootstrap.stores import open_stores
from portside.cli.descriptors import Descriptors
from portside.cli.listeners import listen
from portside.cli.server import FIELD_OVERHEAD, _make_server
from portside.cli.workers import ShutdownPipes, connection_limits
from portside.config import Setting, SettingsInvalid, list_settings, make_settings
from portside.spec.dialects import AuthScheme, Dialect
from support.server import running_registry


class Built:
    """What `portside serve` makes of settings."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.settings = make_settings({"listen": "127.0.0.1:0", **given})
        self.layers: list[type] = []
        served: Any = make_app(self.settings, on_start=lambda: None, on_loopback=True)
        self.application = served
        while not isinstance(served, RegistryApp):
            self.layers.append(type(served))
            served = served._app
        self.served: Any = served
        self.registry: Any = served._registry
        pull: Any = self.registry.pull
        self.gate: Any = self.registry.gate
        self.blobs: Any = pull._blobs
        self.database: Any = pull._metadata._database

    @property
    def limits(self) -> Any:
        """The limits of connections."""
        return connection_limits(self.settings, Descriptors(self.settings.backlog))

    @property
    def server(self) -> Any:
        """The HTTP server, which does not run yet."""
        descriptors = Descriptors(self.settings.backlog)
        with closing(listen(self.settings)) as listener:
            return _make_server(self.settings, ShutdownPipes(), descriptors, listener)

    @property
    def socket_mode(self) -> int:
        """The file mode of the socket that it listens on."""
        with closing(listen(self.settings)):
            assert isinstance(self.settings.address, Path)
            return stat.S_IMODE(self.settings.address.stat().st_mode)


class Arrival(NamedTuple):
    """Where a setting arrives: `look` finds `expected` there when the setting is `value`.

    `beside` are settings without which it has no effect.
    """

    value: Any
    look: Callable[[Built], Any]
    expected: Any = None
    beside: Mapping[str, Any] = MappingProxyType({})


CLOUD = {"storage": "az://container/prefix"}
POSTGRES = {"database": "postgresql://user@127.0.0.1/name"}


def snapshot(built: Built) -> Any:
    """Return what decides about requests, read from the store."""
    prepare(built.settings)

    async def read() -> Any:
        try:
            return await built.gate.control.snapshot()
        finally:
            await built.database.disconnect()

    return asyncio.run(read())


def rules(built: Built) -> list[str]:
    """Return the rules of the policy."""
    return [str(rule) for rule in built.gate.control._files.read().policy.rules]


def collector(built: Built) -> Any:
    """Return the garbage collector."""
    stores = open_stores(built.settings)
    return make_collector(built.settings, stores, grace_period(built.settings))


def limit(name: str) -> Callable[[Built], Any]:
    """Return how to look at a limit of requests."""
    return lambda built: getattr(built.served._limits, name)


ARRIVALS = {
    "data": Arrival("elsewhere", lambda it: it.blobs.location.parent.name, "elsewhere"),
    "storage": Arrival("az://container/p", lambda it: str(it.blobs.location), "az://container/p"),
    "redirect": Arrival("never", lambda it: it.registry.pull._redirects, None, CLOUD),
    "redirect_above": Arrival(
        77, lambda it: it.registry.pull._redirects.above, 77, {**CLOUD, "redirect": "large"}
    ),
    "redirect_life": Arrival(77, lambda it: it.registry.pull._redirects.life, 77, CLOUD),
    "reserve_bytes": Arrival(77, lambda it: it.blobs._reserve, 77),
    "database": Arrival(
        POSTGRES["database"], lambda it: getattr(it.database, "terms", None) is not None, True
    ),
    "database_connections": Arrival(7, lambda it: it.database.terms.connections, 7, POSTGRES),
    "database_connect_timeout": Arrival(
        7.5, lambda it: it.database.terms.connect_timeout, 7.5, POSTGRES
    ),
    "database_statement_timeout": Arrival(
        7.5, lambda it: it.database.terms.statement_timeout, 7.5, POSTGRES
    ),
    "listen": Arrival(
        "127.0.0.2:0",
        lambda it: (it.server.bind_addr, it.server.bind_port > 0),
        ("127.0.0.2", True),
    ),
    "socket_mode": Arrival(
        "0602", lambda it: it.socket_mode, 0o602, {"listen": "unix:portside.sock"}
    ),
    "event_streams": Arrival(7, lambda it: it.registry.events._most, 7),
    "public_url": Arrival(
        "https://r.example", lambda it: it.gate.addresses._public_url, "https://r.example"
    ),
    "trusted_proxies": Arrival(
        ["10.0.0.0/8"], lambda it: list(map(str, it.gate.addresses._proxies)), ["10.0.0.0/8"]
    ),
    "cors_origins": Arrival(["https://ui.example"], lambda it: it.layers[1:], [Cors]),
    "allowed_hosts": Arrival(
        ["r.example"], lambda it: "r.example" in it.served._web_pages._hosts, True
    ),
    "open": Arrival(True, lambda it: it.gate.control.terms.open, True),
    "anonymous": Arrival(
        ["public/*:pull"],
        lambda it: any("--anonymous public/*:pull" in rule for rule in rules(it)),
        True,
    ),
    "auth_scheme": Arrival("basic", lambda it: it.gate.scheme, AuthScheme.BASIC),
    "service": Arrival(
        "Team 7",
        lambda it: (it.gate.service, snapshot(it).tokens._audience),
        ("Team 7", "Team 7"),
    ),
    "token_realm": Arrival("https://t.example", lambda it: it.gate.realm, "https://t.example"),
    "access_token_life": Arrival(77, lambda it: it.gate.control.terms.access_life, 77),
    "refresh_token_life": Arrival(77, lambda it: it.gate.control.terms.refresh_life, 77),
    "clock_skew": Arrival(
        7, lambda it: (snapshot(it).tokens._skew, it.gate.control._trusted._skew), (7, 7)
    ),
    "login_refresh_tokens": Arrival(
        True, lambda it: it.gate.control.terms.login_refresh_tokens, True
    ),
    "credential_life": Arrival(7.5, lambda it: it.gate.control.terms.credential_life, 7.5),
    "password_cost": Arrival(7, lambda it: snapshot(it).work, 7),
    "login_failures": Arrival(7, lambda it: it.gate.control._limits._failures, 7),
    "login_window": Arrival(7, lambda it: it.gate.control._limits._window, 7),
    "login_queue": Arrival(7, lambda it: it.gate.control._queue._length, 7),
    "dialect": Arrival("acr-2017", lambda it: it.registry.dialect, Dialect.ACR_2017),
    "delete": Arrival(False, lambda it: it.registry.delete.allowed, False),
    "tag_history": Arrival(777_777, lambda it: collector(it)._tag_history, 777_777_000_000),
    "sparse_indexes": Arrival(True, lambda it: it.registry.push._sparse_indexes, True),
    "upload_hold_timeout": Arrival(7.5, lambda it: it.blobs._hold_timeout, 7.5),
    "max_open_uploads": Arrival(7, lambda it: it.registry.push._max_open_uploads, 7),
    "upload_memory": Arrival(
        7 * 32 << 20, lambda it: it.blobs._means.memory._free._value, 7, CLOUD
    ),
    "max_blob_bytes": Arrival(77, lambda it: it.registry.push._max_blob_bytes, 77),
    "max_manifest_bytes": Arrival(77, limit("max_manifest_bytes"), 77),
    "max_header_bytes": Arrival(
        7777,
        lambda it: (
            it.served._limits.max_header_bytes,
            it.server.http2_settings.max_headers_size - FIELD_OVERHEAD,
        ),
        (7777, 7777),
    ),
    "max_fields": Arrival(77, limit("max_fields"), 77),
    "max_tags_per_push": Arrival(7, limit("max_tags_per_push"), 7),
    "max_ranges": Arrival(7, limit("max_ranges"), 7),
    "page_limit": Arrival(7, limit("page_limit"), 7),
    "body_timeout": Arrival(7.5, limit("body_timeout"), 7.5),
    "manifest_timeout": Arrival(7.5, limit("manifest_timeout"), 7.5),
    "form_timeout": Arrival(7.5, limit("form_timeout"), 7.5),
    "max_form_bytes": Arrival(7777, limit("max_form_bytes"), 7777),
    "max_referrers_bytes": Arrival(
        7777, lambda it: it.registry.discover._max_referrers_bytes, 7777
    ),
    "body_memory": Arrival(7 << 30, lambda it: it.registry.body_memory._left, 7 << 30),
    "probe_interval": Arrival(7.5, lambda it: it.registry.readiness._writes[1]._life, 7.5),
    "header_timeout": Arrival(7.5, lambda it: it.limits.header_timeout, 7.5),
    "idle_timeout": Arrival(
        777.0,
        lambda it: (it.limits.idle_timeout, it.server.http1_settings.header_read_timeout),
        (777.0, 777_000),
    ),
    "write_timeout": Arrival(7.5, lambda it: it.limits.write_timeout, 7.5),
    "max_connections": Arrival(
        77, lambda it: (it.limits.connections, it.server.backpressure), (77, 77)
    ),
    "max_client_connections": Arrival(7, lambda it: it.limits.client_connections, 7),
    "max_streams": Arrival(7, lambda it: it.server.http2_settings.max_concurrent_streams, 7),
    "workers": Arrival(7, lambda it: it.server.workers, 7),
    "shutdown_timeout": Arrival(7, lambda it: it.server._timeout, 7),
    "access_log": Arrival(
        True, lambda it: [type(reader) for reader in it.application._readers], [AccessLog]
    ),
}
"""Where each setting arrives."""

SERVED = {
    "admin_password": "tests/cli/test_admin_password.py",
    "backlog": "tests/cli/test_settings.py",
    "log_format": "tests/api/test_log_lines.py",
    "log_level": "tests/api/test_log_lines.py",
    "storage_http": "tests/cli/test_settings.py",
    "tls_certificate": "tests/cli/test_certificates.py",
    "tls_key": "tests/cli/test_certificates.py",
    "metrics_listen": "tests/telemetry/test_scrapes.py",
    "traces_endpoint": "tests/telemetry/test_traces.py",
    "traces_ratio": "tests/telemetry/test_traces.py",
    "traces_trust": "tests/telemetry/test_traces.py",
    "min_password_length": "tests/cli/test_users.py",
    "htpasswd": "tests/cli/test_files.py",
    "access": "tests/cli/test_files.py",
    "rules": "tests/cli/test_files.py",
    "retention_interval": "tests/cli/test_retention.py",
    "gc": "tests/durability/test_collection.py",
    "gc_grace": "tests/durability/test_collection.py",
    "gc_interval": "tests/durability/test_collection.py",
    "keep_deleted": "tests/durability/test_collection.py",
    "keep_events": "tests/cli/test_events.py",
    "upload_expiry": "tests/durability/test_expiry.py",
    "upload_sweep_interval": "tests/durability/test_expiry.py",
    "webhook_connections": "tests/durability/test_webhooks.py",
    "webhook_timeout": "tests/durability/test_webhooks.py",
    "webhook_expiry": "tests/durability/test_webhooks.py",
}
"""Settings whose effect on a running registry another test shows, with its file."""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Built]:
    """Return a function that builds a registry in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    return Built


@pytest.mark.parametrize("setting", list_settings(), ids=lambda setting: setting.name)
def test_arrives(setting: Setting, build: Callable[[dict[str, Any]], Built]) -> None:
    """A value that is not the default is seen where it is used, and the default is not."""
    if setting.name in SERVED:
        text = (Path(__file__).parents[2] / SERVED[setting.name]).read_text()
        assert setting.option in text or setting.name in text
        return
    arrival = ARRIVALS[setting.name]
    assert arrival.value != setting.default
    assert arrival.look(build({**arrival.beside, setting.name: arrival.value})) == arrival.expected
    assert arrival.look(build(dict(arrival.beside))) != arrival.expected


@pytest.mark.parametrize(
    ("name", "value", "is_closed"),
    [
        ("anonymous", ["public/*:pull"], True),
        ("htpasswd", "empty", True),
        ("access", "empty", True),
        ("service", "other", False),
    ],
)
def test_what_closes_a_registry(
    build: Callable[[dict[str, Any]], Built],
    tmp_path: Path,
    name: str,
    value: Any,
    is_closed: bool,  # a column of the table
) -> None:
    """Each setting that says who may do what is enforced, even before there is an identity."""
    (tmp_path / "empty").touch()
    built = build({name: value})
    assert prepare(built.settings) is is_closed
    assert snapshot(built).closed is is_closed


def test_storage_http(
    build: Callable[[dict[str, Any]], Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint without TLS on another machine is refused without the setting."""
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://192.0.2.1:10000")
    with pytest.raises(SettingsInvalid, match="has no TLS"):
        build(dict(CLOUD))
    assert build({**CLOUD, "storage_http": True}).blobs is not None


def test_backlog(data: Path) -> None:
    """A worker that accepts nothing lets so many connections wait, and not many more."""
    options = ("--backlog", "128", "--workers", "1")
    with running_registry(data, *options) as registry, ExitStack() as stack:
        os.killpg(registry.process.pid, signal.SIGSTOP)
        stack.callback(os.killpg, registry.process.pid, signal.SIGCONT)
        poll = select.poll()
        for _ in range(700):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((registry.host, registry.port))
            poll.register(one, select.POLLOUT)
        # The worker accepts some before it stops.
        assert 128 <= len(poll.poll(100)) < 500


def test_table() -> None:
    """Every entry is about a setting, and about one only once."""
    names = [setting.name for setting in list_settings()]
    assert sorted([*ARRIVALS, *SERVED]) == sorted(names)
