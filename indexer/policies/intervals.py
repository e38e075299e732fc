"""Instants that are known to lie between two others, and what can be said of them for certain.

An event's instant is known. A file's time in the registry's storage is the latest it can be. What a reconcile found
came between the last one that did not have it and the first that had. What was there on the first day is of any age.
The creation time that an image claims is never used.

Whatever deletes asks for certainty, whatever keeps for a possibility. So a wider interval never deletes more.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from indexer.inventory.records import TimeSource

LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Earlier than anything: nothing is known about how early it was."""


class Between(NamedTuple):
    """An instant from ``earliest`` to ``latest``, both possible; ``source`` is how it is known."""

    earliest: datetime
    latest: datetime
    source: TimeSource = TimeSource.EVENT

    @property
    def is_point(self) -> bool:
        """Tell whether it is known exactly."""
        return self.earliest == self.latest

    @property
    def as_point(self) -> Between:
        """The same as if its latest instant were known to be it."""
        return Between(self.latest, self.latest, self.source)


def exactly(at: datetime) -> Between:
    """Return the instant of an event."""
    return Between(at, at)


def before(latest: datetime, source: TimeSource = TimeSource.FIRST_SEEN) -> Between:
    """Return an instant of which only the end is known: a first observation, a time of the storage."""
    return Between(LONG_AGO, latest, source)


def certainly_ago(at: Between, period: timedelta, now: datetime) -> bool:
    """Tell whether it was at least ``period`` ago, whenever it was."""
    return now - at.latest >= period


def possibly_within(at: Between, period: timedelta, now: datetime) -> bool:
    """Tell whether it may have been less than ``period`` ago."""
    return now - at.latest < period


def certainly_later(one: Between, other: Between) -> bool:
    """Tell whether one was after the other, whenever they were."""
    return one.earliest > other.latest


def certain_from(at: Between, period: timedelta) -> datetime:
    """Return from when on it is certainly ``period`` ago."""
    return at.latest + period
