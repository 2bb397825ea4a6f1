"""Settings of where a registry is kept."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from portside.config.describing import DAY, LARGEST, described


class Redirect(enum.StrEnum):
    """Which pulls of blobs the object store answers itself."""

    ALWAYS = "always"
    NEVER = "never"
    LARGE = "large"


class KeepingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The database, the blobs, and the ways to both."""

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
