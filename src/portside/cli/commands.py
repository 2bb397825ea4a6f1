"""The commands of `portside`."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from portside import __version__
from portside.api.log_lines import escape_controls, line_handler
from portside.auth.registrar import RegistrarError
from portside.bootstrap import Stores, connected_stores
from portside.cli.errors import ServerError
from portside.cli.options import CommandGroup, settings_options
from portside.cli.output import counted, drop_output, json_option
from portside.cli.registry import (
    BLOBS,
    create_option,
    read_settings,
    registry_command,
    require_registry,
)
from portside.config import SettingsInvalid
from portside.files.text import FileInvalid, explain
from portside.operations.describe import describe_manifests
from portside.spec.errors import RegistryError
from portside.stores.directories import create_directory

GROUPS = {
    "access": "access",
    "backup": "backup",
    "check": "checking",
    "collect": "collecting",
    "copy-store": "copying",
    "health": "health",
    "events": "events",
    "keys": "keys",
    "manifest": "manifests",
    "purge": "purge",
    "read-only": "copying",
    "repository": "repositories",
    "restore": "backup",
    "retention": "retention",
    "scope-map": "scope_maps",
    "tag": "tags",
    "token": "tokens",
    "trash": "trash",
    "usage": "usage",
    "user": "users",
    "webhooks": "webhooks",
}
"""Commands and groups that are imported when they are used, with their modules."""


class Commands(CommandGroup):
    """All commands; those in GROUPS are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *GROUPS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command or a group, imported if necessary."""
        if cmd_name not in GROUPS:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"portside.cli.{GROUPS[cmd_name]}")
        group: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return group


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="portside")
def commands() -> None:
    """Portside, a registry for container images and other OCI artifacts."""


@commands.command("serve")
@settings_options()
def serve_command(**given: Any) -> None:
    """Serve the registry until SIGTERM or Ctrl-C."""
    # The server takes as long to import as everything else.
    from portside.cli.server import serve  # noqa: PLC0415

    serve(read_settings(given))


@commands.command("doctor")
@json_option
@settings_options()
def doctor_command(*, as_json: bool, **given: Any) -> None:
    """Examine the registry, and say what to do.

    Run it with the settings of `portside serve`, whether the registry is running or not. It looks
    at versions, the schema, clocks, free space, the certificate, permissions of files, access
    control, the public URL and the stores, and changes none of them; it writes a small object into
    the blob store and removes it. The exit code is 1 if something must be done.
    """
    # As slow to import as the server.
    from portside.cli.doctor import examine  # noqa: PLC0415

    examine(read_settings(given), as_json=as_json)


@commands.command("migrate")
@create_option
@registry_command(*BLOBS)
async def migrate_command(*, create: bool, **given: Any) -> None:
    """Create the database, or upgrade its schema.

    An empty PostgreSQL database is filled; a new data directory is made only with --create.

    What a new version records of content is then filled in for the content that is there. The
    registry can serve meanwhile, and the command can be interrupted and run again. Several nodes
    can run it at once. A database that is up to date does not change.
    """
    settings = read_settings(given)
    async with connected_stores(settings) as stores:
        if not settings.database:
            await stores.require_database()
            if not create:
                await require_registry(stores, can_create=True)
            create_directory(settings.root)
        is_new = not await stores.engine.database.is_made()
        taken = await stores.engine.database.migrate()
        is_changed = "was created" if is_new else "was upgraded"
        state = is_changed if taken else "is up to date"
        click.echo(f"{stores.engine.name} {state}; migrations applied: {taken}.")
        described = await _describe(stores)
    if described:
        click.echo(f"Properties of {counted(described, 'manifest')} recorded.")


async def _describe(stores: Stores) -> int:
    """Record the properties of manifests, whose configs are in the blob store."""
    if not await stores.metadata.list_undescribed(1):
        return 0
    await stores.require_storage()
    pages = [done async for done in describe_manifests(stores.metadata, stores.blobs)]
    return pages[-1]


def main() -> NoReturn:
    """Run the command line; report an error as one line on standard error."""
    if sys.stderr is not None:
        logging.basicConfig(level=logging.WARNING, handlers=[line_handler(sys.stderr)])
    try:
        commands(prog_name="portside", standalone_mode=False)
        # Notice output that cannot be written here, and not when Python exits.
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(_explain(error), error.exit_code)
    except (SettingsInvalid, FileInvalid, RegistrarError, ServerError) as error:
        _fail(str(error))
    except RegistryError as error:
        _fail("; ".join(error.details))
    except BrokenPipeError:
        # The reader is gone, as in `portside check | head -1`.
        drop_output()
        sys.exit(1)
    except OSError as error:
        drop_output()
        where = error.filename or "reading or writing failed"
        _fail(f"{where}: {explain(error)}")
    sys.exit(0)


def _explain(error: click.ClickException) -> str:
    """Return a usage error as one line that names the help."""
    message = " ".join(error.format_message().split())
    if not message.endswith((".", "?", ")")):
        message += "."
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} See `{context.command_path} --help`." if context else message


def _fail(message: str, code: int = 1) -> NoReturn:
    click.echo(f"portside: {escape_controls(message)}", err=True)
    sys.exit(code)
