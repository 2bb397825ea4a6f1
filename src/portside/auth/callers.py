"""Callers: an identity together with what its credentials are good for."""

from __future__ import annotations

from typing import NamedTuple

from portside.auth.grants import Grants
from portside.auth.identities import ANONYMOUS, Identity


class Caller(NamedTuple):
    """Who makes a request.

    `grants` is what the credentials allow at most, `expires` when they end, in seconds since 1970;
    either is None for credentials without such a limit.
    """

    identity: Identity
    grants: Grants | None = None
    expires: int | None = None

    def ending(self, expires: int) -> Caller:
        """Give the same caller with credentials that end at a time, if not before."""
        return self._replace(expires=min(expires, self.expires or expires))


NOBODY = Caller(ANONYMOUS)
"""Whoever sends no credentials."""
