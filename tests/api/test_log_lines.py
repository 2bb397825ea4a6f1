"""No line of a log can be forged, and none can act on a terminal (CWE-117)."""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from io import StringIO
from pathlib import Path

import httpx
import pytest

from portside.api.log_lines import escape_controls, line_handler, log_formatter
from support.server import run_portside, running_registry
from support.waiting import until
from support.wire import ONCE, raw_request

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
RECORD = re.compile(rf"{TIME} [A-Z]+ \S")
QUOTED = r'"(?:[^"\\]|\\.)*"'
ACCESS = re.compile(
    rf"{TIME} ACCESS 127\.0\.0\.1 - {QUOTED} \d{{3}} [A-Z_-]+ in=0 out=\d+ \d+\.\d{{3}}s"
    rf" (?:{QUOTED}|-) request [0-9a-f]{{32}}"
)

HOSTILE = b"%0A2026-01-01%20%0D%1B[2J%C2%85%C2%9B%7F%E2%80%A8%E2%80%A9%E2%80%AEx"


def assert_plain(log: str) -> None:
    """Expect no control character but the ends of lines, however a viewer counts lines."""
    assert len(log.splitlines()) == log.count("\n")
    kinds = {unicodedata.category(character) for character in log.replace("\n", "")}
    assert kinds.isdisjoint({"Cc", "Cf", "Zl", "Zp"})


def test_served(data: Path) -> None:
    """Path, query, user agent and user name, in the access log and in the log of failures."""
    sent = "User-Agent: a\x85\x9bb\r\nAuthorization: Basic eAobCjp4\r\n"
    with running_registry(data, "--access-log", "--workers", "1") as registry:
        (data / "portside.db").write_bytes(b"x" * 100_000)
        for path in (
            b"tags/list?last=" + HOSTILE,
            b"manifests/" + HOSTILE,
            HOSTILE + b"/tags/list",
        ):
            status, _ = raw_request(registry.host, registry.port, "GET", b"/v2/a/" + path, sent)
            assert status == 503
        raw_request(registry.host, registry.port, "GET", b"/healthz")
        until(lambda: '"path":"/healthz"' in registry.log)
        log = registry.log
    assert_plain(log)
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert "\n2026-01-01 \r\x1b[2J\x85\x9b\x7f\u2028\u2029\u202ex" in events[1]["path"]
    assert "\x85" in events[1]["agent"]
    others = [line for line in log.splitlines() if not line.startswith("{")]
    assert len([line for line in others if r"\n2026-01-01 \r\u001b[2J\u0085" in line]) == 2
    assert all(RECORD.match(line) for line in others)


@pytest.mark.parametrize("style", ["json", "text"])
def test_styles(data: Path, style: str) -> None:
    """Every line has the style that is asked for, and what is from outside keeps to its place."""
    options = ("--access-log", "--log-format", style, "--workers", "1")
    with running_registry(data, *options) as registry:
        (data / "portside.db").write_bytes(b"x" * 100_000)
        path = b'/v2/a/manifests/"%22%5C' + HOSTILE
        sent = 'User-Agent: a" request 1\r\n'
        status, _ = raw_request(registry.host, registry.port, "GET", path, sent)
        assert status == 503
        raw_request(registry.host, registry.port, "GET", b"/healthz")
        until(lambda: "/healthz" in registry.log)
        log = registry.log
    assert_plain(log)
    if style == "text":
        accesses = [line for line in log.splitlines() if ACCESS.fullmatch(line)]
        # The work in the background fails as well, if it comes to it.
        others = [line for line in log.splitlines() if line not in accesses]
        assert len(accesses) == 2
        assert others
        assert all(RECORD.match(line) for line in others)
        return
    records = [json.loads(line) for line in log.splitlines()]
    assert all(re.fullmatch(TIME, record.pop("time")) for record in records)
    (failed,) = [record for record in records if record.get("logger") == "portside.api.app"]
    assert failed.pop("message").startswith("request ")
    assert failed == {"level": "error", "logger": "portside.api.app"}
    assert [record["status"] for record in records if "status" in record] == [503, 200]


@pytest.mark.parametrize("level", ["error", "info"])
def test_level(data: Path, level: str) -> None:
    """Less important lines than those asked for are left out."""
    with running_registry(data, "--log-level", level, "--workers", "1") as registry:
        (data / "uploads").rename(data / "moved")
        until(lambda: httpx.get(f"{registry.url}/readyz/writes", **ONCE).status_code == 503)
        (data / "moved").rename(data / "uploads")
        until(lambda: httpx.get(f"{registry.url}/readyz/writes", **ONCE).status_code == 200)
        assert " ERROR failure " in registry.log
        assert (" INFO " in registry.log) == (level == "info")


def test_traceback_as_json() -> None:
    """A traceback is a field of the record."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_formatter(as_json=True))
    log = logging.getLogger(__name__)
    log.addHandler(handler)
    try:
        raise ValueError("first\nERROR forged\r\x85\u2028\x1b[2J")
    except ValueError:
        log.exception("a\nERROR b")
    assert_plain(stream.getvalue())
    record = json.loads(stream.getvalue())
    assert record["message"] == "a\nERROR b"
    assert "Traceback (most recent call last):" in record["traceback"]
    assert "first" in record["traceback"]


def test_file_names_as_json() -> None:
    """The name of a file that is not in UTF-8 is no reason to lose a record."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_formatter(as_json=True))
    log = logging.getLogger(f"{__name__}.names")
    log.addHandler(handler)
    # pytest could not report what it captured.
    log.propagate = False
    log.error("cannot read %s", os.fsdecode(b"caf\xe9.toml"))
    assert json.loads(stream.getvalue())["message"] == r"cannot read caf\udce9.toml"


def test_traceback() -> None:
    """A traceback keeps its lines, and none of them can be taken for a record."""
    stream = StringIO()
    log = logging.getLogger(__name__)
    log.addHandler(line_handler(stream, "%(levelname)s %(message)s"))
    try:
        raise ValueError("first\nERROR forged\r\x85\u2028\x1b[2J")
    except ValueError:
        log.exception("a\nERROR b", stack_info=True)
    head, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert head == r"ERROR a\nERROR b"
    assert all(line.startswith("    ") for line in rest)
    assert "    Traceback (most recent call last):" in rest
    assert r"    ERROR forged\r\u0085\u2028\u001b[2J" in rest
    assert_plain(stream.getvalue())


CONTROLS = [*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A)]


@pytest.mark.parametrize("code", CONTROLS)
def test_every_control(code: int) -> None:
    """An escaped text has only printable characters, and reads back as it was, from JSON."""
    escaped = escape_controls(chr(code))
    assert escaped.isprintable()
    assert json.loads(f'"{escaped}"') == chr(code)


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--listen", "nowhere\x1b[2J\x85:1"),
        ("no\x1b[2J\x85\u2028such",),
        ("user", "show", "a\x1b[2J\x85b"),
        ("check", "--data", "/nowhere/\n\x1b[2J\x85"),
    ],
)
def test_commands(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A command that fails repeats what it was given on one line, and harmlessly."""
    options = () if "--data" in arguments else ("--data", str(tmp_path))
    code, _, errors = run_portside(*arguments[:2], *options, *arguments[2:])
    assert code != 0
    assert errors.startswith("portside: ")
    assert errors.count("\n") == 1
    assert_plain(errors)


def test_banner(tmp_path: Path) -> None:
    """The lines that say where a registry listens are three."""
    with running_registry(tmp_path / "a\nPortside listens \x1b[2J\x85b") as registry:
        assert registry.banner.count("\n") == 3
        assert_plain(registry.banner)
