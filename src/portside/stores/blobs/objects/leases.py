"""Leases: one request at a time writes to an upload, whichever node it reached.

A lease is an object that says who holds the upload and until when. It is created on the condition
that there is none (`If-None-Match: *`), renewed and taken over on the condition that it has not
changed (`If-Match`), and removed by its holder. A holder that dies is waited for until its lease
has expired. The clocks of all nodes must agree to within a fraction of a lease's life.

If a store lacks conditional puts, or ignores their conditions, two requests can hold one upload at
once. This holds all the same: no two requests write to the same object, so that bytes never mix; a
blob is placed under the digest of just those chunks that were hashed, so that no blob is wrong. But
the second holder drops what the first has not acknowledged yet, so that one of the two fails, and
the session may have to be started again. A client that sends one request at a time, as all do,
does not notice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

from portside.spec.errors import Unavailable
from portside.stores.blobs.objects.faults import translated

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

LIFE = 60_000_000
"""Microseconds. A third of it is longer than a store's retries, so that a slow one costs no lease.

It is also how long an upload that a dead node held cannot go on.
"""


class _Note(msgspec.Struct, frozen=True):
    """What a lease's object says; `expires` is in microseconds since 1970."""

    owner: str
    expires: int


class Lease:
    """The lease of one upload, as one request tries to get it, has it and gives it back."""

    def __init__(
        self, store: ObjectStore, key: str, *, life: int, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._key = key
        self._life = life
        self._clock = clock
        self._owner = secrets.token_hex(16)
        self._expires = 0
        self._tag: str | None = None
        self._is_lost = False
        self._released = asyncio.Event()

    async def try_acquire(self) -> bool:
        """Take the lease if nobody has it, or if who had it let it expire."""
        with translated("holding an upload"):
            if await self._create():
                return True
            try:
                found = await obstore.get_async(self._store, self._key)
            except FileNotFoundError:
                return False
            try:
                note = _read(bytes(await found.bytes_async()))
            except BaseError:
                # It was removed while it was read; if the store fails, the next try will say so.
                return False
            if note is not None and note.expires > self._clock():
                return False
            return await self._take_over(found.meta["e_tag"])

    async def _create(self) -> bool:
        try:
            await self._put("create")
        except AlreadyExistsError:
            return False
        return True

    async def _take_over(self, tag: str | None) -> bool:
        try:
            await self._put_over(tag)
        except (PreconditionError, FileNotFoundError):
            return False
        except (NotSupportedError, NotImplementedError):
            # A directory has no condition on what is there. Whoever else breaks this lease at the
            # very same time may then have it as well, until one of the two looks at it again.
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, self._key)
            return await self._create()
        return True

    async def _put(self, mode: PutMode) -> None:
        expires = self._clock() + self._life
        note = msgspec.json.encode(_Note(self._owner, expires))
        put = await obstore.put_async(self._store, self._key, note, mode=mode)
        self._expires = expires
        self._tag = put["e_tag"]

    async def _put_over(self, tag: str | None) -> None:
        if tag is None:
            raise NotSupportedError("the store gives no entity tags")
        await self._put({"e_tag": tag})

    async def renew(self) -> None:
        """Put the expiry off, if nobody has taken the lease over; raises Unavailable if so."""
        with translated("holding an upload"):
            try:
                await self._put_over(self._tag)
            except (PreconditionError, FileNotFoundError):
                self._is_lost = True
            except (NotSupportedError, NotImplementedError):
                await self._renew_without_condition()
        self.check()

    async def _renew_without_condition(self) -> None:
        try:
            found = await obstore.get_async(self._store, self._key)
            note = _read(bytes(await found.bytes_async()))
        except FileNotFoundError:
            note = None
        if note is None or note.owner != self._owner:
            self._is_lost = True
        else:
            await self._put("overwrite")

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
        """Raise Unavailable if somebody else may hold the upload by now."""
        if self._is_lost or self._clock() >= self._expires:
            lost = "this request held the upload for longer than the object store let it; try again"
            raise Unavailable(lost)

    async def release(self, renewing: asyncio.Task[None] | None = None) -> None:
        """Let go; what cannot be removed now expires.

        A renewal that is under way is waited for: it must not bring the lease back.
        """
        self._released.set()
        if renewing is not None:
            await renewing
        if not self._is_lost and self._clock() < self._expires:
            with suppress(Unavailable), translated("letting go of an upload"):
                await obstore.delete_async(self._store, self._key)


def is_live(content: bytes, now: int) -> bool:
    """Tell whether a lease's object says that somebody holds the upload."""
    note = _read(content)
    return note is not None and note.expires > now


def _read(content: bytes) -> _Note | None:
    try:
        return msgspec.json.decode(content, type=_Note)
    except msgspec.DecodeError:
        return None
