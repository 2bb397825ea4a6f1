"""The history of tags, made from the settings."""

from __future__ import annotations

from collections.abc import Callable

from portside.bootstrap.clock import now
from portside.config import Settings
from portside.operations.tag_history import TagHistory
from portside.spec.rules import Rules
from portside.stores.tag_history import TagHistoryStore


def make_tag_history(
    settings: Settings, metadata: TagHistoryStore, rules: Callable[[], Rules]
) -> TagHistory:
    """Return the verb for the server and for commands."""
    keep_deleted = settings.keep_deleted * 1_000_000
    return TagHistory(metadata, keep_deleted=keep_deleted, clock=now, rules=rules)
