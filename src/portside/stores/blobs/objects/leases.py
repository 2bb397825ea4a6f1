"""Leases: one request at a time writes to an upload, whichever node it reached.

A lease is an object that says who holds the upload and until when. It is created on the condition
that there is none (`If-None-Match: *`), renewed and taken over on the condition that it has not
changed (`If-Match`), and removed by its holder. A holder that dies is waited for until its lease
has expired. The clocks of all nodes must agree to within a fraction of a lease's life.

A request whose answer was lost is sent again, and its condition then fails because of itself: who
owns the lease is read from it, and not from the refusal.

A lease saves work, and decides nothing: a request that lost its own without knowing is refused by
the database, where the session has another offset by then. If a store ignores conditions, two
requests can hold one upload at once, and this holds all the same: no two requests write to the same
object, so that bytes never mix; a blob is placed under the digest of just those chunks that were
hashed, so that no blob is wrong; and only one of the two is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from portside.spec.errors import Unavailable
from portside.stores.blobs.objects.faults import translated

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, PutResult, UpdateVersion
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

LIFE = 60_000_000
"""Microseconds. A third of it is longer than a store's retries, so that a slow one costs no lease.

It is also how long an upload that a dead node held cannot go on.
"""


RELEASE_PAUSE = 1.0
"""Seconds between two attempts to release a lease while the store fails."""


class _Note(msgspec.Struct, frozen=True):
    """What a lease's object says; `expires` is in microseconds since 1970."""

    owner: str
    expires: int


class _Held(NamedTuple):
    """A lease as it was found; a note that cannot be read has no owner."""

    note: _Note | None
    state: UpdateVersion


class Lease:
    """The lease of one upload, as one request acquires, holds and releases it."""

    def __init__(
        self, store: ObjectStore, key: str, *, life: int, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._key = key
        self._life = life
        self._clock = clock
        self._owner = secrets.token_hex(16)
        self._expires = 0
        self._state: UpdateVersion = {}
        self._is_lost = False
        self._released = asyncio.Event()

    async def try_acquire(self) -> bool:
        """Take the lease if no request has it, or if its holder let it expire."""
        with translated("holding an upload"):
            with suppress(AlreadyExistsError):
                await self._put("create")
                return True
            held = await self._look()
            if held is None or self._take(held):
                return held is not None
            if held.note is not None and held.note.expires > self._clock():
                return False
            return await self._put_over(held.state)

    async def _put(self, mode: PutMode) -> None:
        expires = self._clock() + self._life
        note = msgspec.json.encode(_Note(self._owner, expires))
        put = await obstore.put_async(self._store, self._key, note, mode=mode)
        self._expires = expires
        self._state = _state(put)

    async def _put_over(self, state: UpdateVersion) -> bool:
        """Replace the lease as it was; return whether it is ours now."""
        with suppress(PreconditionError, FileNotFoundError):
            await self._put(state)
            return True
        held = await self._look()
        return held is not None and self._take(held)

    async def _look(self) -> _Held | None:
        """Read the lease; None if it is not there, or went while it was read."""
        try:
            found = await obstore.get_async(self._store, self._key)
            content = bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        return _Held(_read(content), _state(found.meta))

    def _take(self, held: _Held) -> bool:
        """Keep the lease if it is ours, from a request whose answer was lost."""
        if held.note is None or held.note.owner != self._owner:
            return False
        self._expires, self._state = held.note.expires, held.state
        return True

    async def renew(self) -> None:
        """Extend the lease; raises Unavailable if another request has taken it over."""
        with translated("holding an upload"):
            self._is_lost = not await self._put_over(self._state)
        self.check()

    async def keep_renewing(self) -> None:
        """Renew until the lease is released or lost."""
        while not self._is_lost:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), self._life / 3_000_000)
            if self._released.is_set():
                return
            try:
                await self.renew()
            except Unavailable as error:
                log.warning("%s", error)

    def check(self) -> None:
        """Raise Unavailable if another request may hold the upload by now."""
        if self._is_lost or self._clock() >= self._expires:
            lost = "this request held the upload for longer than the object store let it; try again"
            raise Unavailable(lost)

    async def release(self, renewing: asyncio.Task[None] | None = None) -> bool:
        """Release the lease; return whether that succeeded.

        A renewal that is under way is waited for: it must not bring the lease back.
        """
        self._released.set()
        if renewing is not None:
            await renewing
        if self._is_lost or self._clock() >= self._expires:
            return True
        with suppress(Unavailable), translated("letting go of an upload"):
            await obstore.delete_async(self._store, self._key)
            return True
        return False

    async def keep_releasing(self) -> None:
        """Release a lease that may be ours; try for as long as it can last."""
        end = self._clock() + self._life
        while self._clock() < end:
            await asyncio.sleep(RELEASE_PAUSE)
            with suppress(Unavailable), translated("letting go of an upload"):
                held = await self._look()
                if held is not None and self._take(held):
                    await obstore.delete_async(self._store, self._key)
                return


def is_live(content: bytes, now: int) -> bool:
    """Whether a lease's object says that a request holds the upload."""
    note = _read(content)
    return note is not None and note.expires > now


def _state(told: ObjectMeta | PutResult) -> UpdateVersion:
    """Return what identifies this content of the object: Google has versions for that."""
    known = {"e_tag": told["e_tag"], "version": told["version"]}
    return cast("UpdateVersion", {name: value for name, value in known.items() if value})


def _read(content: bytes) -> _Note | None:
    try:
        return msgspec.json.decode(content, type=_Note)
    except msgspec.DecodeError:
        return None
