"""Settings as a list, and made from values that a person wrote."""

from __future__ import annotations

import enum
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from portside.config.addresses import (
    SettingsInvalid,
    check_hosts,
    check_networks,
    check_origins,
    check_url,
    shortened,
)
from portside.config.settings import FILE_MODE, SERVICE_NAME, Group, Settings

PATTERNS = {
    SERVICE_NAME: 'a name of 1 to 255 printable ASCII characters other than " and \\',
    FILE_MODE: 'a file mode in octal, such as "660"',
}
"""What each pattern accepts, in words."""


class Setting(NamedTuple):
    """One field of Settings, described."""

    name: str
    type: Any
    default: Any
    group: Group
    summary: str
    details: str
    unit: str
    off: str
    is_secret: bool
    least: float | None
    above: float | None
    most: float | None
    pattern: str | None

    @property
    def option(self) -> str:
        """The key in the TOML file; on the command line, two hyphens precede it."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"PORTSIDE_{self.name.upper()}"

    @property
    def file_variable(self) -> str:
        """The environment variable that names a file with the value, if it is a secret."""
        return f"{self.variable}_FILE"

    @property
    def is_flag(self) -> bool:
        """Whether it is either on or off."""
        return self.type is bool

    @property
    def is_list(self) -> bool:
        """Whether it can be given several times."""
        return get_origin(self.type) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it can have, if they can be listed."""
        if self.is_flag:
            return ("on", "off")
        is_enum = isinstance(self.type, type) and issubclass(self.type, enum.Enum)
        return tuple(str(choice) for choice in self.type) if is_enum else ()

    @property
    def shown_default(self) -> str:
        """The default as a person would write it; empty if there is none."""
        if self.is_flag:
            return "on" if self.default else "off"
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return "" if self.default == () else str(self.default)

    @property
    def bounds(self) -> str:
        """The smallest and the largest number that it can be; empty if it is not a number."""
        if self.most is None:
            return ""
        if self.above is not None:
            return f"above {self.above} and up to {self.most}"
        return f"from {self.least} to {self.most}"

    @property
    def expected(self) -> str:
        """A description of its values for error messages."""
        if self.choices:
            *others, last = self.choices
            return f"{', '.join(others)} or {last}"
        if self.bounds:
            unit = f" of {self.unit}" if self.unit in {"bytes", "seconds"} else ""
            return f"a {'whole ' if self.type is int else ''}number{unit} {self.bounds}"
        if self.pattern is not None:
            return PATTERNS[self.pattern]
        return f"a {'list of strings' if self.is_list else 'string'} ({self.unit})"


@cache
def list_settings() -> tuple[Setting, ...]:
    """Return every setting, in the order of the declarations."""
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
                summary=meta.description,
                least=meta.ge,
                above=meta.gt,
                most=meta.le,
                pattern=meta.pattern,
                **meta.extra,
            )
        )
    return tuple(found)


def make_settings(given: dict[str, Any]) -> Settings:
    """Return settings made from values by field name, which are text or what TOML reads.

    Raises SettingsInvalid, whose message names the setting.
    """
    settings = check_values(given, as_text=True)
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        pair = ["tls-certificate", "tls-key"]
        first, second = pair if settings.tls_certificate else reversed(pair)
        both = f"{first} requires {second}: they go together, so set both, or neither"
        raise SettingsInvalid(both)
    return settings


def check_values(given: dict[str, Any], *, as_text: bool) -> Settings:
    """Return settings made from values that are checked one by one, and not against each other.

    `as_text` accepts numbers written as text, and `2.0` for `2`. Raises SettingsInvalid.
    """
    try:
        settings = msgspec.convert(given, Settings, strict=not as_text)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(_explain(str(error), given, as_text=as_text)) from error
    for name, value in given.items():
        if "\0" in str(value):
            raise SettingsInvalid(f"{name.replace('_', '-')} must not contain a NUL character")
    _ = settings.address, settings.root
    check_networks(settings.trusted_proxies)
    check_hosts(settings.allowed_hosts)
    check_origins(settings.cors_origins)
    check_url("public_url", settings.public_url)
    check_url("token_realm", settings.token_realm, has_query=True)
    check_url("traces_endpoint", settings.traces_endpoint, may_be_secret=True)
    return settings


def _explain(message: str, given: dict[str, Any], *, as_text: bool) -> str:
    """Return what is expected, given a message such as "Expected `int` >= 1 - at `$.workers`"."""
    _, _, place = message.partition(" - at `$.")
    name = place.rstrip("`").partition("[")[0]
    wrong = next((setting for setting in list_settings() if setting.name == name), None)
    if wrong is None:
        return message
    expected = wrong.expected if as_text or not wrong.is_flag else "true or false"
    return f"{wrong.option} must be {expected}, not {shortened(given[name])}"
