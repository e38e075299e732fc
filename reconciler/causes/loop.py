"""Gives findings their cause, once the counters cover the interval or a late event has come."""

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
"""Findings of one round. There are rarely more: findings of a first reconcile have their cause from the start."""


class Explainer:
    """The loop that explains findings. Several processes may run it: the cause stored first stays."""

    name = "causes"

    def __init__(self, pool: Pool, registry: Registry) -> None:
        self._pool = pool
        self._registry = registry

    async def run_once(self) -> IterationResult:
        """Explain what can be explained now; raise ``RegistryUnavailable`` if the registry does not answer."""
        explained = examined = 0
        after = (BEGINNING, 0)
        async with connection(self._pool) as held:
            while examined < MOST:
                found = await causes.list_unexplained(held, after=after, limit=BATCH)
                if not found:
                    break
                for finding in found:
                    explained += await self._explain(held, finding)
                examined += len(found)
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
        # Without an explanation the first cause stays: of a manifest, that content was removed.
        stored = finding.cause if cause is DriftCause.UNANNOUNCED else cause
        await causes.explain(held, finding_id=finding.id, cause=stored, at=now)
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
            # Of a repository whose directory is gone the registry serves nothing, whatever its storage has.
            listing = await self._registry.list_tags(finding.repository)
        except RegistryError as error:
            await raise_if_down(self._registry, error)
            return None
        return None if listing.unknown_repository else True
