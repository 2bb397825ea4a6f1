"""Settings of what is served, and within which limits."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from portside.spec.dialects import Dialect


def described(description: str, unit: str, **bounds: Any) -> Meta:
    """Annotate a setting with what a person needs to know of it."""
    return Meta(description=description, extra={"unit": unit}, **bounds)


class Redirect(enum.StrEnum):
    """Which pulls of blobs the object store answers itself."""

    ALWAYS = "always"
    NEVER = "never"
    LARGE = "large"


DAY = 24 * 3600
"""Seconds: nobody who is asked to wait for longer is there any more."""

TEN_YEARS = 3650 * DAY
"""Seconds: longer than anything is kept, and short enough to be reckoned with in microseconds."""

LARGEST = 2**63 - 1
"""What file systems and SQLite count bytes with."""

ROOM = 1 << 30
"""Bytes: what one request can be let take of the memory of most machines."""


class ServingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to serve, what to keep, and how much of everything."""

    listen: Annotated[
        str,
        described(
            "Address and port to serve on. Port 0 takes a free one. The default is reachable from"
            " this machine only.",
            "HOST:PORT",
        ),
    ] = "127.0.0.1:5000"
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
