"""The commands of `portside`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import click

from portside import __version__
from portside.auth.files import FileInvalid
from portside.auth.registrar import RegistrarError
from portside.bootstrap import Stores, now, opened_stores
from portside.cli.access import access
from portside.cli.announcement import drop_output
from portside.cli.certificates import CertificateInvalid
from portside.cli.keys import keys
from portside.cli.options import settings_options
from portside.cli.registry import read_settings, require_registry
from portside.cli.scope_maps import scope_map
from portside.cli.server import ServerError, serve
from portside.cli.tokens import token
from portside.cli.users import user
from portside.config import Settings, SettingsInvalid
from portside.operations.check import Tally
from portside.operations.check import check as find_problems
from portside.operations.collect import Collected, collect_strays
from portside.spec.errors import RegistryError, Unavailable

STRAY_PAUSE = 0.5
"""Seconds after which a file that a registry had no use for any more is gone."""

LEFTOVER_AGE = 3600
"""Seconds after which a file that nobody has locked is what a crash left."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="portside")
def commands() -> None:
    """Portside, a container registry: push, pull, and nothing else to install."""


@commands.command("serve")
@settings_options()
def serve_command(**given: Any) -> None:
    """Serve the registry until SIGTERM or Ctrl-C."""
    serve(read_settings(given))


@commands.command("check")
@settings_options("data", "storage", "storage_http")
def check_command(**given: Any) -> None:
    """Verify everything that is stored; exit with 1 if something is wrong.

    Every blob is read to its end. Nothing is changed.
    """
    tally = Tally()
    problems = 0
    with _opened_as_it_is(read_settings(given), read_only=True) as stores:
        pause = partial(time.sleep, STRAY_PAUSE)
        for problem in find_problems(stores.metadata, stores.blobs, tally, pause=pause):
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
@settings_options("data", "storage", "storage_http")
def collect_command(**given: Any) -> None:
    """Remove stored bytes that no repository knows of, as a crash can leave them.

    The registry may run meanwhile.
    """
    with _opened_as_it_is(read_settings(given)) as stores:
        collected = asyncio.run(_collect(stores))
    click.echo(f"{collected.bytes} bytes freed.")
    if collected.kept:
        kept = f"{collected.kept} stray blobs could not be removed; `portside check` names them"
        raise Unavailable(kept)


async def _collect(stores: Stores) -> Collected:
    await stores.metadata.probe()
    return await collect_strays(stores.metadata, stores.blobs, now() - LEFTOVER_AGE * 1_000_000)


@contextmanager
def _opened_as_it_is(settings: Settings, *, read_only: bool = False) -> Iterator[Stores]:
    """Open the stores for the length of a block if they are those of this very version.

    Raises Unavailable and StorageFull.
    """
    with opened_stores(settings, read_only=read_only) as stores:
        stores.require_database()
        require_registry(settings)
        stores.database.require_newest()
        yield stores


for _group in (user, scope_map, token, keys, access):
    commands.add_command(_group)


def main() -> NoReturn:
    """Run the command line; a mistake ends in one line on standard error."""
    try:
        commands(prog_name="portside", standalone_mode=False)
        # What cannot be written is to be noticed here, and not when Python ends.
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(_explain(error), error.exit_code)
    except (SettingsInvalid, FileInvalid, RegistrarError, ServerError, CertificateInvalid) as error:
        _fail(str(error))
    except RegistryError as error:
        _fail("; ".join(error.details))
    except BrokenPipeError:
        # Whoever read it has read enough, as in `portside check | head -1`.
        drop_output()
        sys.exit(1)
    except OSError as error:
        drop_output()
        where = error.filename or "reading or writing failed"
        _fail(f"{where}: {error.strerror or error}")
    sys.exit(0)


def _explain(error: click.ClickException) -> str:
    """Write a mistake of usage as one line, with where to read on."""
    message = " ".join(error.format_message().split()).removesuffix(".") + "."
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} See `{context.command_path} --help`." if context else message


def _fail(message: str, code: int = 1) -> NoReturn:
    click.echo(f"portside: {message}", err=True)
    sys.exit(code)
