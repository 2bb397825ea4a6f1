"""Settings as command line options, environment variables and keys of a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from portside.config import Setting, SettingsInvalid, list_settings

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
            type=click.Path(dir_okay=False, path_type=Path),
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
    default = ("on" if setting.default else "off") if is_flag else str(setting.default)
    shown = f"{setting.description}  [default: {default or 'none'}]"
    return click.option(
        declared,
        setting.name,
        type=bool if is_flag else str,
        metavar=None if is_flag else _metavar(setting),
        default=None,
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
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        unreadable = f"cannot read {path}: {error.strerror}"
        raise SettingsInvalid(unreadable) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        malformed = f"{path} is not valid TOML: {error}"
        raise SettingsInvalid(malformed) from error
    known = {setting.option: setting.name for setting in list_settings()}
    for key, value in values.items():
        if key not in known:
            unknown = (
                f"{path} sets {key!r}, which is no setting; `portside serve --help` lists them"
            )
            raise SettingsInvalid(unknown)
        if not isinstance(value, str | int | float | bool):
            nested = f"{path}: {key} must be a single value"
            raise SettingsInvalid(nested)
    context.default_map = {known[key]: value for key, value in values.items()}
