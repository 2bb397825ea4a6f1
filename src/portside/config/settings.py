"""All settings of a registry, each declared once.

A declaration holds the type, the default, the bounds, the unit, the heading to list it under, a
summary for `--help`, the details for the reference, and how to turn off what it sets.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from portside.config.addresses import (
    HostPort,
    SettingsInvalid,
    parse_address,
    parse_host_port,
    without_password,
)
from portside.spec.dialects import AuthScheme, Dialect

Part = TypeVar("Part")

DAY = 24 * 3600
"""Seconds; the upper bound of every timeout: no client or operator waits longer."""

TEN_YEARS = 3650 * DAY
"""Seconds; the upper bound of every retention, small enough to count in microseconds."""

LARGEST = 2**63 - 1
"""Bytes; the largest size that file systems and SQLite can count."""

# RFC 9110, section 5.6.4: what a quoted string can contain without an escape, but for tabs and
# bytes that are not ASCII. \Z and not $, which would accept a line feed at the end.
SERVICE_NAME = r"\A[ !#-\[\]-~]{1,255}\Z"

# As chmod(1) takes it, without the bits that mean nothing for a socket.
FILE_MODE = r"\A0?[0-7]{3}\Z"

TRACES_PATH = "/v1/traces"
"""Where a collector receives traces (OTLP/HTTP, "OTLP/HTTP Request")."""

ROOM = 1 << 30
"""Bytes; the most memory that one request can be allowed to take."""


class Group(enum.StrEnum):
    """The headings under which settings are listed, in order."""

    STORAGE = "Storage"
    DATABASE = "Database"
    NETWORK = "Network and TLS"
    ACCESS = "Access control"
    LOGINS = "Logins and tokens"
    CONTENT = "Content"
    UPLOADS = "Uploads"
    WEBHOOKS = "Webhooks"
    LIMITS = "Limits and timeouts"
    PROCESSES = "Processes and logging"


class Redirect(enum.StrEnum):
    """Which pulls of blobs are redirected to the object store."""

    ALWAYS = "always"
    NEVER = "never"
    LARGE = "large"


class TracesTrust(enum.StrEnum):
    """Who decides about the trace of a request that it sends."""

    PROXIES = "proxies"
    EVERYONE = "everyone"


class LogFormat(enum.StrEnum):
    """How the lines of the logs are written."""

    JSON = "json"
    TEXT = "text"
    MIXED = "mixed"


class LogLevel(enum.StrEnum):
    """The least important records that are written to the log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def described(
    group: Group,
    summary: str,
    details: str = "",
    *,
    unit: str = "",
    off: str = "",
    secret: bool = False,
    **bounds: Any,
) -> Meta:
    """Annotate a setting with all that a person needs to know about it.

    The summary is a phrase, details and `off` are sentences; `off` says how to turn the feature or
    the limit off. A secret can be read from a file.
    """
    extra = {
        "group": group,
        "details": details,
        "unit": unit,
        "off": off,
        "is_secret": secret,
    }
    return Meta(description=summary, extra=extra, **bounds)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a registry is started with."""

    data: Annotated[
        str,
        described(
            Group.STORAGE,
            "Data directory",
            "Holds the SQLite database and the blobs, unless they are stored elsewhere."
            " It is created if it does not exist.",
            unit="path",
        ),
    ] = "data"
    storage: Annotated[
        str,
        described(
            Group.STORAGE,
            "Where to store blobs, if not in --data",
            "The URL of an object store (`s3://bucket/prefix`, `az://container/prefix` or"
            " `gs://bucket/prefix`) or of a directory (`file:///srv/blobs`).",
            unit="URL",
        ),
    ] = ""
    storage_http: Annotated[
        bool,
        described(
            Group.STORAGE,
            "Allow plain HTTP to a remote object store",
            "Credentials and blobs then cross the network unencrypted. An object store on this"
            " machine can always be used without TLS.",
        ),
    ] = False
    redirect: Annotated[
        Redirect,
        described(
            Group.STORAGE,
            "Which blob pulls go to the object store",
            "Redirected clients download directly from the object store with a signed URL, so they"
            " must be able to reach it. `large` redirects pulls of blobs above `redirect-above`.",
            off="`never` sends every blob through the registry.",
        ),
    ] = Redirect.ALWAYS
    redirect_above: Annotated[
        int,
        described(
            Group.STORAGE,
            "Size above which a blob is large",
            "Applies to `redirect = large`.",
            unit="bytes",
            ge=0,
            le=LARGEST,
        ),
    ] = 1024 * 1024
    redirect_life: Annotated[
        int,
        described(
            Group.STORAGE,
            "Lifetime of a signed URL",
            "Clients follow a redirect at once; a client that resumes a download later asks the"
            " registry again.",
            unit="seconds",
            ge=1,
            le=7 * DAY,
        ),
    ] = 600
    reserve_bytes: Annotated[
        int,
        described(
            Group.STORAGE,
            "Disk space that pushes leave free",
            "Keeps enough space to delete content from a registry whose disk is full: blobs,"
            " manifests, upload sessions, mounts, users, tokens, scope maps and keys are refused"
            " before. The file `portside.reserve` takes as much again, at most 16 MiB, and"
            " is emptied for deletes when other programs fill the disk to the last byte.",
            unit="bytes",
            off="`0` reserves nothing.",
            ge=0,
            le=1 << 50,
        ),
    ] = 64 * 1024 * 1024
    database: Annotated[
        str,
        described(
            Group.DATABASE,
            "PostgreSQL database, if not SQLite",
            "Holds all metadata. Example: `postgresql://user@host/name`. Keep the password in"
            " `PGPASSWORD` or `~/.pgpass`. Empty: an SQLite file in the data directory.",
            unit="URL",
            secret=True,
        ),
    ] = ""
    database_connections: Annotated[
        int,
        described(
            Group.DATABASE,
            "PostgreSQL connections per worker",
            "The sum over all workers of all nodes must stay below the server's `max_connections`.",
            unit="connections",
            ge=1,
            le=1000,
        ),
    ] = 10
    database_connect_timeout: Annotated[
        float,
        described(
            Group.DATABASE,
            "How long to wait for a connection",
            "A request that gets no connection to PostgreSQL in this time fails.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 5.0
    database_statement_timeout: Annotated[
        float,
        described(
            Group.DATABASE,
            "Time limit for a query",
            "Includes the time that PostgreSQL waits for locks held by other requests.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 30.0
    listen: Annotated[
        str,
        described(
            Group.NETWORK,
            "Address to listen on",
            "The default accepts connections from this machine only. Port 0 picks a free port. IPv6"
            " addresses are written in brackets: `[::1]:5000`. `unix:/run/portside/portside.sock`"
            " is a socket in the file system, for a proxy on this machine: every process that can"
            " connect to it is a trusted proxy. Limits for each connection do not apply to it.",
            unit="HOST:PORT",
        ),
    ] = "127.0.0.1:5000"
    socket_mode: Annotated[
        str,
        described(
            Group.NETWORK,
            "File mode of the socket of `--listen unix:`",
            "Clients need write access to connect. The default allows the user that runs Portside"
            " and its group. The umask does not apply.",
            unit="octal number",
            pattern=FILE_MODE,
        ),
    ] = "660"
    tls_certificate: Annotated[
        str,
        described(
            Group.NETWORK,
            "PEM file with the certificate chain",
            "Requires `tls-key`. Both are reloaded when they change. Empty: plain HTTP.",
            unit="path",
        ),
    ] = ""
    tls_key: Annotated[
        str,
        described(
            Group.NETWORK,
            "PEM file with the unencrypted private key",
            "RSA with 2048, 3072 or 4096 bits, P-256, P-384 or Ed25519. Requires"
            " `tls-certificate`.",
            unit="path",
        ),
    ] = ""
    public_url: Annotated[
        str,
        described(
            Group.NETWORK,
            "URL under which clients reach the registry",
            "Example: `https://registry.example`. Empty: derived from the Host header, and from"
            " what the proxies in `trusted-proxies` forward.",
            unit="URL",
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        described(
            Group.NETWORK,
            "Proxies whose forwarding headers are trusted",
            "An address or a network, such as `10.0.0.0/8`. Can be given several times. The headers"
            " are X-Forwarded-For, -Proto, -Host and -Port, and Forwarded, which is read only in"
            " requests without the others.",
            unit="address",
        ),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...],
        described(
            Group.NETWORK,
            "Origins of web pages that may use the registry",
            "Example: `https://ui.example`. Can be given several times; `*` stands for all, and"
            " keeps browsers from sending the credentials that they have saved. Blobs that are"
            " redirected also need a rule in the object store.",
            unit="ORIGIN",
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        described(
            Group.NETWORK,
            "More hosts to serve while open on loopback",
            "A registry that listens on a loopback address without access control serves"
            " `localhost` and loopback addresses only, so that web pages cannot reach it through a"
            " name of their own. Example: `host.docker.internal`, for containers. Can be given"
            " several times; the host of `public-url` is served as well.",
            unit="HOST",
            off="`*` serves every host.",
        ),
    ] = ()
    open: Annotated[
        bool,
        described(
            Group.ACCESS,
            "Allow everyone to push, pull and delete",
            "Turns access control off on any address, even if users exist. Without it, a registry"
            " that has no access control listens on this machine only.",
        ),
    ] = False
    anonymous: Annotated[
        tuple[str, ...],
        described(
            Group.ACCESS,
            "Actions allowed without credentials; repeatable",
            "Example: `public/*:pull`. Can be given several times; in the environment, separate"
            " values with spaces.",
            unit="PATTERN:ACTIONS",
        ),
    ] = ()
    htpasswd: Annotated[
        str,
        described(
            Group.ACCESS,
            "Apache htpasswd file with bcrypt hashes",
            "Reloaded when it changes.",
            unit="path",
        ),
    ] = ""
    access: Annotated[
        str,
        described(
            Group.ACCESS,
            "TOML file with groups, rules and issuers",
            "Reloaded when it changes. Empty: every user may do everything.",
            unit="path",
        ),
    ] = ""
    admin_password: Annotated[
        str,
        described(
            Group.ACCESS,
            "Password of a first user named admin",
            "`portside serve` adds the user `admin` with this password if no user or token has ever"
            " been added; otherwise the setting has no effect, and neither changes a password nor"
            " adds the user again. It is for containers, where the first start creates the"
            " registry; elsewhere, use `portside user add`. Name a file in"
            " `PORTSIDE_ADMIN_PASSWORD_FILE`: every user of the machine can read a command line."
            " Ignored with `open`.",
            unit="password",
            secret=True,
        ),
    ] = ""
    auth_scheme: Annotated[
        AuthScheme,
        described(
            Group.LOGINS,
            "Authentication scheme",
            "`bearer` sends clients to the token server for a token; `basic` asks for a name and a"
            " password with every request. `auto` is `basic` in the dialect `acr-2017`, otherwise"
            " `bearer`.",
        ),
    ] = AuthScheme.AUTO
    service: Annotated[
        str,
        described(
            Group.LOGINS,
            "Service name in challenges and tokens",
            "The audience of the tokens that the registry issues: 1 to 255 printable ASCII"
            ' characters, spaces among them, but not `"` and `\\`.',
            unit="name",
            pattern=SERVICE_NAME,
        ),
    ] = "portside"
    token_realm: Annotated[
        str,
        described(
            Group.LOGINS,
            "Token server to use instead of this one",
            "The URL named in challenges, for tokens of a trusted issuer. Empty: the token server"
            " of this registry.",
            unit="URL",
        ),
    ] = ""
    access_token_life: Annotated[
        int,
        described(
            Group.LOGINS,
            "Lifetime of an access token",
            "Clients expect at least 60 seconds. With 300 or less, the `acr` command requests a new"
            " one before each of its requests.",
            unit="seconds",
            ge=60,
            le=DAY,
        ),
    ] = 3600
    refresh_token_life: Annotated[
        int,
        described(
            Group.LOGINS,
            "Lifetime of a refresh token",
            "A refresh token expires earlier if its password is changed or removed.",
            unit="seconds",
            ge=60,
            le=TEN_YEARS,
        ),
    ] = 30 * 24 * 3600
    clock_skew: Annotated[
        int,
        described(
            Group.LOGINS,
            "Clock difference tolerated in tokens",
            "A token of a trusted issuer is accepted this long before it begins and after it"
            " expires; one of another node, before it begins.",
            unit="seconds",
            ge=0,
            le=600,
        ),
    ] = 60
    login_refresh_tokens: Annotated[
        bool,
        described(
            Group.LOGINS,
            "Give `docker login` a refresh token",
            "Docker then stores the refresh token instead of the password, as an identity token."
            " Other clients that read Docker's file, the kubelet among them, cannot use it.",
        ),
    ] = False
    credential_life: Annotated[
        float,
        described(
            Group.LOGINS,
            "How long to cache verified credentials",
            "Saves a slow password hash on most requests. Changes to users and tokens take effect"
            " at once all the same.",
            unit="seconds",
            off="`0` turns the cache off.",
            ge=0,
            le=DAY,
        ),
    ] = 60.0
    password_cost: Annotated[
        int,
        described(
            Group.LOGINS,
            "bcrypt cost of new passwords",
            "Each step doubles the work. 12 takes about a quarter of a second.",
            unit="steps",
            ge=4,
            le=16,
        ),
    ] = 12
    min_password_length: Annotated[
        int,
        described(
            Group.LOGINS,
            "Least length of new passwords of users",
            "What NIST SP 800-63B requires at the least; for passwords without a second factor, its"
            " revision 4 asks for 15. There are no rules about kinds of characters. Passwords that"
            " exist go on working.",
            unit="characters",
            off="`1` accepts any password that is not empty.",
            ge=1,
            le=72,
        ),
    ] = 8
    login_failures: Annotated[
        int,
        described(
            Group.LOGINS,
            "Failed logins before more are refused",
            "Counted per name and client address, within `login-window`. An address may fail ten"
            " times as often over all names. By design, clients behind one address share the count:"
            " after so many wrong passwords, a name cannot log in from that address, even with the"
            " right one, until the window is over. Set `trusted-proxies` behind a proxy.",
            unit="failures",
            off="`0` turns the limit off.",
            ge=0,
            le=1_000_000,
        ),
    ] = 10
    login_window: Annotated[
        int,
        described(
            Group.LOGINS,
            "How long a failed login counts",
            unit="seconds",
            ge=1,
            le=DAY,
        ),
    ] = 60
    login_queue: Annotated[
        int,
        described(
            Group.LOGINS,
            "Logins that may wait, for each worker",
            "Client addresses take turns, and none can fill the queue while others wait. Passwords"
            " of tokens do not wait.",
            unit="logins",
            ge=1,
            le=10_000,
        ),
    ] = 64
    dialect: Annotated[
        Dialect,
        described(
            Group.CONTENT,
            "API to imitate",
            "`oci` is what current clients expect. `acr-2017` returns the status codes of the 2017"
            " description of Azure Container Registry, for clients generated from it, and sends a"
            " tag as schema 1 unless `Accept` names the manifest's own media type.",
        ),
    ] = Dialect.OCI
    delete: Annotated[
        bool,
        described(
            Group.CONTENT,
            "Allow clients to delete",
            "Otherwise, every DELETE of content is answered with 405. The commands of Portside"
            " can still delete.",
        ),
    ] = True
    sparse_indexes: Annotated[
        bool,
        described(
            Group.CONTENT,
            "Accept indexes with missing manifests",
            "Otherwise, every manifest that an image index lists must be in the repository before"
            " the index is pushed.",
        ),
    ] = False
    rules: Annotated[
        str,
        described(
            Group.CONTENT,
            "TOML file with rules of retention and quotas",
            "Also holds immutable tags and webhooks. Reloaded when it changes. Empty: no tag or"
            " manifest is deleted by itself.",
            unit="path",
        ),
    ] = ""
    gc: Annotated[
        bool,
        described(
            Group.CONTENT,
            "Collect garbage while serving",
            "One process of all nodes works at a time. Without it, `portside collect` frees space.",
        ),
    ] = True
    gc_grace: Annotated[
        int,
        described(
            Group.CONTENT,
            "How long to keep unreferenced blobs",
            "The grace period of a blob to which no manifest in its repository refers. It begins"
            " anew when a client pushes or mounts the blob or is told that it exists, and is the"
            " time that the client has to push a manifest that refers to it.",
            unit="seconds",
            ge=1,
            le=TEN_YEARS,
        ),
    ] = DAY
    gc_interval: Annotated[
        int,
        described(
            Group.CONTENT,
            "How often to look for garbage",
            unit="seconds",
            ge=1,
            le=DAY,
        ),
    ] = 60
    keep_deleted: Annotated[
        int,
        described(
            Group.CONTENT,
            "How long deleted content can be restored",
            "Manifests, tags and repositories that were deleted take up space until then."
            " Commands use what the server was last started with, unless they are given another"
            " value. So they do for `--gc-grace`, `--tag-history` and `--upload-expiry`.",
            unit="seconds",
            off="`0` deletes for good.",
            ge=0,
            le=TEN_YEARS,
        ),
    ] = DAY
    tag_history: Annotated[
        int,
        described(
            Group.CONTENT,
            "How long to remember where tags pointed",
            "Each change of a tag is recorded, with who made it. Within this time, a tag can be"
            " pointed back to where it was, if that manifest is still there. What restoring deleted"
            " content takes is remembered for `--keep-deleted`.",
            unit="seconds",
            off="`0` remembers only the last change of each tag.",
            ge=0,
            le=TEN_YEARS,
        ),
    ] = 90 * DAY
    keep_events: Annotated[
        int,
        described(
            Group.CONTENT,
            "How long to keep events",
            "Each change of content and of access control is an event: who did what, when, and from"
            " where. `portside events` lists them. They contain names and addresses of people."
            " The last event is always kept.",
            unit="seconds",
            ge=3600,
            le=TEN_YEARS,
        ),
    ] = 90 * DAY
    retention_interval: Annotated[
        int,
        described(
            Group.CONTENT,
            "How often to apply the rules of retention",
            "One process of the registry does it, beside requests. `portside retention run` applies"
            " them at once.",
            unit="seconds",
            ge=1,
            le=DAY,
        ),
    ] = 3600
    upload_expiry: Annotated[
        int,
        described(
            Group.UPLOADS,
            "When an idle upload session expires",
            "A week is usual among registries. For as long, a finished session is remembered for a"
            " client that repeats its last request.",
            unit="seconds",
            ge=1,
            le=TEN_YEARS,
        ),
    ] = 7 * 24 * 3600
    upload_sweep_interval: Annotated[
        int,
        described(
            Group.UPLOADS,
            "How often to remove expired upload sessions",
            unit="seconds",
            ge=1,
            le=DAY,
        ),
    ] = 3600
    upload_hold_timeout: Annotated[
        float,
        described(
            Group.UPLOADS,
            "How long to wait for a busy upload session",
            "A session is busy while another request writes to it.",
            unit="seconds",
            ge=0,
            le=DAY,
        ),
    ] = 5.0
    max_open_uploads: Annotated[
        int,
        described(
            Group.UPLOADS,
            "Open upload sessions per identity and repository",
            "Anonymous clients count together. One more is refused with 429 until one is finished,"
            " cancelled or expires; a push in one request opens none.",
            unit="sessions",
            off="`0` turns the limit off.",
            ge=0,
            le=1_000_000,
        ),
    ] = 1000
    upload_memory: Annotated[
        int,
        described(
            Group.UPLOADS,
            "Upload memory per worker, for object stores",
            "An upload larger than 1 MiB takes 32 MiB, and waits until they are free. One upload at"
            " a time always proceeds.",
            unit="bytes",
            ge=0,
            le=1 << 50,
        ),
    ] = 512 * 1024 * 1024
    webhook_connections: Annotated[
        int,
        described(
            Group.WEBHOOKS,
            "Events sent to a receiver at a time",
            "Events of a repository are sent one after the other, those of several repositories at"
            " the same time. Each webhook has as many connections, in one process of all nodes.",
            unit="connections",
            ge=1,
            le=64,
        ),
    ] = 4
    webhook_timeout: Annotated[
        float,
        described(
            Group.WEBHOOKS,
            "How long a receiver may take to answer",
            "Includes the time to connect. An event that is not answered in time is sent again.",
            unit="seconds",
            gt=0,
            le=300,
        ),
    ] = 10.0
    webhook_expiry: Annotated[
        int,
        described(
            Group.WEBHOOKS,
            "How long to send an event again",
            "Counts from the first attempt. What fails for longer is dead: it is kept for"
            " `keep-events`, and `portside webhooks retry` sends it again.",
            unit="seconds",
            ge=60,
            le=TEN_YEARS,
        ),
    ] = 3 * DAY
    max_manifest_bytes: Annotated[
        int,
        described(
            Group.LIMITS,
            "Largest manifest accepted",
            "The distribution-spec asks for at least 4 MiB.",
            unit="bytes",
            ge=1,
            le=ROOM,
        ),
    ] = 4 * 1024 * 1024
    max_blob_bytes: Annotated[
        int,
        described(
            Group.LIMITS,
            "Largest blob accepted; 0: no limit",
            "Blobs are streamed, so that by default only the disk limits their size.",
            unit="bytes",
            off="`0` turns the limit off.",
            ge=0,
            le=LARGEST,
        ),
    ] = 0
    max_header_bytes: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum size of the request headers",
            "Counts the path, the query and the header fields. A query with a hundred tags of full"
            " length takes 14,000.",
            unit="bytes",
            ge=1024,
            le=256 * 1024,
        ),
    ] = 32 * 1024
    max_fields: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum number of parameters in a query or form",
            "A push of a manifest sends one for each of its tags, so keep it above"
            " `max-tags-per-push`.",
            unit="fields",
            ge=10,
            le=20_000,
        ),
    ] = 200
    max_tags_per_push: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum number of tags in a manifest push",
            "The distribution-spec asks for at least 10.",
            unit="tags",
            ge=1,
            le=10_000,
        ),
    ] = 100
    max_ranges: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum number of ranges in a blob request",
            "A request with more ranges gets the whole blob. Ranges that overlap or touch are sent"
            " as one; each part has a head of about 150 bytes.",
            unit="ranges",
            off="`0` ignores ranges: every request gets the whole blob.",
            ge=0,
            le=100_000,
        ),
    ] = 1024
    event_streams: Annotated[
        int,
        described(
            Group.LIMITS,
            "Event streams that each worker serves at once",
            "More are answered with 429. One identity, or one address of anonymous clients, may"
            " have a quarter of them. A stream takes little besides its connection.",
            unit="streams",
            off="`0` refuses all streams; events can still be read with `follow=false`.",
            ge=0,
            le=100_000,
        ),
    ] = 100
    page_limit: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum number of entries in a page of a list",
            "Also the page size for clients that do not ask for one.",
            unit="entries",
            ge=1,
            le=1_000_000,
        ),
    ] = 10_000
    max_referrers_bytes: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum size of a page of referrers",
            "Clients need not accept an index larger than 4 MiB.",
            unit="bytes",
            ge=1024,
            le=ROOM,
        ),
    ] = 3 * 1024 * 1024
    body_timeout: Annotated[
        float,
        described(
            Group.LIMITS,
            "Time limit for a pause in a request body",
            "The bytes that arrived before are kept, and the client can resume.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 60.0
    manifest_timeout: Annotated[
        float,
        described(
            Group.LIMITS,
            "Time limit for the whole body of a manifest",
            "A manifest is held in memory until all of it has arrived.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 120.0
    form_timeout: Annotated[
        float,
        described(
            Group.LIMITS,
            "Time limit for the whole body of a form",
            "Forms ask the token server for tokens, before anybody is logged in.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 30.0
    max_form_bytes: Annotated[
        int,
        described(
            Group.LIMITS,
            "Largest form accepted by the token server",
            "A form holds a token or two, and some scopes. A change of attributes under /acr/v1"
            " counts as a form.",
            unit="bytes",
            ge=1024,
            le=ROOM,
        ),
    ] = 256 * 1024
    body_memory: Annotated[
        int,
        described(
            Group.LIMITS,
            "Memory per worker for bodies that still arrive",
            "What all manifests and forms take together above 16 KiB of each; forms get a quarter"
            " of it. If it is taken, a larger body is refused with 429, and its client tries again."
            " Keep it above `max-manifest-bytes`.",
            unit="bytes",
            ge=0,
            le=1 << 50,
        ),
    ] = 256 * 1024 * 1024
    header_timeout: Annotated[
        float,
        described(
            Group.LIMITS,
            "Time limit for the request headers",
            "Counts from the start of a connection, TLS handshake included, or from the first byte"
            " of a further request. A connection without a request is then closed.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 30.0
    probe_interval: Annotated[
        float,
        described(
            Group.LIMITS,
            "How often /readyz tries the blob store",
            "Reads from it and writes to it. Per worker, while somebody asks. In between, and for a"
            " second in any case, everybody gets the last result; a store that fails is tried again"
            " after a second.",
            unit="seconds",
            ge=0,
            le=DAY,
        ),
    ] = 10.0
    idle_timeout: Annotated[
        float,
        described(
            Group.LIMITS,
            "How long to keep an idle connection open",
            "Longer than most load balancers keep theirs, so that they never send a request on a"
            " connection that is about to be closed.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 75.0
    write_timeout: Annotated[
        float,
        described(
            Group.LIMITS,
            "Time limit for a pause in reading a response",
            "A client that takes nothing of its response for this long is disconnected.",
            unit="seconds",
            gt=0,
            le=DAY,
        ),
    ] = 60.0
    max_connections: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum number of connections per worker",
            "Lowered, with a warning in the log, if the hard limit of open files (`RLIMIT_NOFILE`)"
            " is too low. Near the limit, connections without a request are closed"
            " first, then idle ones; the oldest go first.",
            unit="connections",
            ge=16,
            le=1_000_000,
        ),
    ] = 4096
    max_client_connections: Annotated[
        int,
        described(
            Group.LIMITS,
            "Maximum number of connections of a client per worker",
            "Counted per address, or per /64 network of IPv6. `trusted-proxies` are exempt.",
            unit="connections",
            off="`0` turns the limit off.",
            ge=0,
            le=1_000_000,
        ),
    ] = 256
    max_streams: Annotated[
        int,
        described(
            Group.LIMITS,
            "Requests at a time on an HTTP/2 connection",
            "Clients open further connections when they need more.",
            unit="requests",
            ge=1,
            le=1000,
        ),
    ] = 64
    metrics_listen: Annotated[
        str,
        described(
            Group.PROCESSES,
            "Address on which Prometheus reads metrics",
            "Served at `/metrics` on a separate listener, in plain HTTP and without access control:"
            " choose an address that only your monitoring reaches. Port 0 picks a free port.",
            unit="HOST:PORT",
            off="Empty: nothing is measured.",
        ),
    ] = ""
    traces_endpoint: Annotated[
        str,
        described(
            Group.PROCESSES,
            "Collector to which traces are sent",
            "The URL of an OpenTelemetry collector that receives OTLP over HTTP, such as"
            " `http://127.0.0.1:4318`; `/v1/traces` is added to it. Requires the extra"
            " `portside[otel]`. Credentials for the collector belong in"
            " `OTEL_EXPORTER_OTLP_HEADERS`.",
            unit="URL",
            off="Empty: nothing is traced.",
        ),
    ] = ""
    traces_ratio: Annotated[
        float,
        described(
            Group.PROCESSES,
            "Share of requests to trace",
            "Applies to traces that begin here. Where a trusted caller sends `traceparent`, the"
            " request is traced if the caller's is.",
            unit="ratio",
            off="`0` traces only what trusted callers trace.",
            ge=0,
            le=1,
        ),
    ] = 1.0
    traces_trust: Annotated[
        TracesTrust,
        described(
            Group.PROCESSES,
            "Whose traces are continued",
            "`proxies` continues the trace that a proxy in `trusted-proxies` sends in"
            " `traceparent`, and begins a new trace for everyone else, with a link to theirs."
            " `everyone` continues every trace: any client can then have its requests traced.",
        ),
    ] = TracesTrust.PROXIES
    workers: Annotated[
        int,
        described(
            Group.PROCESSES,
            "Worker processes",
            "More workers than CPU cores do not make the registry faster.",
            unit="processes",
            ge=1,
            le=256,
        ),
    ] = 2
    backlog: Annotated[
        int,
        described(
            Group.PROCESSES,
            "Connections that may wait to be accepted",
            "Shared by all workers.",
            unit="connections",
            ge=128,
            le=65535,
        ),
    ] = 1024
    shutdown_timeout: Annotated[
        int,
        described(
            Group.PROCESSES,
            "How long requests may run after SIGTERM",
            "Requests that take longer are cut off.",
            unit="seconds",
            ge=1,
            le=DAY,
        ),
    ] = 30
    access_log: Annotated[
        bool,
        described(
            Group.PROCESSES,
            "Log every request to standard error",
            "One line for each request, as a JSON object unless `log-format` is `text`.",
        ),
    ] = False
    log_format: Annotated[
        LogFormat,
        described(
            Group.PROCESSES,
            "Format of log lines",
            "`json` writes every line as a JSON object, `text` as text. `mixed` writes the access"
            " log as JSON and the other lines as text.",
        ),
    ] = LogFormat.MIXED
    log_level: Annotated[
        LogLevel,
        described(
            Group.PROCESSES,
            "Lowest level of log lines to write",
            "The access log does not depend on it.",
        ),
    ] = LogLevel.INFO

    def select(self, part: Callable[..., Part]) -> Part:
        """Return a struct of an inner layer, filled with the settings of the same names."""
        return part(**{name: getattr(self, name) for name in signature(part).parameters})

    def replacing(self, values: Mapping[str, Any]) -> Settings:
        """Return these settings with other values for some fields."""
        return msgspec.structs.replace(self, **values)

    @property
    def root(self) -> Path:
        """The data directory as an absolute path; raises SettingsInvalid."""
        if not self.data:
            raise SettingsInvalid("data must be the path of a directory; it is empty")
        try:
            return Path(self.data).expanduser().absolute()
        except (RuntimeError, OSError) as error:
            # The user does not exist, or the working directory was removed.
            raise SettingsInvalid(f"data cannot be {self.data!r}: {error}") from error

    @property
    def place(self) -> str:
        """Where the registry is stored, for people; raises SettingsInvalid."""
        blobs = self.storage or str(self.root)
        if self.database:
            return f"{self.shown_database} and {blobs}"
        return f"{self.root} and {blobs}" if self.storage else blobs

    @property
    def shown_database(self) -> str:
        """The URL of the database without its secrets; raises SettingsInvalid."""
        return without_password(self.database)

    @property
    def address(self) -> HostPort | Path:
        """The port or the path of the socket in `listen`; raises SettingsInvalid."""
        return parse_address(self.listen)

    @property
    def metrics_address(self) -> HostPort | None:
        """The port in `metrics_listen`, if there is one; raises SettingsInvalid."""
        return parse_host_port(self.metrics_listen) if self.metrics_listen else None

    @property
    def traces_url(self) -> str:
        """Where traces are sent; empty if nothing is traced."""
        if not self.traces_endpoint:
            return ""
        return self.traces_endpoint.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH

    @property
    def scheme(self) -> AuthScheme:
        """The authentication scheme, with `auto` resolved."""
        if self.auth_scheme is not AuthScheme.AUTO:
            return self.auth_scheme
        return AuthScheme.BASIC if self.dialect is Dialect.ACR_2017 else AuthScheme.BEARER

    @property
    def requires_credentials(self) -> bool:
        """Whether these settings turn access control on, even without any user."""
        return bool(self.anonymous or self.htpasswd or self.access)
