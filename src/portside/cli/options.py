"""Settings as options of commands, environment variables and keys of a TOML file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from portside.config import Setting, SettingsInvalid, check_values, list_settings
from portside.files.text import FileInvalid, FileUnreadable, read_secret, read_text

Function = TypeVar("Function", bound=Callable[..., Any])

OTHER_SPELLINGS = (
    "Each setting also has an environment variable, such as PORTSIDE_DATA for --data, and a key in"
    " the TOML file, such as data."
)
CLOUD_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "PGPASSWORD",
)
"""Variables that the clients of object stores and of PostgreSQL read."""

PREFIX = "PORTSIDE_"
"""What the variable of every setting begins with."""

CONFIG = "portside.config"
"""Where a context keeps the path of the TOML file."""

WIDEST = 40
"""Columns that the names of options may take before their help starts on a line of its own."""


class Command(click.Command):
    """A command whose help lists settings under the headings of their groups."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the command line; raises SettingsInvalid and UsageError."""
        context = super().make_context(info_name, args, parent, **extra)
        if any(isinstance(parameter, SettingOption) for parameter in self.params):
            refuse_unknown_variables(os.environ)
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; raises SettingsInvalid, which says where a wrong value was given."""
        try:
            return super().invoke(ctx)
        except (SettingsInvalid, FileInvalid) as error:
            raise _located(error, ctx) from error

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

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value in the environment, or in the file that it names for a secret.

        Raises SettingsInvalid.
        """
        given = super().resolve_envvar_value(ctx)
        file = os.environ.get(self.setting.file_variable) if self.setting.is_secret else None
        return read_variable(self.setting.variable, file) if file else given

    def get_help_record(self, _: click.Context) -> tuple[str, str]:
        """Return the spelling and the summary, with the default unless it is off or empty."""
        setting = self.setting
        name = f"--[no-]{setting.option}" if setting.is_flag else f"--{setting.option}"
        default = "" if setting.is_flag and not setting.default else setting.shown_default
        shown = f"{setting.summary}  [default: {default}]" if default else setting.summary
        return (name if setting.is_flag else f"{name} {self.metavar}", shown)


def _located(error: SettingsInvalid | FileInvalid, ctx: click.Context) -> Exception:
    """Return an error that says where the setting with which its message begins was given."""
    option = str(error).partition(" ")[0].rstrip(":")
    setting = next((known for known in list_settings() if known.option == option), None)
    source = ctx.get_parameter_source(setting.name) if setting is not None else None
    if setting is None or source is None:
        return error
    if source is ParameterSource.COMMANDLINE:
        return click.UsageError(str(error), ctx)
    if source is ParameterSource.ENVIRONMENT:
        is_file = setting.is_secret and os.environ.get(setting.file_variable)
        variable = setting.file_variable if is_file else setting.variable
        return SettingsInvalid(f"{variable}: {error}")
    if source is ParameterSource.DEFAULT_MAP:
        return SettingsInvalid(f"{ctx.meta[CONFIG]}: {error}")
    return error


SERVICE_LINK = re.compile(
    r"PORTSIDE_(\w+_)?("
    r"SERVICE_HOST=[0-9a-fA-F:.]+"
    r"|SERVICE_PORT(_\w+)?=[0-9]+"
    r"|PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.+"
    r"|PORT_[0-9]+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.+)"
)
"""Variables that Kubernetes sets for services whose names begin with portside, with their values.

A person who writes PORTSIDE_PORT=8080 means something else.
"""

OTHER_WORDS = {"PORT": "LISTEN", "HOST": "LISTEN", "ADDRESS": "LISTEN", "URL": "PUBLIC_URL"}
"""What other programs call a setting."""

NEAR = 0.6
"""How much of a name has to agree with that of a setting for both to be the same, misspelled."""


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Refuse variables that begin as settings do, and are not one; raises SettingsInvalid.

    A command that ignored them would go on without the access control that they ask for, or in the
    wrong directory.
    """
    settings = list_settings()
    known = {setting.variable for setting in settings} | {"PORTSIDE_CONFIG"}
    known |= {setting.file_variable for setting in settings if setting.is_secret}
    unknown = [
        variable
        for variable, value in sorted(environment.items())
        if variable.upper().startswith(PREFIX)
        and variable not in known
        and not SERVICE_LINK.fullmatch(f"{variable}={value}")
    ]
    if unknown:
        raise SettingsInvalid("; ".join(_explain_variable(variable, known) for variable in unknown))


def _explain_variable(variable: str, known: set[str]) -> str:
    """Return what to do about a variable that is not a setting.

    The names are compared without what all of them begin with.
    """
    names = {name.removeprefix(PREFIX) for name in known}
    name = variable.upper().removeprefix(PREFIX)
    meant = OTHER_WORDS.get(name, name.removesuffix("_FILE"))
    near = [meant] if meant in names else get_close_matches(name, sorted(names), 1, NEAR)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "see `portside serve --help`"
    return f"{variable} is not a setting; {hint}"


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


def read_variable(variable: str, file: str) -> str:
    """Return the value that a file holds for a secret variable; raises SettingsInvalid."""
    if os.environ.get(variable):
        raise SettingsInvalid(f"{variable} and {variable}_FILE are both set; set only one of them")
    try:
        return read_secret(file)
    except FileUnreadable as error:
        raise SettingsInvalid(f"{variable}_FILE: {error}") from error


def read_cloud_secrets() -> None:
    """Set each secret variable of the clouds' tools whose file is named; raises SettingsInvalid."""
    for variable in CLOUD_SECRETS:
        if file := os.environ.get(f"{variable}_FILE"):
            os.environ[variable] = read_variable(variable, file)
            del os.environ[f"{variable}_FILE"]


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
        context.meta[CONFIG] = path


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file; return its values by the names of settings. Raises SettingsInvalid."""
    try:
        values = tomllib.loads(read_text(path))
    except FileUnreadable as error:
        raise SettingsInvalid(str(error)) from error
    except (ValueError, RecursionError) as error:
        # Numbers of 5000 digits raise ValueError, too.
        malformed = f"{path} is not valid TOML: {error}"
        raise SettingsInvalid(malformed) from error
    known = {setting.option: setting.name for setting in list_settings()}
    for key, value in values.items():
        if key not in known:
            raise SettingsInvalid(f"{path} sets {key!r}, which {_explain_key(key, value, known)}")
    named = {known[key]: value for key, value in values.items()}
    try:
        check_values(named, as_text=False)
    except SettingsInvalid as error:
        raise SettingsInvalid(f"{path}: {error}") from error
    return named


def _explain_key(key: str, value: Any, known: Mapping[str, str]) -> str:
    """Return why a key of a file is not one of the settings, and what to do about it."""
    if isinstance(value, dict):
        return "is a table; settings are written at the top of the file, without one"
    near = get_close_matches(key.lower().replace("_", "-"), sorted(known), 1, NEAR)
    hint = f"did you mean {near[0]}?" if near else "see `portside serve --help`"
    return f"is not a setting; {hint}"


class _Switch(click.types.BoolParamType):
    """On or off, in any of the spellings that `click` knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert a value from the environment or a file; raises SettingsInvalid."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            name = str(param.name).replace("_", "-") if param else "it"
            wrong = SettingsInvalid(f"{name} must be on or off, not {value[:80]!r}")
            raise (_located(wrong, ctx) if ctx is not None else wrong) from error
