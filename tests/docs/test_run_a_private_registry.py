"""The page from a bare machine to a registry that is restored elsewhere, followed in its order.

Everything runs below a home directory, and as one user: paths, ports and the registry's name are
replaced, and programs that change the machine only do the part of it that is below the home. Caddy,
Prometheus and skopeo are real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from servers import ServerMissing
from support.balancer import take_port
from support.certificates import write_certificate
from support.layouts import Layout
from support.missing import server_needed
from support.pages import ROOT, Script, read_fences
from support.receiving import receiving
from support.waiting import until

PAGE = ROOT / "docs" / "howto" / "run-a-private-registry.md"

PLACES = ("/etc/portside", "/etc/caddy", "/etc/prometheus", "/etc/systemd/system", "/var", "/run")
"""Where the page writes to."""

COMMANDS = {
    "useradd": "",
    "usermod": "",
    "chown": "",
    "chgrp": "",
    "runuser": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    # Files cannot be given to a user that does not exist.
    "install": """
for word; do
    shift
    case "$skip$word" in
        --owner | --group) skip=skip- ;;
        skip-*) skip= ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec /usr/bin/install "$@"
""",
    "systemctl": """
for name; do :; done
case "$*" in
    daemon-reload | *.timer) exit ;;
    *caddy) set -- caddy run --config @/etc/caddy/Caddyfile ;;
    *prometheus) set -- prometheus --config.file=@/etc/prometheus/prometheus.yml \\
        --storage.tsdb.path="$HOME/series" --web.listen-address=127.0.0.1:@9090 ;;
    *) set -- $(sed -n 's:^ExecStart=/opt/portside/bin/::p' \\
        "@/etc/systemd/system/$name.service" | sed 's: /: @/:g') ;;
esac
case "$name" in *-backup) exec "$@" ;; esac
if [ -e "$HOME/$name.pid" ]; then
    kill "$(cat "$HOME/$name.pid")"
    while [ -e "/proc/$(cat "$HOME/$name.pid")" ]; do sleep 0.1; done
fi
"$@" > "$HOME/$name.log" 2>&1 &
echo $! > "$HOME/$name.pid"
case "$name" in
    portside) set -- portside health --config @/etc/portside/portside.toml ;;
    caddy) set -- curl --silent --output /dev/null https://registry.example ;;
    *) exit ;;
esac
until "$@" 2> "$HOME/waiting"; do kill -0 "$!"; sleep 0.1; done
""",
}
"""What stands in for programs that change the machine: `@` is the place of everything."""


class Machine:
    """A place below the home for everything that the page puts on a machine."""

    def __init__(self, home: Path, name: str, ports: dict[str, str]) -> None:
        self.root = home / name
        self._ports = ports
        for place in PLACES:
            (self.root / place[1:] / "portside").mkdir(parents=True)
        self._checkout = self.root / "checkout"
        self._checkout.mkdir()
        (self._checkout / "deploy").symlink_to(ROOT / "deploy")
        self._bin = self.root / "bin"
        self._bin.mkdir()
        for program, text in COMMANDS.items():
            path = self._bin / program
            path.write_text(f"#!/bin/sh -e\n{self.moved(text.replace('@9090', '9090'))}")
            path.chmod(0o755)

    def moved(self, text: str) -> str:
        """Replace names, ports and paths by those of the test."""
        for printed, port in self._ports.items():
            text = text.replace(printed, port)
        text = text.replace("@/", f"{self.root}/")
        return re.sub(rf'(?<=[\s":/])({"|".join(PLACES)})\b', rf"{self.root}\1", text)

    def wrapped(self, script: str) -> str:
        """Return a script that finds this machine's programs first."""
        return f'cd {self._checkout}; export PATH="{self._bin}:$PATH"\n{self.moved(script)}'


@contextmanager
def ending(home: Path) -> Iterator[None]:
    """End what was started within a block."""
    try:
        yield
    finally:
        numbers = [path.read_text().strip() for path in home.glob("*.pid")]
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGTERM)
        until(lambda: not any(Path("/proc", number).exists() for number in numbers))


def needed_programs() -> None:
    """Require the programs that the page installs."""
    (packages,) = re.findall(r"^\$ apt install (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    for program in {"caddy", "prometheus", "skopeo", "openssl", "curl"} & set(packages.split()):
        with server_needed():
            if shutil.which(program) is None:
                raise ServerMissing(f"there is no {program}; `make test` installs it")


@pytest.mark.long
def test_page(home: Path, environment: dict[str, str], run_script: Script) -> None:
    """Every block works, and prints what is said; the restored registry has all of it."""
    needed_programs()
    https, metrics, prometheus = (str(take_port()) for _ in range(3))
    ports = {"9500": metrics, "9090": prometheus, "15s": "1s"}
    ports["registry.example {"] = (
        f"https://127.0.0.1:{https} {{\n    tls {home}/certificate.pem {home}/key.pem"
    )
    ports["registry.example"] = f"127.0.0.1:{https}"
    certificate, _ = write_certificate(home)
    trusted = home / ".config" / "containers" / "certs.d" / f"127.0.0.1:{https}" / "ca.crt"
    trusted.parent.mkdir(parents=True)
    shutil.copy(certificate, trusted)
    environment |= {
        "SSL_CERT_FILE": str(certificate),
        "CURL_CA_BUNDLE": str(certificate),
        "PORTSIDE_PASSWORD_COST": "4",
    }
    (layout := Layout(home / "layout")).add_image("1", (1000,))
    printed, passed, blocks = "", 0, read_fences(PAGE)
    with receiving() as receiver, ending(home):
        ports['"https://deploy.example/hook"'] = f'"{receiver.url}"\nallow-private = true'
        machine = Machine(home, "first", ports)
        copying = f"skopeo copy oci:{layout.root}:1 docker://127.0.0.1:{https}/library/alpine"
        for language, block in blocks:
            if language == "text":
                assert machine.moved(block).strip() in printed
                passed += 1
            if block.startswith("$ skopeo copy "):
                assert block.endswith(" docker://registry.example/library/alpine:1\n")
                run_script(f"{copying}:1")
            if language != "sh":
                continue
            if block.startswith("chown --recursive "):
                other = Machine(home, "second", ports)
                run_script(other.wrapped(blocks[1][1]))
                for place in ("etc/portside", "var/backups"):
                    shutil.copytree(machine.root / place, other.root / place, dirs_exist_ok=True)
                settings = other.root / "etc" / "portside" / "portside.toml"
                settings.write_text(settings.read_text().replace("/first/", "/second/"))
                machine = other
            printed = run_script(machine.wrapped(block))
            if "webhooks test" in block:
                run_script(f"{copying}:2")
                until(lambda: "tag.set" in {one.action for one in receiver.accepted})
    assert passed == 8
    where = f"--data {machine.root}/var/lib/portside"
    assert "alice" in run_script(f"portside user list {where}")
    assert "sha256:" in run_script(f"portside tag list library/alpine {where}")
