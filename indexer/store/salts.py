"""Salted commitments that the leaves of the log have in place of people, and the salts that open them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("salts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a commitment is for: an actor on one day, or a client that an actor used. Id 0: none."""

    actor_id: int
    client_id: int
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Salt:
    """A commitment on record."""

    id: int
    commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSalt:
    """A commitment to be added."""

    subject: Subject
    salt: bytes
    commitment: bytes


async def find_salts(connection: Connection, *, subjects: Sequence[Subject]) -> dict[Subject, Salt]:
    """Return the commitments that are on record and were not erased."""
    rows = await connection.fetch(SQL["find_salts"], *_columns(subjects))
    return {
        subject: Salt(id=row["id"], commitment=row["commitment"])
        for subject, row in zip(subjects, rows, strict=True)
        if row["id"] is not None
    }


async def add_salts(connection: Connection, *, new: Sequence[NewSalt]) -> dict[Subject, Salt]:
    """Add commitments."""
    rows = await connection.fetch(
        SQL["add_salts"],
        *_columns([one.subject for one in new]),
        [one.salt for one in new],
        [one.commitment for one in new],
    )
    return {
        one.subject: Salt(id=row["id"], commitment=one.commitment) for one, row in zip(new, rows, strict=True)
    }


def _columns(subjects: Sequence[Subject]) -> tuple[list[int], list[int], list[date]]:
    return (
        [subject.actor_id for subject in subjects],
        [subject.client_id for subject in subjects],
        [subject.day for subject in subjects],
    )
