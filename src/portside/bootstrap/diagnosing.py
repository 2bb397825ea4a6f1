"""Diagnosis of a registry that settings describe: its stores, its files and its access control."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from portside import __version__
from portside.auth.policy import Subjects
from portside.bootstrap.application import make_rules
from portside.bootstrap.clock import now
from portside.bootstrap.permissions import (
    blob_root,
    foreign_files,
    owner_of,
    registry_owner,
    require_permission,
)
from portside.bootstrap.stores import Stores, connected_stores
from portside.config import Settings
from portside.config.rules import watch_rules_file
from portside.files.text import FileInvalid
from portside.files.users import user_name
from portside.operations.diagnose import (
    Diagnosis,
    advice,
    compare_versions,
    look_at_clocks,
    look_at_deliveries,
    look_at_events,
    look_at_space,
    look_at_state,
    ok,
    problem,
    try_store,
)
from portside.operations.webhooks.sending import reach
from portside.operations.webhooks.signature import SecretUnreadable, Signer
from portside.spec.actions import Action
from portside.spec.errors import RegistryError
from portside.spec.webhooks import Webhook
from portside.stores.interfaces import ServerClock

OTHERS = 0o007
"""What other users of the machine may do with a file."""

CONNECT = 5.0
"""Seconds within which the receiver of a webhook has to accept a connection."""

CLOSE = "add a user (`portside user add NAME`), or set --htpasswd or --access"


async def diagnose(
    settings: Settings, *, is_exposed: bool, clock: Callable[[], int] = now
) -> AsyncIterator[Diagnosis]:
    """Look at a registry, whether it is served or not; no part of it is created or changed.

    `is_exposed` says that other machines can reach it. `clock` returns microseconds since 1970.
    """
    try:
        require_permission(settings)
    except RegistryError as error:
        yield problem("permissions", "; ".join(error.details))
        return
    async with connected_stores(settings) as stores:
        database = await _look_at_database(stores)
        yield database
        clocks: dict[str, ServerClock] = {
            "the database": stores.engine.database,
            "the blob store": stores.blobs,
        }
        async for found in look_at_clocks(clocks, clock):
            yield found
        if database.is_ok:
            async for found in look_at_events(stores.metadata, clock()):
                yield found
            others = compare_versions(__version__, await stores.engine.database.client_versions())
            if others is not None:
                yield others
            place = str(stores.blobs.location)
            yield await try_store("blobs", place, stores.try_blobs, _about_blobs(settings))
            registry = await stores.metadata.registry_state()
            async for found in look_at_state(stores.metadata, registry):
                yield found
            async for found in _look_at_webhooks(settings, stores):
                yield found
            state = await stores.access.access_state()
            is_closed = settings.requires_credentials or state.closed
            yield _look_at_access(settings, is_closed=is_closed, is_exposed=is_exposed)
    for found in (
        *_look_at_rules(settings),
        *_look_at_disks(settings),
        *_look_at_files(settings),
        *_look_at_owners(settings),
    ):
        yield found


async def _look_at_database(stores: Stores) -> Diagnosis:
    """Return whether the database can be used, and has the schema of this version."""
    engine = stores.engine
    try:
        if not await engine.database.is_made():
            await stores.require_database()
            start = "name another one with --data or --database, or start `portside serve`"
            return problem("database", f"{engine.place} does not contain a registry", start)
        await engine.database.require_newest()
    except RegistryError as error:
        return problem("database", "; ".join(error.details))
    return await try_store("database", engine.name, engine.metadata.probe)


def _about_blobs(settings: Settings) -> str:
    """Return what to do if the directories of blobs do not exist."""
    root = blob_root(settings)
    if root is None or all((root / name).is_dir() for name in ("blobs", "uploads")):
        return ""
    return "`portside serve` creates them; if they held blobs, restore them before"


def _look_at_access(settings: Settings, *, is_closed: bool, is_exposed: bool) -> Diagnosis:
    """Return who may use the registry without credentials."""
    if is_closed and not settings.open:
        return ok("access", "credentials are required")
    if not is_exposed and not settings.public_url:
        text = "everyone on this machine may push, pull and delete"
        if isinstance(settings.address, Path):
            remedy = f"{CLOSE}: a proxy passes on everyone who reaches it"
            return advice("access", text, remedy)
        return ok("access", text)
    text = "everyone who reaches the registry may push, pull and delete"
    if settings.open:
        return advice("access", text, f"if that is not intended, remove --open, and {CLOSE}")
    return problem("access", text, CLOSE)


def _look_at_rules(settings: Settings) -> Iterator[Diagnosis]:
    """Yield what is wrong with the files of rules, and what they allow everyone."""
    try:
        if not settings.open:
            rules = make_rules(settings).read().policy.rules
            for rule in rules:
                given = rule.actions & {Action.PUSH, Action.DELETE}
                if rule.subjects is Subjects.EVERYONE and rule.allows and given:
                    yield advice("access", str(rule), "remove the rule if that is not intended")
        watch_rules_file(settings.rules)
    except FileInvalid as error:
        yield problem("access", str(error))


async def _look_at_webhooks(settings: Settings, stores: Stores) -> AsyncIterator[Diagnosis]:
    """Yield which webhooks can be signed for and reached, and what their receivers left."""
    signer = Signer(os.environ)
    for webhook in _read_webhooks(settings):
        name = webhook.name
        try:
            signer.read(webhook.secret)
        except SecretUnreadable as error:
            yield problem("webhooks", f"the secret of {name}: {error}")
        reason = await reach(webhook.url, allow_private=webhook.allow_private, timeout=CONNECT)
        if reason:
            yield problem("webhooks", f"the receiver of {name} is not reached from here: {reason}")
        else:
            yield ok("webhooks", f"the receiver of {name} accepts connections")
    for found in look_at_deliveries(await stores.metadata.list_webhooks()):
        yield found


def _read_webhooks(settings: Settings) -> tuple[Webhook, ...]:
    """Return the webhooks of the rules file; none if there is an error in it, found elsewhere."""
    try:
        return watch_rules_file(settings.rules)().webhooks
    except FileInvalid:
        return ()


def _look_at_disks(settings: Settings) -> Iterator[Diagnosis]:
    """Yield the free space of the disks of this machine that hold something."""
    directories = [settings.root] if not settings.database else []
    blobs = blob_root(settings)
    if blobs is not None:
        directories.append(blobs)
    seen = set()
    for directory in filter(Path.is_dir, directories):
        device = directory.stat().st_dev
        if device not in seen:
            seen.add(device)
            disk = os.statvfs(directory)
            size = disk.f_frsize
            free, total = disk.f_bavail * size, disk.f_blocks * size
            yield look_at_space(str(directory), free, total, settings.reserve_bytes)


def _look_at_files(settings: Settings) -> Iterator[Diagnosis]:
    """Yield the files that other users of the machine can read or change."""
    files = [] if settings.database else [settings.root, *settings.root.glob("portside.db*")]
    blobs = blob_root(settings)
    if blobs is not None:
        files += [blobs / "blobs", blobs / "uploads"]
    files += [Path(path) for path in (settings.tls_key, settings.htpasswd) if path]
    secrets = (webhook.secret.file for webhook in _read_webhooks(settings))
    files += [Path(path) for path in secrets if path]
    exposed = [path for path in files if path.exists() and _mode(path) & OTHERS]
    for path in exposed:
        yield problem(
            "permissions",
            f"other users of this machine may use {path} (mode {_mode(path):04o})",
            f"run `chmod o= {path}`",
        )
    if not exposed:
        yield ok("permissions", "other users of this machine can read nothing")


def _look_at_owners(settings: Settings) -> Iterator[Diagnosis]:
    """Yield that files belong to somebody else than the registry does, or that root looks."""
    root = settings.root if not settings.database else blob_root(settings)
    if root is None or not root.exists():
        return
    owner = registry_owner(root)
    foreign = list(foreign_files(settings))
    if foreign:
        more = f", and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        yield problem(
            "permissions",
            f"{foreign[0]}{more} belong to {owner_of(foreign[0])}, and the registry to {owner}",
            f"run `chown -R {owner}: {root}`, and commands of Portside as {owner}",
        )
    me = user_name()
    if me != owner:
        yield advice(
            "permissions",
            f"this is run by {me}, and the registry belongs to {owner}, who may be allowed less",
            f"run it as {owner}",
        )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
