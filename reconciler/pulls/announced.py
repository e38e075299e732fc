"""Whether the registry sends events of pulls, concluded from our own requests.

The ingest stores that it does, with any pull event. That it does not is concluded here: we sent a GET or HEAD of a
manifest, of which such a registry sends an event, and none came although every delivery received is applied.
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
STORED_LATE = timedelta(seconds=90)
"""The ingest stores the newest pull once a minute, so the one stored may be this much older than ours."""

PATIENCE = timedelta(minutes=10)
"""Distribution sends an event within milliseconds, and repeats a failed delivery for ever."""


@dataclass(slots=True)
class OwnRequests:
    """When the first of our requests was served a manifest for which no pull event is known; None: there is none."""

    since: datetime | None = None

    def note(self, at: datetime) -> None:
        """Record that the registry served us a manifest."""
        if self.since is None:
            self.since = at


class PullAnnouncement(Enum):
    """What our own requests show about events of pulls."""

    ANNOUNCED = "announced"
    NOT_ANNOUNCED = "not announced"
    UNDECIDED = "undecided"


def decide(
    since: datetime, shown: TraitState | None, *, applied_until: datetime, now: datetime
) -> PullAnnouncement:
    """Decide about requests sent since ``since``.

    ``shown``: what is on record of the registry. ``applied_until``: every delivery received before it is applied.
    """
    if shown is not None and shown.holds and shown.observed_at >= since - STORED_LATE:
        return PullAnnouncement.ANNOUNCED
    if now - since < PATIENCE or applied_until < since + PATIENCE:
        return PullAnnouncement.UNDECIDED
    return PullAnnouncement.NOT_ANNOUNCED


class PullWatch:
    """The loop that notices that the registry sends no events of pulls (any more)."""

    name = "pulls"

    def __init__(self, pool: Pool, own_requests: OwnRequests) -> None:
        self._pool = pool
        self._own_requests = own_requests

    async def run_once(self) -> IterationResult:
        """Decide about the requests sent until now."""
        since, now = self._own_requests.since, datetime.now(UTC)
        if since is None:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        async with transaction(self._pool) as held:
            applied_until = (await freshness(held)).as_of
            shown = (await find_traits(held)).get(Trait.ANNOUNCES_PULLS)
            verdict = decide(since, shown, applied_until=applied_until, now=now)
            if verdict is PullAnnouncement.NOT_ANNOUNCED:
                because = "we read manifests, and the registry sent no event of that"
                await note_trait(held, trait=Trait.ANNOUNCES_PULLS, holds=False, because=because, at=now)
        if verdict is not PullAnnouncement.UNDECIDED:
            self._own_requests.since = None
        return IterationResult(
            items=int(verdict is PullAnnouncement.NOT_ANNOUNCED), rest_seconds=REST_SECONDS
        )
