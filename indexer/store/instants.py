"""Instants at the edge to PostgreSQL: None here is an infinity there, so that columns compare without NULL."""

from __future__ import annotations

from datetime import UTC, datetime

NEVER = datetime.min.replace(tzinfo=UTC)
"""Written as '-infinity'; aware, so that it compares with instants."""

FOR_EVER = datetime.max  # noqa: DTZ901 - the driver's own form of 'infinity'; an aware one overflows in it
"""Written as 'infinity'."""


def or_never(at: datetime | None) -> datetime:
    """Return ``at``, or '-infinity'."""
    return NEVER if at is None else at


def or_for_ever(at: datetime | None) -> datetime:
    """Return ``at``, or 'infinity'."""
    return FOR_EVER if at is None else at


def known(at: datetime | None) -> datetime | None:
    """Return ``at``, or None for an infinity, which asyncpg reads as a naive datetime."""
    return None if at is None or at.tzinfo is None else at
