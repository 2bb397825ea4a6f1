"""The commands of `portside`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, NoReturn

import click

from portside import __version__
from portside.bootstrap import opened_stores
from portside.cli.options import settings_options
from portside.cli.server import ServerError, serve
from portside.config import Settings, SettingsInvalid, make_settings
from portside.operations.check import Tally
from portside.operations.check import check as find_problems
from portside.operations.collect import collect_strays
from portside.spec.errors import RegistryError, Unavailable


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="portside")
def commands() -> None:
    """Portside, a container registry: push, pull, and nothing else to install."""


@commands.command("serve")
@settings_options()
def serve_command(**given: Any) -> None:
    """Serve the registry until SIGTERM or Ctrl-C."""
    serve(_settings(given))


@commands.command("check")
@settings_options("data")
def check_command(**given: Any) -> None:
    """Verify everything that is stored; exit with 1 if something is wrong.

    Every blob is read to its end. Nothing is changed.
    """
    settings = _settings(given)
    _must_exist(settings)
    tally = Tally()
    problems = 0
    with opened_stores(settings) as stores:
        for problem in find_problems(stores.metadata, stores.blobs, tally):
            problems += 1
            click.echo(problem)
    seen = (
        f"{tally.manifests} manifests, {tally.blobs} blobs ({tally.bytes} bytes),"
        f" {tally.uploads} upload sessions"
    )
    click.echo(f"{problems} problems in {seen}" if problems else f"No problem in {seen}.")
    if problems:
        sys.exit(1)


@commands.command("collect")
@settings_options("data")
def collect_command(**given: Any) -> None:
    """Remove stored bytes that no repository knows of, as a crash can leave them.

    The registry may run meanwhile.
    """
    settings = _settings(given)
    _must_exist(settings)
    with opened_stores(settings) as stores:
        freed = asyncio.run(collect_strays(stores.metadata, stores.blobs))
    click.echo(f"{freed} bytes freed.")


def _settings(given: dict[str, Any]) -> Settings:
    return make_settings({name: value for name, value in given.items() if value is not None})


def _must_exist(settings: Settings) -> None:
    if not (settings.root / "portside.db").is_file():
        nothing = f"{settings.root} holds no registry; name its directory with --data"
        raise Unavailable(nothing)


def main() -> NoReturn:
    """Run the command line; a mistake ends in one line on standard error."""
    try:
        commands(prog_name="portside", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (SettingsInvalid, ServerError) as error:
        _fail(str(error))
    except RegistryError as error:
        _fail("; ".join(error.details))
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    click.echo(f"portside: {message}", err=True)
    sys.exit(1)
