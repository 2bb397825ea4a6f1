"""Everything that decides about requests, as it was at one version of access control.

Whatever is remembered of credentials and decisions is remembered in a snapshot, and forgotten with
it: when an identity, a scope map, a key or a file has changed, the next request makes a new one.
"""

from __future__ import annotations

from portside.auth.callers import Caller
from portside.auth.directory import Directory
from portside.auth.policy import Policy
from portside.auth.tokens.keys import KeyRing
from portside.auth.tokens.own import TokenFactory
from portside.spec.actions import Action

Version = tuple[int, int, int]

MAX_REMEMBERED = 10_000
"""Credentials. Each costs about 1 kB; all are forgotten when there are more."""


class Snapshot:
    """Access control at one version; `closed` tells whether it is enforced."""

    def __init__(
        self,
        version: Version,
        *,
        closed: bool,
        policy: Policy,
        directory: Directory,
        keys: KeyRing,
        tokens: TokenFactory,
        work: int,
    ) -> None:
        self.version = version
        self.closed = closed
        self.policy = policy
        self.directory = directory
        self.keys = keys
        self.tokens = tokens
        self.work = work
        self._remembered: dict[bytes, tuple[Caller, float]] = {}

    def recall(self, key: bytes, now: float) -> Caller | None:
        """Give a caller that was remembered and is not over."""
        found = self._remembered.get(key)
        return found[0] if found is not None and now < found[1] else None

    def remember(self, key: bytes, caller: Caller, until: float) -> None:
        """Keep a caller that was verified until a time, in the clock's seconds."""
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = (caller, until)

    def may(self, caller: Caller, action: Action, repository: str) -> bool:
        """Tell whether both the policy and the credentials allow an action."""
        return self.policy.allows(caller.identity, action, repository) and (
            caller.grants is None or caller.grants.cover(action, repository)
        )
