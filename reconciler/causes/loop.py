"""Gives findings their cause, once the counters have settled the interval or a late event has come."""

from __future__ import annotations

from datetime import UTC, datetime

from indexer.background.loop import IterationResult
from indexer.common.errors import RegistryError
from indexer.inventory.causes import UnexplainedFinding, explain
from indexer.inventory.changes import DriftCause
from indexer.store import causes
from indexer.store.causes import BEGINNING, Unexplained
from indexer.store.pool import Connection, Pool, connection
from reconciler.observing.tags import raise_if_down
from reconciler.registry.protocol import Registry

REST_SECONDS = 5.0
BATCH = 200
MOST = 5000
"""Findings of one round; the first walk of a large registry explains itself, so there are rarely many."""


class Explainer:
    """The loop that does so. Several may: what one writes first stays."""

    name = "causes"

    def __init__(self, pool: Pool, registry: Registry) -> None:
        self._pool = pool
        self._registry = registry

    async def run_once(self) -> IterationResult:
        """Explain what can be explained now; raise ``RegistryUnavailable`` if the registry does not answer."""
        explained = looked = 0
        after = (BEGINNING, 0)
        async with connection(self._pool) as held:
            while looked < MOST:
                found = await causes.list_unexplained(held, after=after, limit=BATCH)
                if not found:
                    break
                for finding in found:
                    explained += await self._explain(held, finding)
                looked += len(found)
                after = (found[-1].detected_at, found[-1].id)
        return IterationResult(items=explained, rest_seconds=REST_SECONDS)

    async def _explain(self, held: Connection, finding: Unexplained) -> bool:
        now = datetime.now(UTC)
        known = await causes.evidence_between(held, since=finding.since, until=finding.detected_at)
        question = UnexplainedFinding(
            detected_at=finding.detected_at,
            not_before=finding.not_before,
            collected=await self._collected(held, finding),
            announced=await causes.was_announced(held, finding=finding),
            claims=known.claims,
            accounts=known.accounts,
            uncounted=known.uncounted,
        )
        cause = explain(question, now=now)
        if cause is None:
            return False
        # What cannot be told stays as it was said first: of a manifest, that content was removed.
        told = finding.cause if cause is DriftCause.UNANNOUNCED else cause
        await causes.explain(held, finding_id=finding.id, cause=told, at=now)
        return True

    async def _collected(self, held: Connection, finding: Unexplained) -> bool | None:
        if finding.tag is not None or finding.expected is None:
            return None
        layer = await causes.find_own_layer(held, digest=finding.expected)
        if layer is None:
            return None
        try:
            if (await self._registry.kind()).is_cache:
                return None
            if await self._registry.has_blob(finding.repository, layer):
                return False
            # Of a repository whose directory is gone nothing is served, whatever is stored.
            listing = await self._registry.list_tags(finding.repository)
        except RegistryError as error:
            await raise_if_down(self._registry, error)
            return None
        return None if listing.unknown_repository else True
