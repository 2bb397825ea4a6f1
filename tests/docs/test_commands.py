"""The commands and settings that pages spell can be typed as they stand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from portside.auth.access_files import parse_access_file
from portside.config import list_settings
from portside.config.rules import parse_rules_file
from support.pages import PAGES, path_of, read_fences
from support.spoken import check_command, spoken_commands

KEYS = {setting.option for setting in list_settings()}


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_commands(page: Path) -> None:
    """Every command that a page names exists, and has the options that it is given."""
    for words in spoken_commands(page.read_text("utf-8")):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_files(page: Path) -> None:
    """Every TOML file that a page prints is one of settings, of access control or of rules."""
    text = page.read_text("utf-8")
    blocks = [block for language, block in read_fences(page) if language == "toml"]
    blocks += re.findall(r"^cat > \w+\.toml <<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        if block.startswith("# access.toml"):
            parse_access_file(block, name="access.toml")
        elif block.startswith("# rules.toml"):
            rules = parse_rules_file(block, name="rules.toml")
            assert rules.tables or rules.webhooks
        else:
            assert set(tomllib.loads(block)) <= KEYS
