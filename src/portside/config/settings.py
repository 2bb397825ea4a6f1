"""All settings of a registry, each declared once."""

from __future__ import annotations

import enum
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from portside.config.addresses import SettingsInvalid, parse_address, without_password
from portside.spec.dialects import Dialect
from portside.spec.schemes import AuthScheme

Part = TypeVar("Part")

DAY = 24 * 3600
"""Seconds: nobody who is asked to wait for longer is there any more."""

TEN_YEARS = 3650 * DAY
"""Seconds: longer than anything is kept, and short enough to be reckoned with in microseconds."""

LARGEST = 2**63 - 1
"""What file systems and SQLite count bytes with."""

ROOM = 1 << 30
"""Bytes: what one request can be let take of the memory of most machines."""


def described(description: str, unit: str, **bounds: Any) -> Meta:
    """Annotate a setting with what a person needs to know of it."""
    return Meta(description=description, extra={"unit": unit}, **bounds)


class Redirect(enum.StrEnum):
    """Which pulls of blobs the object store answers itself."""

    ALWAYS = "always"
    NEVER = "never"
    LARGE = "large"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a registry is started with."""

    data: Annotated[
        str, described("Directory that holds everything; it is made if it is not there.", "path")
    ] = "data"
    database: Annotated[
        str,
        described(
            "PostgreSQL database that holds everything but the blobs, such as"
            " postgresql://user@host/name; a password is better kept in PGPASSWORD or ~/.pgpass."
            " Empty: an SQLite file in the data directory.",
            "URL",
        ),
    ] = ""
    database_connections: Annotated[
        int,
        described(
            "Most connections to PostgreSQL of one worker; all workers of all nodes share what"
            " the server allows.",
            "connections",
            ge=1,
            le=1000,
        ),
    ] = 10
    database_connect_timeout: Annotated[
        float,
        described(
            "Time that a request waits for a connection to PostgreSQL.", "seconds", gt=0, le=DAY
        ),
    ] = 5.0
    database_statement_timeout: Annotated[
        float,
        described(
            "Time that a request waits for PostgreSQL to answer, and for what others keep locked.",
            "seconds",
            gt=0,
            le=DAY,
        ),
    ] = 30.0
    storage: Annotated[
        str,
        described(
            "What holds the blobs, such as s3://bucket/prefix, az://container/prefix,"
            " gs://bucket/prefix or file:///directory. Empty: the data directory.",
            "URL",
        ),
    ] = ""
    storage_http: Annotated[
        bool,
        described(
            "Use an object store without TLS although it is not on this machine; credentials and"
            " blobs then travel in the clear.",
            "on or off",
        ),
    ] = False
    redirect: Annotated[
        Redirect,
        described(
            "Which pulls of blobs are sent on to the object store by a signed URL: all, none, or"
            " those above redirect-above. Clients must be able to reach the store.",
            "always or never or large",
        ),
    ] = Redirect.ALWAYS
    redirect_above: Annotated[
        int,
        described(
            "Size above which a blob is large, for redirect.",
            "bytes",
            ge=0,
            le=LARGEST,
        ),
    ] = 1024 * 1024
    redirect_life: Annotated[
        int,
        described(
            "Time for which a signed URL is good. A client follows at once, and one that resumes"
            " later asks the registry again.",
            "seconds",
            ge=1,
            le=7 * DAY,
        ),
    ] = 600
    upload_memory: Annotated[
        int,
        described(
            "Memory of one worker for uploads to an object store. Each that is larger than 1 MiB"
            " takes 32 MiB of it, and waits while none is left; one at a time is always let in.",
            "bytes",
            ge=0,
            le=1 << 50,
        ),
    ] = 512 * 1024 * 1024
    listen: Annotated[
        str,
        described(
            "Address and port to serve on. Port 0 takes a free one. The default is reachable from"
            " this machine only.",
            "HOST:PORT",
        ),
    ] = "127.0.0.1:5000"
    workers: Annotated[
        int,
        described(
            "Processes that serve requests. Two use two cores; more than the machine has cores is"
            " no faster.",
            "processes",
            ge=1,
            le=256,
        ),
    ] = 2
    dialect: Annotated[
        Dialect,
        described(
            "Which description the answers follow: that of today's clients, or that of Azure"
            " Container Registry of 2017.",
            "oci or acr-2017",
        ),
    ] = Dialect.OCI
    tls_certificate: Annotated[
        str, described("PEM file with the certificate chain. Empty: plain HTTP.", "path")
    ] = ""
    tls_key: Annotated[
        str,
        described(
            "PEM file with the certificate's private key, not encrypted: RSA of 2048, 3072 or 4096"
            " bits, P-256, P-384 or Ed25519. Empty: plain HTTP.",
            "path",
        ),
    ] = ""
    max_manifest_bytes: Annotated[
        int,
        described(
            "Largest manifest that is accepted. The distribution-spec asks for 4 MiB at least.",
            "bytes",
            ge=1,
            le=ROOM,
        ),
    ] = 4 * 1024 * 1024
    max_blob_bytes: Annotated[
        int,
        described(
            "Largest blob that is accepted. 0: no limit but the disk, as blobs are streamed.",
            "bytes",
            ge=0,
            le=LARGEST,
        ),
    ] = 0
    reserve_bytes: Annotated[
        int,
        described(
            "Space on the disk that uploads leave free, so that a full registry can still be"
            " deleted from. 0: none.",
            "bytes",
            ge=0,
            le=1 << 50,
        ),
    ] = 64 * 1024 * 1024
    max_header_bytes: Annotated[
        int,
        described(
            "Most bytes of path, query and header fields of a request. A hundred tags of full"
            " length in a query need 14,000.",
            "bytes",
            ge=1024,
            le=256 * 1024,
        ),
    ] = 32 * 1024
    max_tags_per_push: Annotated[
        int,
        described(
            "Most tags in one manifest push. The distribution-spec asks for 10 at least.",
            "tags",
            ge=1,
            le=10_000,
        ),
    ] = 100
    max_ranges: Annotated[
        int,
        described(
            "Most ranges in one request for a blob; above it, the whole blob is sent. 0: ranges"
            " are ignored.",
            "ranges",
            ge=0,
            le=1000,
        ),
    ] = 16
    page_limit: Annotated[
        int,
        described(
            "Most entries in one page of a list, and the size of a page where a client names none.",
            "entries",
            ge=1,
            le=1_000_000,
        ),
    ] = 10_000
    max_referrers_bytes: Annotated[
        int,
        described(
            "Most bytes in one page of referrers: clients need to accept an index of 4 MiB only.",
            "bytes",
            ge=1024,
            le=ROOM,
        ),
    ] = 3 * 1024 * 1024
    sparse_indexes: Annotated[
        bool,
        described(
            "Accept an index although manifests that it lists are not in the repository.",
            "on or off",
        ),
    ] = False
    delete: Annotated[
        bool,
        described("Let clients delete. Off: every DELETE of content answers 405.", "on or off"),
    ] = True
    upload_expiry: Annotated[
        int,
        described(
            "Time after which an upload session that nobody uses ends. A week, as in other"
            " registries.",
            "seconds",
            ge=1,
            le=TEN_YEARS,
        ),
    ] = 7 * 24 * 3600
    upload_sweep_interval: Annotated[
        int,
        described(
            "Time between two looks for upload sessions that have expired.",
            "seconds",
            ge=1,
            le=DAY,
        ),
    ] = 3600
    upload_hold_timeout: Annotated[
        float,
        described(
            "Time that a request waits for another one that writes to the same upload session.",
            "seconds",
            ge=0,
            le=DAY,
        ),
    ] = 5.0
    body_timeout: Annotated[
        float,
        described(
            "Time that a client may be silent within a request body; what arrived is kept.",
            "seconds",
            gt=0,
            le=DAY,
        ),
    ] = 60.0
    header_timeout: Annotated[
        float,
        described(
            "Time that a client may take to send the head of a request.",
            "seconds",
            gt=0,
            le=DAY,
        ),
    ] = 30.0
    shutdown_timeout: Annotated[
        int,
        described(
            "Time that requests in flight are given to finish after SIGTERM.",
            "seconds",
            ge=1,
            le=DAY,
        ),
    ] = 30
    backlog: Annotated[
        int,
        described(
            "Connections that may wait to be accepted, in all workers together.",
            "connections",
            ge=128,
            le=65535,
        ),
    ] = 1024
    access_log: Annotated[
        bool,
        described(
            "Write one line for each request to standard error, as a JSON object.", "on or off"
        ),
    ] = False
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

    def select(self, part: Callable[..., Part]) -> Part:
        """Return a struct of an inner layer, filled with the settings of the same names."""
        return part(**{name: getattr(self, name) for name in signature(part).parameters})

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
        return without_password(self.database)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; raises SettingsInvalid."""
        return parse_address(self.listen)

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
