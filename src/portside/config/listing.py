"""Settings as a list, for whoever reads or documents them."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from portside.config.addresses import SettingsInvalid, check_networks, check_url, shortened
from portside.config.settings import Settings


class Setting(NamedTuple):
    """One field of Settings, for whoever lists them."""

    name: str
    type: Any
    default: Any
    unit: str
    description: str
    least: float | None
    above: float | None
    most: float | None

    @property
    def is_list(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.type) is tuple

    @property
    def shown_default(self) -> str:
        """The default, in words."""
        if self.type is bool:
            return "on" if self.default else "off"
        return (
            str(self.default or "none")
            if isinstance(self.default, str | tuple)
            else str(self.default)
        )

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        nouns = {int: "a whole number", float: "a number", str: f"text ({self.unit})"}
        noun = nouns.get(self.type, self.unit)
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


@cache
def list_settings() -> tuple[Setting, ...]:
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
    return tuple(found)


def make_settings(given: dict[str, Any]) -> Settings:
    """Make settings of values by field name, as text or as what TOML gives.

    Raises SettingsInvalid with a message that names the setting.
    """
    settings = check_values(given, as_text=True)
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        both = "tls-certificate and tls-key go together: set both, or neither"
        raise SettingsInvalid(both)
    return settings


def check_values(given: dict[str, Any], *, as_text: bool) -> Settings:
    """Make settings of some values, each of which is looked at by itself.

    `as_text` lets a number be written as text, and one of another type that has the same value.
    Raises SettingsInvalid.
    """
    try:
        settings = msgspec.convert(given, Settings, strict=not as_text)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(_explain(str(error), given, as_text=as_text)) from error
    for name, value in given.items():
        if "\0" in str(value):
            raise SettingsInvalid(f"{name.replace('_', '-')} must be text without a NUL")
    _ = settings.address, settings.root
    check_networks(settings.trusted_proxies)
    for name in ("public_url", "token_realm"):
        check_url(name, getattr(settings, name))
    return settings


def _explain(message: str, given: dict[str, Any], *, as_text: bool) -> str:
    """Say what the setting may be that "Expected `int` >= 1 - at `$.workers`" is about."""
    _, _, place = message.partition(" - at `$.")
    name = place.rstrip("`").partition("[")[0]
    wrong = next((setting for setting in list_settings() if setting.name == name), None)
    if wrong is None:
        return message
    expected = wrong.expected if as_text or wrong.type is not bool else "true or false"
    return f"{wrong.option} must be {expected}, not {shortened(given[name])}"
