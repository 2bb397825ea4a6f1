"""`portside doctor`: examine a registry, and say what to do."""

from __future__ import annotations

import asyncio
import platform
import ssl
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from portside import __version__
from portside.bootstrap import now
from portside.bootstrap.diagnosing import diagnose
from portside.cli.certificates import check_certificate, host_names, validity
from portside.cli.errors import ServerError
from portside.cli.health import TIMEOUT, ask
from portside.cli.locks import serving_version
from portside.cli.output import show_json, show_table
from portside.config import HostPort, Settings
from portside.operations.diagnose import (
    Diagnosis,
    Level,
    advice,
    compare_versions,
    look_at_life,
    ok,
    problem,
)

UNAUTHORIZED = 401


def examine(settings: Settings, *, as_json: bool) -> None:
    """Print what is found, and exit with 1 if something must be done."""
    found = [
        ok("version", f"Portside {__version__} on Python {platform.python_version()}"),
        *_look_at_version(settings),
        *_look_at_server(settings),
        *asyncio.run(_look_at_registry(settings)),
        *_look_at_certificate(settings),
        *_look_at_transport(settings),
    ]
    if as_json:
        show_json([one._asdict() for one in found])
    else:
        rows = [(one.level, one.subject, "; ".join(filter(None, one[2:]))) for one in found]
        show_table(("", "subject", "finding"), rows, empty="")
    if any(one.level is Level.PROBLEM for one in found):
        sys.exit(1)


def _look_at_version(settings: Settings) -> Iterator[Diagnosis]:
    """Yield that the registry in the data directory is served by another version."""
    if not settings.database:
        other = compare_versions(__version__, [serving_version(settings.root)])
        if other is not None:
            yield other


async def _look_at_registry(settings: Settings) -> list[Diagnosis]:
    return [found async for found in diagnose(settings, is_exposed=_is_exposed(settings))]


def _is_exposed(settings: Settings) -> bool:
    """Whether other machines can reach the address that the settings listen on."""
    if isinstance(settings.address, Path):
        return False
    host = settings.address.host
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _look_at_server(settings: Settings) -> Iterator[Diagnosis]:
    """Yield whether the registry runs here, and is ready."""
    try:
        ask(settings, "/healthz")
    except ServerError as error:
        yield advice("server", str(error), "start `portside serve`, if it is to run here")
        return
    try:
        ask(settings, "/readyz/writes")
    except ServerError as error:
        yield problem("server", str(error), "read its log")
    else:
        yield ok("server", f"answers at {settings.listen}, and is ready")
    if settings.metrics_address is not None:
        yield _look_at_metrics(settings.metrics_address, settings.metrics_listen)


def _look_at_metrics(address: HostPort, shown: str) -> Diagnosis:
    """Return whether the registry that runs here serves metrics."""
    connection = HTTPConnection(address.reachable, address.port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/metrics")
        found = connection.getresponse().status
    except (OSError, HTTPException) as error:
        text = f"no metrics at {shown}: {error}"
        return problem("metrics", text, "restart the registry with this --metrics-listen")
    finally:
        connection.close()
    if found != 200:  # noqa: PLR2004  # OK
        return problem("metrics", f"{shown}/metrics answers {found}", "read its log")
    return ok("metrics", f"are served at {shown}")


def _look_at_certificate(settings: Settings) -> Iterator[Diagnosis]:
    """Yield what is to be said of the certificate in the settings."""
    if not settings.tls_certificate:
        return
    path = settings.tls_certificate
    try:
        check_certificate(path, settings.tls_key)
    except ServerError as error:
        yield problem("certificate", str(error))
        return
    yield look_at_life(path, *validity(path), now() / 1_000_000)
    host = urlsplit(settings.public_url).hostname
    names = host_names(path)
    if host and host not in names and f"*.{host.partition('.')[2]}" not in names:
        yield problem(
            "certificate",
            f"{path} is valid for {', '.join(names) or 'no name'}, but not for {host}",
            "get one for the host of --public-url",
        )


def _look_at_transport(settings: Settings) -> Iterator[Diagnosis]:
    """Yield whether passwords are encrypted on their way, and where the public URL leads."""
    if settings.public_url:
        yield _follow(settings.public_url)
        has_proxy = settings.public_url.startswith("https:") and not settings.tls_certificate
        if has_proxy and not (isinstance(settings.address, Path) or settings.trusted_proxies):
            yield problem(
                "proxy headers",
                "the proxy that offers TLS is not trusted, so all clients have its address: one"
                " that fails to log in too often locks out all others",
                "name its address in --trusted-proxies",
            )
        return
    if _is_exposed(settings) and not (settings.tls_certificate or settings.open):
        remedy = "set --tls-certificate and --tls-key, or put a proxy with TLS in front"
        if not settings.trusted_proxies:
            yield problem("transport", "passwords cross the network unencrypted", remedy)
            return
        yield ok("transport", "the proxies in --trusted-proxies are expected to offer TLS")


def _follow(public_url: str) -> Diagnosis:
    """Return whether clients get from the public URL to a registry that sends them back there."""
    parts = urlsplit(public_url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        connection: HTTPConnection = HTTPSConnection(host, port, timeout=TIMEOUT)
    else:
        connection = HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/v2/")
        answer = connection.getresponse()
        answer.read()
    except ssl.SSLCertVerificationError as error:
        return advice(
            "public URL",
            f"this machine does not trust the certificate of {public_url}: {error.verify_message}",
            "install its authority on clients, or get a certificate that they trust",
        )
    except (OSError, HTTPException) as error:
        return advice(
            "public URL",
            f"{public_url} cannot be reached from here: {error}",
            "check its name and the proxy, unless only other networks reach it",
        )
    finally:
        connection.close()
    if answer.getheader("Docker-Distribution-Api-Version") is None:
        return problem(
            "public URL",
            f"{public_url} does not lead to a registry, and answers {answer.status}",
            "check that the registry runs, and what the proxy forwards",
        )
    realm = (answer.getheader("WWW-Authenticate") or "").partition('realm="')[2].partition('"')[0]
    if answer.status == UNAUTHORIZED and realm and not realm.startswith(public_url.rstrip("/")):
        is_downgraded = public_url.startswith("https:") and realm.startswith("http:")
        return (problem if is_downgraded else advice)(
            "public URL",
            f"{public_url} sends clients to {realm} for a token",
            "set --public-url of the registry there, unless --token-realm is intended",
        )
    if parts.scheme != "https":
        return advice(
            "public URL", "passwords cross the network unencrypted", "offer TLS at the public URL"
        )
    return ok("public URL", f"{public_url} leads to a registry")
