"""Instants at the edge to PostgreSQL: None here is an infinity there, so that columns compare without NULL."""

from __future__ import annotations

from datetime import UTC, datetime

NEVER = datetime.min.replace(tzinfo=UTC)
"""asyncpg writes this as '-infinity' and reads it back."""

FOR_EVER = datetime.max.replace(tzinfo=UTC)
"""asyncpg writes this as 'infinity' and reads it back."""


def or_never(at: datetime | None) -> datetime:
    """Return ``at``, or '-infinity'."""
    return NEVER if at is None else at


def or_for_ever(at: datetime | None) -> datetime:
    """Return ``at``, or 'infinity'."""
    return FOR_EVER if at is None else at


def known(at: datetime | None) -> datetime | None:
    """Return ``at``, or None for an infinity."""
    return None if at is None or at in (NEVER, FOR_EVER) else at
