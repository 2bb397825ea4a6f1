"""Settings of what is served, and within which limits."""

from __future__ import annotations

from typing import Annotated

from portside.config.describing import DAY, LARGEST, ROOM, TEN_YEARS, described
from portside.config.keeping import KeepingSettings
from portside.spec.dialects import Dialect


class ServingSettings(KeepingSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to serve, and how much of everything."""

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
