"""Commands of Portside as pages, files and their comments spell them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from portside.cli.commands import commands

FORMS = (
    r"^\$ portside (.+)$",
    r"^portside (.+)$",
    r"`portside ([^`]+)`",
    r" exec \S+ portside (.+)$",
    r" exec .* -- portside (.+)$",
    r"runuser --user portside -- portside (.+?)(?: <.*)?$",
)
"""How commands of Portside stand in pages and in comments."""


def spoken_commands(text: str) -> Iterator[list[str]]:
    """List the words behind `portside` in the blocks, code and comments of a text."""
    joined = text.replace("\\\n", " ")
    for pattern in FORMS:
        for line in re.findall(pattern, joined, re.MULTILINE):
            yield shlex.split(line, comments=True)


def check_command(words: list[str]) -> None:
    """Find the command that the words behind `portside` begin with, and parse its options."""
    command: click.Command = commands
    while isinstance(command, click.Group) and words:
        if words[0] in {"--help", "--version"} or words[0].isupper():
            return
        member = command.get_command(click.Context(command), words[0])
        assert member is not None, words
        command, words = member, words[1:]
    known = {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known | {"--help"}, (command.name, used - known)
