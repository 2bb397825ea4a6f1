"""The directory: every identity that has a password, from the store and from an htpasswd file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from portside.auth.access_files import Groups, Htpasswd
from portside.auth.grants import Caller
from portside.auth.identities import Identity
from portside.auth.passwords import cost_of, is_digest_of, verify
from portside.stores.access import AccessStore, IdentityKind, StoredIdentity, StoredPassword

_NO_TIME = 0
"""When an identity of the htpasswd file, and its password, were created: nobody knows."""

_NOBODY = StoredIdentity("", IdentityKind.USER, _NO_TIME, enabled=False)


class Directory:
    """Finds identities by name. A name in the store hides the same name in the file.

    `clock` returns microseconds since 1970.
    """

    def __init__(
        self, store: AccessStore, file: Htpasswd | None, groups: Groups, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._file = file
        self._groups = groups
        self._clock = clock

    async def find(self, name: str) -> StoredIdentity | None:
        """Return the identity with a name, or None if there is none."""
        stored = await self._store.get_identity(name)
        if stored is not None:
            return stored
        hashed = self._file.hashes.get(name) if self._file else None
        if hashed is None:
            return None
        passwords = (StoredPassword(1, hashed, _NO_TIME),)
        return StoredIdentity(name, IdentityKind.USER, _NO_TIME, passwords=passwords)

    def obstacle(self, found: StoredIdentity) -> str:
        """Return why an identity cannot authenticate at all, or nothing if it can."""
        if found.expires is not None and found.expires <= self._clock():
            return "has expired"
        return "" if found.enabled else "is disabled"

    def prove_made(self, found: StoredIdentity | None, password: str) -> str | None:
        """Return the stamp of the generated password that is the right one, or None; quick."""
        known = found or _NOBODY
        for stored in known.passwords:
            if is_digest_of(password, stored.hash) and not self.obstacle(known):
                return _stamp(known, stored)
        return None

    def prove(self, found: StoredIdentity | None, password: str, *, work: int) -> str | None:
        """Return the stamp of the chosen password that is the right one, or None.

        Every failure takes the same time. Slow: call it in a thread.
        """
        known = found or _NOBODY
        is_usable = not self.obstacle(known)
        chosen = next((one for one in known.passwords if cost_of(one.hash) is not None), None)
        is_right = verify(password, chosen.hash if chosen is not None else None, work=work)
        return _stamp(known, chosen) if chosen is not None and is_right and is_usable else None

    async def caller(self, found: StoredIdentity, stamp: str) -> Caller | None:
        """Return the caller that a password proves, by its stamp.

        None if the identity no longer has that password, is disabled or has expired.
        """
        stamps = {_stamp(found, password) for password in found.passwords}
        if stamp not in stamps or self.obstacle(found):
            return None
        expires = found.expires // 1_000_000 if found.expires is not None else None
        return Caller(await self.identify(found, stamp), None, expires)

    async def identify(self, found: StoredIdentity, stamp: str = "") -> Identity:
        """Return the identity that the policy knows, with its groups and its scope map."""
        groups = self._groups.get(found.name, frozenset())
        scope_map = None
        if found.scope_map is not None:
            scope_map = await self._store.get_scope_map(found.scope_map)
        return Identity(found.name, found.kind, groups, scope_map, stamp)


def _stamp(found: StoredIdentity, password: StoredPassword) -> str:
    """Return a digest of a password's hash, and of when identity and password were created."""
    times = [str(time) for time in (found.created, password.created) if time != _NO_TIME]
    parts = "\0".join((found.kind, found.name, password.hash, *times))
    return hashlib.sha256(parts.encode("utf-8")).hexdigest()[:32]
