"""When manifests were last pulled."""

from __future__ import annotations

from collections.abc import Sequence

from portside.stores.interfaces import LastPull
from portside.stores.metadata.engine import Noun, Transaction

_NOTE = """
    INSERT INTO manifest_pulls (manifest, repository, pulled)
    SELECT m.id, m.repository, $3
    FROM repositories r JOIN manifests m ON m.repository = r.id
    WHERE r.name = $1 AND m.digest = $2
    ON CONFLICT (manifest) DO UPDATE SET pulled = excluded.pulled
    WHERE manifest_pulls.pulled < excluded.pulled
"""


class Pulls(Noun):
    """The PullStore."""

    async def note_pulls(self, pulls: Sequence[LastPull]) -> None:
        """Write all of them in one transaction."""

        async def job(transaction: Transaction) -> None:
            rows = [(str(pull.repository), str(pull.digest), pull.time) for pull in pulls]
            await transaction.execute_each(_NOTE, rows)

        if pulls:
            await self._database.write(job)
