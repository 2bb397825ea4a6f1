"""The commands that lock and unlock a repository, a tag or a manifest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from portside.cli.objects import Done, ReferenceForm, do_each, references_argument
from portside.cli.options import Command
from portside.cli.output import json_option
from portside.cli.registry import metadata_command
from portside.spec.locks import NOTHING, Lock, LockChange
from portside.spec.names import QualifiedReference
from portside.stores.interfaces import MetadataStore

WORDS = {Lock.WRITE: "write", Lock.DELETE: "delete", Lock.LIST: "list", Lock.READ: "read"}
"""What locks are called on the command line."""

USUAL = Lock.WRITE | Lock.DELETE
"""The locks that are changed if no option names any."""

_PURPOSES = {
    Lock.WRITE: "Against overwriting and deleting.",
    Lock.DELETE: "Against deleting only.",
    Lock.LIST: "Against showing it in lists; it can be pulled by name.",
    Lock.READ: "Against pulling.",
}

Changed = tuple[Lock, Any]
"""The locks of an object after a change, and its document."""

Change = Callable[[MetadataStore, QualifiedReference, LockChange], Awaitable[Changed]]


def lock_words(locks: Lock) -> list[str]:
    """Return what locks are called."""
    return [word for lock, word in WORDS.items() if lock in locks]


def add_lock_commands(
    group: click.Group, noun: str, form: ReferenceForm, scope: str, change: Change
) -> None:
    """Add `lock` and `unlock` to a group; `scope` says what a lock on one of them protects."""
    usual = "Without options, it is locked against overwriting and deleting."
    lock = f"Lock a {noun}.\n\n{usual} {scope}"
    unlock = (
        f"Unlock a {noun}.\n\nWithout options, overwriting and deleting are allowed again; the"
        " other locks stay."
    )
    group.add_command(_make("lock", lock, noun, form, change))
    group.add_command(_make("unlock", unlock, noun, form, change))


def _make(name: str, text: str, noun: str, form: ReferenceForm, change: Change) -> click.Command:
    async def run(
        metadata: MetadataStore,
        *,
        references: tuple[QualifiedReference, ...],
        as_json: bool,
        **given: bool,
    ) -> None:
        chosen = NOTHING
        for lock, word in WORDS.items():
            if given[f"{word}_lock"]:
                chosen |= lock
        locks = chosen or USUAL
        wanted = LockChange(lock=locks) if name == "lock" else LockChange(unlock=locks)

        async def act(reference: QualifiedReference) -> Done:
            left, document = await change(metadata, reference, wanted)
            state = f"locked: {', '.join(lock_words(left))}" if left else "unlocked"
            still = "still " if left and name == "unlock" else ""
            return Done(f"{noun.capitalize()} {reference} is {still}{state}.", document)

        await do_each(references, act, as_json=as_json)

    command = json_option(metadata_command(run))
    for lock, word in reversed(WORDS.items()):
        option = click.option(f"--{word}", f"{word}_lock", is_flag=True, help=_PURPOSES[lock])
        command = option(command)
    command = references_argument(form)(command)
    return click.command(name, cls=Command, help=text)(command)
