"""All settings: those of what is served, and those of who may."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from portside.config.describing import DAY, TEN_YEARS, described
from portside.config.serving import ServingSettings
from portside.spec.dialects import Dialect
from portside.spec.schemes import AuthScheme

# RFC 3986, section 3.2.2: brackets tell the colons of an address from the one before the port.
# RFC 1035, section 2.3.1, with the underscore that some networks have in names.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_ADDRESS = re.compile(
    rf"(?:(?P<host>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<address>[^\[\]]+)\]):(?P<port>[0-9]{{1,5}})"
)


class SettingsInvalid(Exception):
    """A setting has a value that it cannot have; the message is for the person who set it."""


class Settings(ServingSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a registry is started with."""

    open: Annotated[
        bool,
        described(
            "Let everybody push, pull and delete, on whatever address, and whatever users there"
            " are. Off: a registry that has no access control serves this machine only.",
            "on or off",
        ),
    ] = False
    anonymous: Annotated[
        tuple[str, ...],
        described(
            "What is allowed without credentials, such as public/*:pull; may be given several"
            " times, and in the environment separated by spaces.",
            "PATTERN:ACTIONS",
        ),
    ] = ()
    htpasswd: Annotated[
        str,
        described(
            "Apache htpasswd file with bcrypt hashes, read again when it changes. Empty: none.",
            "path",
        ),
    ] = ""
    access: Annotated[
        str,
        described(
            "TOML file with groups, rules and trusted issuers, read again when it changes. Empty:"
            " every user may do everything.",
            "path",
        ),
    ] = ""
    auth_scheme: Annotated[
        AuthScheme,
        described(
            "What clients are asked for: bearer (tokens, of this registry's token server) or basic"
            " (names and passwords alone). auto: basic in the dialect acr-2017, else bearer.",
            "auto or bearer or basic",
        ),
    ] = AuthScheme.AUTO
    public_url: Annotated[
        str,
        described(
            "How clients reach the registry, such as https://registry.example. Empty: as the Host"
            " header says, which is wrong behind a proxy that ends TLS.",
            "URL",
        ),
    ] = ""
    service: Annotated[
        str,
        described(
            "Name of the registry in challenges, and the audience of its tokens.",
            "text",
            pattern="^[A-Za-z0-9._:-]{1,255}$",
        ),
    ] = "portside"
    token_realm: Annotated[
        str,
        described(
            "Token server that challenges name, for one of the trusted issuers. Empty: this"
            " registry's own.",
            "URL",
        ),
    ] = ""
    access_token_life: Annotated[
        int,
        described(
            "Time for which an access token is good. Clients expect a minute at least.",
            "seconds",
            ge=60,
            le=DAY,
        ),
    ] = 300
    refresh_token_life: Annotated[
        int,
        described(
            "Time for which a login with a refresh token is good; with its password, it ends at"
            " once.",
            "seconds",
            ge=60,
            le=TEN_YEARS,
        ),
    ] = 30 * 24 * 3600
    credential_life: Annotated[
        float,
        described(
            "Time for which a verified password or token is remembered, so that not every request"
            " costs a slow hash; a change is seen at once all the same. 0: not at all.",
            "seconds",
            ge=0,
            le=DAY,
        ),
    ] = 60.0
    password_cost: Annotated[
        int,
        described(
            "Work of a password's bcrypt hash, doubled by each step. 12 takes a quarter of a"
            " second.",
            "steps",
            ge=4,
            le=16,
        ),
    ] = 12
    login_failures: Annotated[
        int,
        described(
            "Failed logins of one name from one address, within the window, after which more are"
            " refused; ten times as many for all names together. 0: no limit.",
            "failures",
            ge=0,
            le=1_000_000,
        ),
    ] = 10
    login_window: Annotated[
        int,
        described("Time after which a failed login no longer counts.", "seconds", ge=1, le=DAY),
    ] = 60
    trusted_proxies: Annotated[
        tuple[str, ...],
        described(
            "Addresses or networks of proxies whose X-Forwarded-For is believed, such as"
            " 10.0.0.0/8; may be given several times.",
            "address",
        ),
    ] = ()

    @property
    def root(self) -> Path:
        """The data directory as an absolute path; raises SettingsInvalid."""
        if not self.data:
            raise SettingsInvalid("data must be the path of a directory, and is empty")
        try:
            return Path(self.data).expanduser().absolute()
        except (RuntimeError, OSError) as error:
            # There is no such user, or the working directory is gone.
            raise SettingsInvalid(f"data cannot be {self.data!r}: {error}") from error

    @property
    def place(self) -> str:
        """Where everything is, as people call it; raises SettingsInvalid."""
        blobs = self.storage or str(self.root)
        if self.database:
            return f"{self.shown_database} and {blobs}"
        return f"{self.root} and {blobs}" if self.storage else blobs

    @property
    def shown_database(self) -> str:
        """The database without its secrets; raises SettingsInvalid."""
        parts = self._database_parts()
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"

    def _database_parts(self) -> SplitResult:
        """Split the URL of the database; what is wrong with it is said without showing it."""
        try:
            parts = urlsplit(self.database)
            is_known = parts.scheme in {"postgresql", "postgres"}
        except ValueError:
            is_known = False
        # A password that is not encoded ends the host early, and the rest must not be shown; nor
        # must one that no host follows, and which would be taken for a port.
        is_whole = is_known and "@" not in parts.path + parts.query + parts.fragment
        if not is_whole or not _are_hosts(parts.netloc.rpartition("@")[2]):
            shape = (
                "database must be postgresql://USER@HOST/NAME, with /, #, ? and @ in a password"
                " written as %2F, %23, %3F and %40"
            )
            raise SettingsInvalid(shape)
        return parts

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; raises SettingsInvalid."""
        written = _ADDRESS.fullmatch(self.listen)
        if written is None or int(written["port"]) > 65535 or not _is_host(written):  # noqa: PLR2004
            shape = "listen must be HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000"
            raise SettingsInvalid(f"{shape}, not {shortened(self.listen)}")
        return written["host"] or written["address"], int(written["port"])

    @property
    def scheme(self) -> AuthScheme:
        """What clients are asked for: bearer or basic."""
        if self.auth_scheme is not AuthScheme.AUTO:
            return self.auth_scheme
        return AuthScheme.BASIC if self.dialect is Dialect.ACR_2017 else AuthScheme.BEARER

    @property
    def requires_credentials(self) -> bool:
        """Whether the settings alone, without any user, close the registry."""
        return bool(self.anonymous or self.htpasswd or self.access)


def _are_hosts(written: str) -> bool:
    """Tell whether each host of a list that has a port has one that is a number."""
    ports = (host.rpartition("]")[2].partition(":") for host in written.split(","))
    return all(port.isdecimal() for _, colon, port in ports if colon)


def _is_host(written: re.Match[str]) -> bool:
    """Tell whether what stands in brackets is an address of IPv6, and a name no longer than one."""
    if written["address"] is None:
        return len(written["host"]) <= 253  # noqa: PLR2004  # RFC 1035, section 2.3.4
    try:
        ipaddress.IPv6Address(written["address"])
    except ValueError:
        return False
    return True


def shortened(value: object) -> str:
    """Write a value that is wrong into a message of one line."""
    written = repr(value)
    return written if len(written) <= 80 else f"{written[:80]}…"  # noqa: PLR2004
