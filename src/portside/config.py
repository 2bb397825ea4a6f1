"""Every setting, once: its name, type, unit, default, and the reason for the default.

The command line, the environment and the TOML file are three spellings of the same fields:
`--page-limit`, `PORTSIDE_PAGE_LIMIT` and `page-limit = …`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Meta

from portside.spec.dialects import Dialect


class SettingsInvalid(Exception):
    """A setting has a value that it cannot have; the message is for the person who set it."""


def _setting(description: str, unit: str, **bounds: Any) -> Meta:
    return Meta(description=description, extra={"unit": unit}, **bounds)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a registry is started with."""

    listen: Annotated[
        str,
        _setting(
            "Address and port to serve on. Port 0 takes a free one. The default is reachable from"
            " this machine only.",
            "HOST:PORT",
        ),
    ] = "127.0.0.1:5000"
    data: Annotated[
        str, _setting("Directory that holds everything; it is made if it is not there.", "path")
    ] = "data"
    workers: Annotated[
        int,
        _setting(
            "Processes that serve requests. Two use two cores; more than the machine has cores is"
            " no faster.",
            "processes",
            ge=1,
            le=256,
        ),
    ] = 2
    dialect: Annotated[
        Dialect,
        _setting(
            "Which description the answers follow: that of today's clients, or that of Azure"
            " Container Registry of 2017.",
            "oci or acr-2017",
        ),
    ] = Dialect.OCI
    tls_certificate: Annotated[
        str, _setting("PEM file with the certificate chain. Empty: plain HTTP.", "path")
    ] = ""
    tls_key: Annotated[
        str, _setting("PEM file with the certificate's private key. Empty: plain HTTP.", "path")
    ] = ""
    max_manifest_bytes: Annotated[
        int,
        _setting(
            "Largest manifest that is accepted. The distribution-spec asks for 4 MiB at least.",
            "bytes",
            ge=1,
            le=1 << 30,
        ),
    ] = 4 * 1024 * 1024
    max_blob_bytes: Annotated[
        int,
        _setting(
            "Largest blob that is accepted. 0: no limit but the disk, as blobs are streamed.",
            "bytes",
            ge=0,
        ),
    ] = 0
    max_header_bytes: Annotated[
        int,
        _setting(
            "Most bytes of path, query and header fields of a request. A hundred tags of full"
            " length in a query need 14,000.",
            "bytes",
            ge=1024,
            le=256 * 1024,
        ),
    ] = 32 * 1024
    max_tags_per_push: Annotated[
        int,
        _setting(
            "Most tags in one manifest push. The distribution-spec asks for 10 at least.",
            "tags",
            ge=1,
            le=10_000,
        ),
    ] = 100
    max_ranges: Annotated[
        int,
        _setting(
            "Most ranges in one request for a blob; above it, the whole blob is sent. 0: ranges"
            " are ignored.",
            "ranges",
            ge=0,
            le=1000,
        ),
    ] = 16
    page_limit: Annotated[
        int,
        _setting(
            "Most entries in one page of a list, and the size of a page where a client names none.",
            "entries",
            ge=1,
            le=1_000_000,
        ),
    ] = 10_000
    max_referrers_bytes: Annotated[
        int,
        _setting(
            "Most bytes of annotations in one page of referrers: clients need to accept an index"
            " of 4 MiB only.",
            "bytes",
            ge=1024,
        ),
    ] = 3 * 1024 * 1024
    sparse_indexes: Annotated[
        bool,
        _setting(
            "Accept an index although manifests that it lists are not in the repository.",
            "on or off",
        ),
    ] = False
    delete: Annotated[
        bool, _setting("Let clients delete. Off: every DELETE of content answers 405.", "on or off")
    ] = True
    upload_expiry: Annotated[
        int,
        _setting(
            "Time after which an upload session that nobody uses ends. A week, as in other"
            " registries.",
            "seconds",
            ge=1,
        ),
    ] = 7 * 24 * 3600
    upload_sweep_interval: Annotated[
        int,
        _setting("Time between two looks for upload sessions that have expired.", "seconds", ge=1),
    ] = 3600
    upload_hold_timeout: Annotated[
        float,
        _setting(
            "Time that a request waits for another one that writes to the same upload session.",
            "seconds",
            ge=0,
        ),
    ] = 5.0
    body_timeout: Annotated[
        float,
        _setting(
            "Time that a client may be silent within a request body; what arrived is kept.",
            "seconds",
            gt=0,
        ),
    ] = 60.0
    header_timeout: Annotated[
        float,
        _setting("Time that a client may take to send the head of a request.", "seconds", gt=0),
    ] = 30.0
    shutdown_timeout: Annotated[
        int,
        _setting(
            "Time that requests in flight are given to finish after SIGTERM.", "seconds", ge=1
        ),
    ] = 30
    backlog: Annotated[
        int,
        _setting(
            "Connections that may wait to be accepted, in all workers together.",
            "connections",
            ge=128,
            le=65535,
        ),
    ] = 1024
    access_log: Annotated[
        bool,
        _setting("Write one line for each request to standard error, as JSON.", "on or off"),
    ] = False

    @property
    def root(self) -> Path:
        """The data directory as an absolute path."""
        return Path(self.data).expanduser().absolute()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; raises SettingsInvalid."""
        host, colon, port = self.listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):  # noqa: PLR2004
            shape = f"listen must be HOST:PORT, such as 127.0.0.1:5000, not {self.listen!r}"
            raise SettingsInvalid(shape)
        return host, int(port)


class Setting(NamedTuple):
    """One field of Settings, for whoever lists them."""

    name: str
    type: type
    default: Any
    unit: str
    description: str
    least: float | None
    above: float | None
    most: float | None

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        noun = {int: "a whole number", float: "a number", str: "text"}.get(self.type, self.unit)
        bounds = [
            f"{self.least} or more" if self.least is not None else "",
            f"more than {self.above}" if self.above is not None else "",
            f"{self.most} or less" if self.most is not None else "",
        ]
        return ", ".join(filter(None, (noun, *bounds)))

    @property
    def option(self) -> str:
        """The spelling in the TOML file, and with two hyphens before it on the command line."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The spelling in the environment."""
        return f"PORTSIDE_{self.name.upper()}"


def list_settings() -> list[Setting]:
    """List every setting in the order in which they stand above."""
    hints = get_type_hints(Settings, include_extras=True)
    defaults = Settings()
    found = []
    for name in Settings.__struct_fields__:
        kind, meta = get_args(hints[name])
        found.append(
            Setting(
                name,
                kind,
                getattr(defaults, name),
                meta.extra["unit"],
                meta.description,
                least=meta.ge,
                above=meta.gt,
                most=meta.le,
            )
        )
    return found


def make_settings(given: dict[str, Any]) -> Settings:
    """Make settings of values by field name, as text or as what TOML gives.

    Raises SettingsInvalid with a message that names the setting.
    """
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(_explain(str(error), given)) from error
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        both = "tls-certificate and tls-key go together: set both, or neither"
        raise SettingsInvalid(both)
    _ = settings.address
    return settings


def _explain(message: str, given: dict[str, Any]) -> str:
    """Say what the setting may be that "Expected `int` >= 1 - at `$.workers`" is about."""
    _, _, place = message.partition(" - at `$.")
    name = place.rstrip("`")
    wrong = next((setting for setting in list_settings() if setting.name == name), None)
    return f"{wrong.option} must be {wrong.expected}, not {given[name]!r}" if wrong else message
