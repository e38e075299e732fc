"""The sealer: gives committed entries their gap-free position. One at a time; every server offers to be it."""

from __future__ import annotations

from indexer.service import Round
from indexer.store.audit import seal
from indexer.store.pool import Pool

BATCH = 2000
REST_SECONDS = 0.25
REST_WHILE_ANOTHER_SEALS_SECONDS = 2.0


class Sealer:
    """The loop that seals."""

    name = "seal"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run_once(self) -> Round:
        """Seal one batch."""
        sealed = await seal(self._pool, limit=BATCH)
        if sealed is None:
            return Round(items=0, rest_seconds=REST_WHILE_ANOTHER_SEALS_SECONDS)
        return Round(items=sealed, rest_seconds=0 if sealed == BATCH else REST_SECONDS)
