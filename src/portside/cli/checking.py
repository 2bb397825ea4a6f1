"""`portside check`: verify everything that is stored, and repair it."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from portside.bootstrap import Stores, connected_stores
from portside.bootstrap.sources import opened_source
from portside.cli.identity import command_actor
from portside.cli.options import Command
from portside.cli.output import counted, json_option, show_json
from portside.cli.registry import BLOBS, read_settings, registry_command, require_this_version
from portside.config import SettingsInvalid
from portside.files.text import FileUnreadable, read_secret
from portside.operations.check import Tally
from portside.operations.check import check as find_damage
from portside.operations.findings import Finding
from portside.operations.repair import Outcome, Repair, Repairer
from portside.spec.errors import ReadOnly

ORPHANED_PAUSE = 0.5
"""Seconds after which a file that a registry had no use for any more is gone."""


@click.command("check", cls=Command)
@click.option("--repair", "is_repair", is_flag=True, help="Restore or drop what is damaged.")
@click.option(
    "--from",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Fetch what is damaged or missing: from the URL of a registry or a storage, or from the"
    " directory of an OCI layout or a registry. Can be repeated.",
)
@click.option("--from-user", "user", metavar="NAME", help="Log in to the registry as NAME.")
@click.option(
    "--from-password-file",
    "password_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the password for that from the first line of FILE.",
)
@json_option
@registry_command(*BLOBS)
async def check(
    *,
    is_repair: bool,
    places: tuple[str, ...],
    user: str | None,
    password_file: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Verify everything that is stored.

    Every blob is read to its end. What is damaged or missing is printed with the images that need
    it, and the exit code is 1. Orphaned bytes, which a crash can leave behind, are printed as well,
    and do no harm. Nothing is changed without --repair.

    With --repair, what is damaged or missing is fetched from another place, if --from names one.
    Otherwise damaged blobs are dropped, so that the next push of such an image makes it whole
    again. Manifests and tags stay. The exit code is 1 while something has to be pushed again. The
    registry can be running.
    """
    if places and not is_repair:
        raise click.UsageError("--from needs --repair")
    settings = read_settings(given)
    login = _read_login(user, password_file)
    tally = Tally()
    report = _Report(as_json=as_json, is_repair=is_repair)
    async with connected_stores(settings, read_only=not is_repair) as stores:
        await require_this_version(stores)
        with ExitStack() as stack:
            repairer = None
            if is_repair:
                sources = [
                    stack.enter_context(opened_source(place, settings, login=login))
                    for place in places
                ]
                repairer = Repairer(stores.metadata, stores.blobs, sources, by=command_actor())
                await _require_changeable(stores)
                await repairer.require_ready()
            findings = find_damage(stores.metadata, stores.blobs, tally, pause=ORPHANED_PAUSE)
            async for finding in findings:
                is_work = repairer is not None and finding.is_damage
                done = await repairer.repair(finding) if repairer and is_work else None
                report.add(finding, done)
    report.end(tally)


async def _require_changeable(stores: Stores) -> None:
    if (await stores.metadata.registry_state()).read_only:
        raise ReadOnly("the registry is read-only, and cannot be repaired")


def _read_login(user: str | None, password_file: Path | None) -> tuple[str, str] | None:
    """Return the credentials for another registry; raises UsageError and SettingsInvalid."""
    if user is None and password_file is None:
        return None
    if user is None or password_file is None:
        missing, given = ("--from-user", "--from-password-file")[:: 1 if user is None else -1]
        raise click.UsageError(f"{given} needs {missing}")
    try:
        return user, read_secret(password_file)
    except FileUnreadable as error:
        raise SettingsInvalid(f"from-password-file: {error}") from error


class _Report:
    """Prints what a check finds: line by line, or as one document at the end."""

    def __init__(self, *, as_json: bool, is_repair: bool) -> None:
        self._as_json = as_json
        self._is_repair = is_repair
        self._problems = 0
        self._orphaned = 0
        self._outcomes = Counter[Outcome]()
        self._documents: list[dict[str, Any]] = []

    def add(self, finding: Finding, repair: Repair | None) -> None:
        """Count a finding and what was done about it, and print its line."""
        self._problems += finding.is_damage
        self._orphaned += not finding.is_damage
        if repair is not None:
            self._outcomes[repair.outcome] += 1
        if self._as_json:
            self._documents.append(_document(finding, repair))
        else:
            click.echo(f"{finding.text}; {repair.note}" if repair is not None else finding.text)

    def end(self, tally: Tally) -> None:
        """Print how much was seen; exit with 1 if something is damaged."""
        if self._as_json:
            show_json(self._summary(tally))
        else:
            found = counted(self._problems, "problem") if self._problems else "No problem"
            seen = (
                f"{counted(tally.manifests, 'manifest')}, {counted(tally.blobs, 'blob')}"
                f" ({counted(tally.bytes, 'byte')}), {counted(tally.uploads, 'upload session')}"
            )
            click.echo(" ".join([f"{found} in {seen}.", *self._say_rest()]))
        if self._problems > self._outcomes[Outcome.REPAIRED]:
            sys.exit(1)

    def _say_rest(self) -> list[str]:
        rest = []
        if self._is_repair and self._problems:
            named = (
                f"{self._outcomes[Outcome.REPAIRED]} repaired",
                f"{self._outcomes[Outcome.WAITING]} to be pushed again",
                f"{self._outcomes[Outcome.LEFT]} not repaired",
            )
            rest.append(f"{', '.join(named)}.")
        if self._orphaned:
            rest.append(f"{counted(self._orphaned, 'orphaned item')}: harmless.")
        return rest

    def _summary(self, tally: Tally) -> dict[str, Any]:
        summary = {
            "findings": self._documents,
            "problems": self._problems,
            "orphaned": self._orphaned,
            "manifests": tally.manifests,
            "blobs": tally.blobs,
            "bytes": tally.bytes,
            "uploads": tally.uploads,
        }
        outcomes = {str(outcome): self._outcomes[outcome] for outcome in Outcome}
        return {**summary, **outcomes} if self._is_repair else summary


def _document(finding: Finding, repair: Repair | None) -> dict[str, Any]:
    images = finding.images
    document = {
        "kind": finding.kind,
        "is_damage": finding.is_damage,
        "problem": finding.problem,
        "repository": finding.repository or None,
        "digest": finding.digest or None,
        "upload": finding.upload or None,
        "images": list(images.names) if images is not None else [],
        "image_count": images.total if images is not None else 0,
    }
    if repair is not None:
        document["repair"] = {"outcome": repair.outcome, "note": repair.note}
    return document
