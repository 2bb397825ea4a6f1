"""`portside health` asks the registry where the settings say that it listens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.certificates import write_certificate
from support.commands import run_inside
from support.server import running_registry
from support.waiting import until


@pytest.mark.parametrize("kind", ["every address", "socket", "TLS"])
def test_alive(tmp_path: Path, kind: str) -> None:
    """A registry that serves is alive and ready, whatever it listens on; one that ended is not."""
    listen, extra = "127.0.0.1:0", []
    if kind == "every address":
        listen, extra = "0.0.0.0:0", ["--open"]
    elif kind == "socket":
        listen = f"unix:{tmp_path}/portside.sock"
    else:
        certificate, key = write_certificate(tmp_path)
        extra = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    serving = ("--listen", listen, "--workers", "1", *extra)
    with running_registry(tmp_path / "data", *serving) as registry:
        at = listen if kind == "socket" else listen.replace(":0", f":{registry.port}")
        env = {"PORTSIDE_LISTEN": at}
        if kind == "TLS":
            env |= {"PORTSIDE_TLS_CERTIFICATE": str(certificate), "PORTSIDE_TLS_KEY": str(key)}
        assert run_inside("health", env=env) == (0, "alive\n", "")
        assert run_inside("health", "--ready", env=env) == (0, "ready\n", "")
        if kind == "TLS":
            plain = run_inside("health", env={"PORTSIDE_LISTEN": at})[2]
            assert plain.endswith("if it speaks TLS, set --tls-certificate and --tls-key\n")
        elif kind == "every address":
            certificate, key = write_certificate(tmp_path)
            pair = ("--tls-certificate", str(certificate), "--tls-key", str(key))
            assert "does not speak TLS" in run_inside("health", *pair, env=env)[2]
    code, _, errors = run_inside("health", env=env)
    assert code == 1
    assert errors.startswith(f"portside: no answer at {at}: ")


def test_not_ready(tmp_path: Path) -> None:
    """A registry whose blobs are gone is alive and not ready, and the reason is printed."""
    options = ("--workers", "1", "--probe-interval", "0")
    with running_registry(tmp_path / "data", *options) as registry:
        at = ("--listen", registry.address)
        shutil.rmtree(registry.data / "blobs")
        assert run_inside("health", *at)[0] == 0
        until(lambda: run_inside("health", "--ready", *at)[0] == 1)
        errors = run_inside("health", "--ready", *at)[2]
        assert errors.startswith(f"portside: /readyz at {registry.address} answered 503: ")
