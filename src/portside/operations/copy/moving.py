"""Moving: start a copy, continue it, and let it replace the registry.

The registry serves until the end. The slow work, copying and reading all bytes, is done while it
may still change. Then it is made read-only, the last changes are copied, everything is compared,
bytes that were not read yet are read, and the two swap roles: the copy becomes the registry, and
the former registry stays read-only as a copy of it, so that moving back is as quick.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from portside.operations.check import Tally as CheckTally
from portside.operations.check import check
from portside.operations.collect import expire_uploads
from portside.operations.copy.plan import Plan, Progress, RegistryStores, Tally
from portside.operations.copy.rounds import Rounds
from portside.spec.errors import RegistryError
from portside.stores.actors import Actor
from portside.stores.copying import NotItsCopy
from portside.stores.read_only import Successor

LITTLE = 1000
"""Things that may be left to copy when the registry is made read-only: a matter of seconds."""

MOST_ROUNDS = 5
"""Rounds after which it is made read-only although more is left: it changes too fast to wait."""

SKEW = 3600
"""Seconds by which the target's clock may be ahead: every upload that is not held is dropped."""

ORPHANED_PAUSE = 0.5
"""Seconds after which a file that was dropped is gone."""


class Ending(NamedTuple):
    """How a move ended: whether the target took the source's place, and the source's switch."""

    is_moved: bool
    is_source_read_only: bool


class Move:
    """One run of the copy of a registry; `clock` returns microseconds since 1970.

    `successor` is where the target is, for those who still use the source after the move. `by` is
    who moves it, as events record it; without, none are recorded. `progress` is called whenever
    `tally` has grown. Every method raises Unavailable, StorageFull and NotItsCopy if the target is
    used otherwise; each can be interrupted, and be run again.
    """

    def __init__(
        self,
        source: RegistryStores,
        target: RegistryStores,
        *,
        tally: Tally,
        clock: Callable[[], int],
        successor: Successor,
        by: Actor | None = None,
        progress: Progress = lambda: None,
    ) -> None:
        self._source = source
        self._target = target
        self._tally = tally
        self._clock = clock
        self._successor = successor
        self._by = by
        self._progress = progress

    async def copy(self, *, verify: bool = False) -> None:
        """Make the target equal to the source as it is now; with `verify`, read its blobs too.

        What cannot be copied is a problem of the tally. Raises NotItsCopy if the target holds
        anything but a copy of the source.
        """
        await self._refuse_itself()
        async with self._target.metadata.claim():
            await (await self._begin()).run(verify=verify)

    async def finish(self) -> Ending:
        """Copy what is left, verify all of it, and let the target replace the source.

        If there is any problem, the tally names it, and the source continues as before.
        """
        await self._refuse_itself()
        async with self._source.metadata.claim(), self._target.metadata.claim():
            return await self._finish()

    async def _finish(self) -> Ending:
        rounds = await self._begin()
        await self._catch_up(rounds)
        if not self._tally.problems:
            await rounds.run(verify=True)
            await self._catch_up(rounds)
        before = await self._source.metadata.registry_state()
        if self._tally.problems:
            return Ending(is_moved=False, is_source_read_only=before.read_only)
        before = await self._source.metadata.set_read_only(read_only=True, by=self._by)
        is_verified = False
        try:
            await rounds.run()
            await self._verify(rounds)
            await self._look_at_switch()
            is_verified = not self._tally.problems
        finally:
            if not is_verified and not before.read_only:
                await self._source.metadata.set_read_only(read_only=False, by=self._by)
        if is_verified:
            # Whatever fails from here on, the source stays read-only: two registries would diverge.
            await self._swap_roles(before.identity)
        return Ending(is_verified, is_source_read_only=is_verified or before.read_only)

    async def _refuse_itself(self) -> None:
        source = await self._source.metadata.registry_state()
        target = await self._target.metadata.registry_state()
        # A registry that is restored is a copy of itself.
        if source.identity == target.identity and target.copy_of is None:
            raise NotItsCopy("source and target are the same registry")

    async def _begin(self) -> Rounds:
        """Require that the target may be written to, and drop unfinished uploads there."""
        source = await self._source.metadata.registry_state()
        target = await self._target.metadata.registry_state()
        if source.successor is not None:
            raise NotItsCopy(
                f"the source was moved to {source.successor.place}; copy that registry, or run"
                " `portside read-only off` to make the source independent"
            )
        if source.copy_of is not None:
            raise NotItsCopy(
                "the source is a copy itself; copy the registry that it is a copy of, or run"
                " `portside read-only off` to make the source independent"
            )
        is_new = target.copy_of != source.identity
        if is_new and await self._target.blobs.holds_blobs():
            raise NotItsCopy(
                "the target or its storage holds a registry that is not a copy of this one; choose"
                " an empty target"
            )
        await self._target.metadata.begin_copy(source.identity)
        before = self._clock() + SKEW * 1_000_000
        await expire_uploads(self._target.metadata, self._target.blobs, before)
        return Rounds(
            Plan(self._source, self._target, source.identity, self._tally, self._progress)
        )

    async def _catch_up(self, rounds: Rounds) -> None:
        """Run rounds until little is left for the next one."""
        for _ in range(MOST_ROUNDS):
            if await rounds.run() <= LITTLE or self._tally.problems:
                return

    async def _verify(self, rounds: Rounds) -> None:
        """Compare all rows and check the target; blobs that were read are not read again."""
        await self._drop_orphaned()
        await rounds.compare()
        self._tally.problems += [
            f"the target: {finding.text}"
            async for finding in check(
                self._target.metadata,
                self._target.blobs,
                CheckTally(),
                pause=ORPHANED_PAUSE,
                sound=rounds.blobs.sound,
            )
            if finding.is_damage
        ]

    async def _look_at_switch(self) -> None:
        if not (await self._source.metadata.registry_state()).read_only:
            self._tally.problems.append(
                "`portside read-only off` allowed changes to the source; start the move again"
            )

    async def _drop_orphaned(self) -> None:
        """Drop bytes that a killed copy had placed, and that the source no longer has."""
        target = self._target
        async for digest, _ in target.blobs.stored_blobs():
            if await target.metadata.blob_record(digest) is None:
                await target.metadata.remove_orphaned_blob(
                    digest, remove=target.blobs.remove(digest)
                )

    async def _swap_roles(self, identity: str) -> None:
        """Make the target the registry; nothing that fails after that changes it back."""
        await self._target.metadata.end_copy(identity, by=self._by)
        target = await self._target.metadata.registry_state()
        # If this fails, the source is read-only all the same; only moving back takes longer.
        with suppress(RegistryError):
            await self._source.metadata.follow(target.identity, self._successor)
