"""What `portside serve` prints once it serves: where it listens, and a command to try."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

from portside.api.log_lines import escape_controls
from portside.cli.certificates import host_names, is_self_signed
from portside.cli.listeners import Listener
from portside.config import Settings

_HTTPS = 443


def banner(settings: Settings, listener: Listener, *, is_closed: bool, metrics: str = "") -> str:
    """Return the lines; `is_closed` says that clients have to log in, `metrics` is a URL."""
    scheme = "https" if settings.tls_certificate else "http"
    lines = [
        f"Portside listens on {listener.url(scheme)}",
        f"Data is in {settings.place}",
        f"Try: {_suggest(settings, listener, scheme, is_closed=is_closed)}",
    ]
    if metrics:
        lines.insert(2, f"Metrics are at {metrics}")
    return "\n".join(map(escape_controls, lines))


def _suggest(settings: Settings, listener: Listener, scheme: str, *, is_closed: bool) -> str:
    """Return a command that works here, or at the public URL."""
    certificate = settings.tls_certificate
    is_trusted = bool(certificate) and not is_self_signed(certificate)
    if settings.public_url:
        public = urlsplit(settings.public_url)
        # A proxy has a certificate of its own.
        is_proxied = public.scheme == "https" and not certificate
        return _suggest_push(
            public.netloc, is_trusted=is_trusted or is_proxied, is_closed=is_closed
        )
    if isinstance(settings.address, Path):
        # podman cannot use the socket.
        insecure = "--insecure " if scheme == "https" and not is_trusted else ""
        socket = shlex.quote(str(settings.address))
        return f"curl {insecure}--unix-socket {socket} {scheme}://localhost/"
    here = listener.authority
    if is_trusted:
        here = _named(here, host_names(certificate))
    return _suggest_push(here, is_trusted=is_trusted, is_closed=is_closed)


def _suggest_push(authority: str, *, is_trusted: bool, is_closed: bool) -> str:
    """Return how to push an image.

    `is_trusted` says that clients trust the certificate, `is_closed` that they have to log in.
    """
    verify = "" if is_trusted else "--tls-verify=false "
    login = f"podman login {verify}{authority} && " if is_closed else ""
    return f"{login}podman push {verify}IMAGE {authority}/library/app:1"


def _named(authority: str, names: list[str]) -> str:
    """Return an authority with a name that the certificate is valid for, if its host is not."""
    host, _, port = authority.rpartition(":")
    known = [name for name in names if not name.startswith("*")]
    if host.strip("[]") in known or not known:
        return authority
    return known[0] if int(port) == _HTTPS else f"{known[0]}:{port}"
