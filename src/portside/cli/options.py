"""Settings as options of commands, environment variables and keys of a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from portside.config import Setting, SettingsInvalid, check_values, list_settings

Function = TypeVar("Function", bound=Callable[..., Any])

OTHER_SPELLINGS = (
    "Each setting also has an environment variable, such as PORTSIDE_DATA for --data, and a key in"
    " the TOML file, such as data."
)
WIDEST = 40
"""Columns that the names of options may take before their help starts on a line of its own."""


class Command(click.Command):
    """A command whose help lists settings under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write options that are not settings first, then one section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue
            heading = parameter.setting.group if isinstance(parameter, SettingOption) else "Options"
            if record := parameter.get_help_record(ctx):
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=WIDEST)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Explain the other spellings of settings once, instead of with each setting."""
        super().format_epilog(ctx, formatter)
        if any(isinstance(parameter, SettingOption) for parameter in self.params):
            formatter.write_paragraph()
            formatter.write_text(OTHER_SPELLINGS)


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = Command


class SettingOption(click.Option):
    """A setting as an option; its value comes from the environment or a file as well."""

    def __init__(self, _: Sequence[str], *, setting: Setting) -> None:
        name = f"--{setting.option}"
        super().__init__(
            [f"{name}/--no-{setting.option}" if setting.is_flag else name, setting.name],
            type=_Switch() if setting.is_flag else str,
            metavar=None if setting.is_flag else _metavar(setting),
            default=None,
            multiple=setting.is_list,
            envvar=setting.variable,
        )
        self.setting = setting

    def get_help_record(self, _: click.Context) -> tuple[str, str]:
        """Return the spelling and the summary, with the default unless it is off or empty."""
        setting = self.setting
        name = f"--[no-]{setting.option}" if setting.is_flag else f"--{setting.option}"
        default = "" if setting.is_flag and not setting.default else setting.shown_default
        shown = f"{setting.summary}  [default: {default}]" if default else setting.summary
        return (name if setting.is_flag else f"{name} {self.metavar}", shown)


def settings_options(*names: str) -> Callable[[Function], Function]:
    """Add `--config` and the options for the named settings, or for all of them, to a command."""
    wanted = [setting for setting in list_settings() if not names or setting.name in names]

    def decorate(function: Function) -> Function:
        for setting in reversed(wanted):
            function = click.option(cls=SettingOption, setting=setting)(function)
        return click.option(
            "--config",
            envvar="PORTSIDE_CONFIG",
            show_envvar=True,
            type=click.Path(path_type=Path),
            is_eager=True,
            expose_value=False,
            callback=_read_file,
            help="Read settings from a TOML file.",
        )(function)

    return decorate


def _metavar(setting: Setting) -> str:
    """Return the choices, or what a value is."""
    if setting.choices:
        return "|".join(setting.choices)
    is_count = setting.bounds and setting.unit not in {"bytes", "seconds"}
    return "N" if is_count else setting.unit.upper()


def _read_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Use the values of the file as the defaults of all other options; raises SettingsInvalid."""
    if path is not None:
        context.default_map = read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file; return its values by the names of settings. Raises SettingsInvalid."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        unreadable = f"cannot read {path}: {error.strerror}"
        raise SettingsInvalid(unreadable) from error
    except (ValueError, RecursionError) as error:
        # Bytes that are not UTF-8 and numbers of 5000 digits raise ValueError, too.
        malformed = f"{path} is not valid TOML: {error}"
        raise SettingsInvalid(malformed) from error
    known = {setting.option: setting.name for setting in list_settings()}
    for key in values:
        if key not in known:
            raise SettingsInvalid(
                f"{path} sets {key!r}, which is not a setting; see `portside serve --help`"
            )
    named = {known[key]: value for key, value in values.items()}
    try:
        check_values(named, as_text=False)
    except SettingsInvalid as error:
        raise SettingsInvalid(f"{path}: {error}") from error
    return named


class _Switch(click.types.BoolParamType):
    """On or off, in any of the spellings that `click` knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert a value from the environment or a file; raises SettingsInvalid."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            name = str(param.name).replace("_", "-") if param else "it"
            raise SettingsInvalid(f"{name} must be on or off, not {value[:80]!r}") from error
