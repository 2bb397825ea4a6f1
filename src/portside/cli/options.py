"""Settings as command line options, environment variables and keys of a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from portside.config import Setting, SettingsInvalid, check_values, list_settings

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Give a command the options for the named settings, or for all of them, and `--config`."""
    wanted = [setting for setting in list_settings() if not names or setting.name in names]

    def decorate(command: Command) -> Command:
        for setting in reversed(wanted):
            command = _option(setting)(command)
        return click.option(
            "--config",
            envvar="PORTSIDE_CONFIG",
            show_envvar=True,
            type=click.Path(path_type=Path),
            is_eager=True,
            expose_value=False,
            callback=_read_file,
            help="TOML file with settings; the command line and the environment override it.",
        )(command)

    return decorate


def _option(setting: Setting) -> Callable[[Command], Command]:
    name = f"--{setting.option}"
    is_flag = setting.type is bool
    declared = f"{name}/--no-{setting.option}" if is_flag else name
    shown = f"{setting.description}  [default: {setting.shown_default}]"
    return click.option(
        declared,
        setting.name,
        type=_Switch() if is_flag else str,
        metavar=None if is_flag else _metavar(setting),
        default=None,
        multiple=setting.is_list,
        envvar=setting.variable,
        show_envvar=True,
        help=shown,
    )


def _metavar(setting: Setting) -> str:
    """Name the unit, or the choices."""
    is_choice = " or " in setting.unit
    return setting.unit.replace(" or ", "|") if is_choice else setting.unit.upper()


def _read_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults of all other options; raises SettingsInvalid."""
    if path is not None:
        context.default_map = read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """Read the values of a TOML file by the names of settings; raises SettingsInvalid."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        unreadable = f"cannot read {path}: {error.strerror}"
        raise SettingsInvalid(unreadable) from error
    except (ValueError, RecursionError) as error:
        # Among the errors of values are bytes that are no UTF-8, and numbers of 5000 digits.
        malformed = f"{path} is not valid TOML: {error}"
        raise SettingsInvalid(malformed) from error
    known = {setting.option: setting.name for setting in list_settings()}
    for key in values:
        if key not in known:
            unknown = (
                f"{path} sets {key!r}, which is no setting; `portside serve --help` lists them"
            )
            raise SettingsInvalid(unknown)
    named = {known[key]: value for key, value in values.items()}
    try:
        check_values(named, as_text=False)
    except SettingsInvalid as error:
        raise SettingsInvalid(f"{path}: {error}") from error
    return named


class _Switch(click.types.BoolParamType):
    """On or off, in any of the spellings that `click` knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a value from the environment or a file; raises SettingsInvalid."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            name = str(param.name).replace("_", "-") if param else "it"
            raise SettingsInvalid(f"{name} must be on or off, not {value[:80]!r}") from error
