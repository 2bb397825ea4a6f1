"""`portside check`: verify everything that is stored."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import click

from portside.bootstrap import connected_stores
from portside.cli.options import Command
from portside.cli.output import counted, json_option, show_json
from portside.cli.registry import BLOBS, read_settings, registry_command, require_this_version
from portside.operations.check import Tally
from portside.operations.check import check as find_damage
from portside.operations.findings import Finding

ORPHANED_PAUSE = 0.5
"""Seconds after which a file that a registry had no use for any more is gone."""


@click.command("check", cls=Command)
@json_option
@registry_command(*BLOBS)
async def check(*, as_json: bool, **given: Any) -> None:
    """Verify everything that is stored.

    Every blob is read to its end. Nothing is changed. What is damaged or missing is printed with
    the images that need it, and the exit code is 1. Orphaned bytes, which a crash can leave behind,
    are printed as well, and do no harm.
    """
    tally = Tally()
    report = _Report(as_json=as_json)
    async with connected_stores(read_settings(given), read_only=True) as stores:
        await require_this_version(stores)
        findings = find_damage(stores.metadata, stores.blobs, tally, pause=ORPHANED_PAUSE)
        async for finding in findings:
            report.add(finding)
    report.end(tally)


class _Report:
    """Prints what a check finds: line by line, or as one document at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._count = Counter[bool]()
        self._documents: list[dict[str, Any]] = []

    def add(self, finding: Finding) -> None:
        """Count a finding, and print its line."""
        self._count[finding.is_damage] += 1
        if self._as_json:
            self._documents.append(_document(finding))
        else:
            click.echo(finding.text)

    def end(self, tally: Tally) -> None:
        """Print how much was seen; exit with 1 if something is damaged."""
        problems, orphaned = self._count[True], self._count[False]
        if self._as_json:
            show_json(
                {
                    "findings": self._documents,
                    "problems": problems,
                    "orphaned": orphaned,
                    "manifests": tally.manifests,
                    "blobs": tally.blobs,
                    "bytes": tally.bytes,
                    "uploads": tally.uploads,
                }
            )
        else:
            found = counted(problems, "problem") if problems else "No problem"
            seen = (
                f"{counted(tally.manifests, 'manifest')}, {counted(tally.blobs, 'blob')}"
                f" ({counted(tally.bytes, 'byte')}), {counted(tally.uploads, 'upload session')}"
            )
            harmless = f" {counted(orphaned, 'orphaned item')}: harmless." if orphaned else ""
            click.echo(f"{found} in {seen}.{harmless}")
        if problems:
            sys.exit(1)


def _document(finding: Finding) -> dict[str, Any]:
    images = finding.images
    return {
        "kind": finding.kind,
        "is_damage": finding.is_damage,
        "problem": finding.problem,
        "repository": finding.repository or None,
        "digest": finding.digest or None,
        "images": list(images.names) if images is not None else [],
        "image_count": images.total if images is not None else 0,
    }
