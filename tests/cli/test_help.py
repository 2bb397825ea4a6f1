"""What `--help` shows."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from portside.cli.commands import commands
from portside.config import Setting, list_settings


def all_commands(command: click.Command, path: str = "portside") -> Iterator[tuple[str, str]]:
    """Yield the path and the help of a command and of every command below it."""
    context = click.Context(command, info_name=path, terminal_width=100)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from all_commands(member, f"{path} {name}")


HELP = dict(all_commands(commands))


@pytest.mark.parametrize("setting", list_settings(), ids=lambda setting: setting.name)
def test_setting(setting: Setting) -> None:
    """Each setting is one line under the heading of its group."""
    section = HELP["portside serve"].partition(f"\n{setting.group}:\n")[2].partition("\n\n")[0]
    name = f"--[no-]{setting.option}" if setting.is_flag else f"--{setting.option} "
    (line,) = [line for line in section.splitlines() if line.startswith(f"  {name}")]
    assert setting.summary in line
    is_shown = setting.shown_default not in ("", "off")
    assert line.endswith(f"[default: {setting.shown_default}]" if is_shown else setting.summary)


@pytest.mark.parametrize("path", HELP)
def test_command(path: str) -> None:
    """Each command says what it does, and each option has a help text."""
    usage, _, rest = HELP[path].partition("\n\n")
    assert usage.startswith(f"Usage: {path} ")
    assert rest.startswith("  ")
    for line in rest.splitlines():
        assert not line.startswith("  --") or "  " in line.strip(), line
