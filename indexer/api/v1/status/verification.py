"""Verification: how many tags are verified, and how long that takes after a push."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.store.listing import status as store
from indexer.store.pool import Connection

VERIFICATION_KEPT_SECONDS = 15.0
"""How long the counts are cached: they read every tag."""


class VerifiedPushes(Shown):
    """Seconds from a push's event (registry's clock) to the first observation that agreed, in the last hour.

    Exact to a tenth of the value.
    """

    pushes: int
    median_seconds: float | None
    p99_seconds: float | None


class VerificationShown(Shown):
    """Shares of all tags, 0 to 1; null without tags."""

    verified: float | None
    within_15_minutes: float | None
    within_24_hours: float | None
    broken: float | None
    sampled: bool = Field(description="Estimated from a sample.")
    push_to_verified: VerifiedPushes


async def counted_verification(
    held: Connection, memory: MutableMapping[str, Any], found: store.StatusRows
) -> store.Verification:
    """Return the shares, from the cache in ``memory`` (that of the process) or counted now."""
    kept = memory.get("verification")
    if kept is not None and time.monotonic() - kept[0] < VERIFICATION_KEPT_SECONDS:
        return kept[1]  # type: ignore[no-any-return]  # the process's memory holds anything
    counted = await store.verification(held, tags=found.totals["tags"], now=found.ingest["now"])
    memory["verification"] = (time.monotonic(), counted)
    return counted


def show_verification(shares: store.Verification) -> dict[str, Any]:
    """Return a :class:`VerificationShown` for the response."""
    return {
        "verified": shares.verified,
        "within_15_minutes": shares.within_15_minutes,
        "within_24_hours": shares.within_24_hours,
        "broken": shares.broken,
        "sampled": shares.sampled,
        "push_to_verified": {
            "pushes": shares.pushes,
            "median_seconds": shares.median_seconds,
            "p99_seconds": shares.p99_seconds,
        },
    }
