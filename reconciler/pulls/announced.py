"""Whether the registry announces pulls: our own requests must have been announced, too.

That it does is written down by the ingest, with any pull. That it does not is found here: we fetched or checked a
manifest, which makes an event on any registry that announces pulls, and none came though nothing waits to be applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from indexer.background.loop import IterationResult
from indexer.store.listing.freshness import freshness
from indexer.store.pool import Pool, transaction
from indexer.store.traits import Trait, TraitState, find_traits, note_trait

REST_SECONDS = 60.0
NOTED_LATE = timedelta(seconds=90)
"""The ingest writes a pull down once a minute; one before ours by less may be the last one written."""

PATIENCE = timedelta(minutes=10)
"""Distribution sends an event within milliseconds, and tries again for as long as it must."""


@dataclass(slots=True)
class Asked:
    """Since when manifests were asked for, and got, that no pull is known to have been announced of."""

    since: datetime | None = None

    def note(self, at: datetime) -> None:
        """Remember a manifest that the registry served to us."""
        if self.since is None:
            self.since = at


class PullAnnouncement(Enum):
    """What our own requests show."""

    ANNOUNCED = "announced"
    PASSED_OVER = "passed over"
    UNDECIDED = "undecided"


def decide(
    since: datetime, shown: TraitState | None, *, applied_until: datetime, now: datetime
) -> PullAnnouncement:
    """Decide on requests made since ``since``. ``applied_until``: what was received before is applied."""
    if shown is not None and shown.holds and shown.observed_at >= since - NOTED_LATE:
        return PullAnnouncement.ANNOUNCED
    if now - since < PATIENCE or applied_until < since + PATIENCE:
        return PullAnnouncement.UNDECIDED
    return PullAnnouncement.PASSED_OVER


class PullWatch:
    """The loop that finds out that pulls are not announced (any more)."""

    name = "pulls"

    def __init__(self, pool: Pool, asked: Asked) -> None:
        self._pool = pool
        self._asked = asked

    async def run_once(self) -> IterationResult:
        """Decide on what was asked until now."""
        since, now = self._asked.since, datetime.now(UTC)
        if since is None:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        async with transaction(self._pool) as held:
            applied_until = (await freshness(held)).as_of
            shown = (await find_traits(held)).get(Trait.ANNOUNCES_PULLS)
            verdict = decide(since, shown, applied_until=applied_until, now=now)
            if verdict is PullAnnouncement.PASSED_OVER:
                because = "manifests were read, and the registry announced no pull of them"
                await note_trait(held, trait=Trait.ANNOUNCES_PULLS, holds=False, because=because, at=now)
        if verdict is not PullAnnouncement.UNDECIDED:
            self._asked.since = None
        return IterationResult(items=int(verdict is PullAnnouncement.PASSED_OVER), rest_seconds=REST_SECONDS)
