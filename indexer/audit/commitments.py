"""What entries commit to in place of people: one commitment per actor and day, and per client, actor and day.

A client's is apart for each actor, so that erasing one person says nothing about the others behind the same address.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from indexer.audit.leaf import SALT_BYTES, commit
from indexer.store.pool import Connection
from indexer.store.salts import NewSalt, Salt, Subject, add_salts, find_salts

CACHED = 50_000
NONE = 0
"""No actor, no client: an id that none has."""


class Salts:
    """The commitments that are in use, found or made. Who asks must hold the lock on the log's head."""

    def __init__(self) -> None:
        self._known: dict[Subject, Salt] = {}
        self._new: dict[Subject, Salt] = {}
        self._erasures = -1

    def begin(self, erasures: int) -> None:
        """Begin a transaction; ``erasures`` tells whether people were erased since the last one."""
        self._new = {}
        if erasures != self._erasures or len(self._known) > CACHED:
            self._known = {}
        self._erasures = erasures

    def keep(self) -> None:
        """Remember what the transaction added, now that it is committed."""
        self._known |= self._new

    async def of(self, held: Connection, rows: Sequence[Any]) -> Mapping[Subject, Salt]:
        """Return the commitments of entries, by :func:`actor_of` and :func:`client_of`."""
        wanted: dict[Subject, tuple[str, ...]] = {}
        for row in rows:
            actor, client = actor_of(row), client_of(row)
            if actor is not None:
                wanted[actor] = (row["actor"],)
            if client is not None:
                wanted[client] = (row["address"], row["user_agent"])
        missing = [subject for subject in wanted if subject not in self._known]
        if missing:
            self._new |= await find_salts(held, subjects=missing)
            unknown = [subject for subject in missing if subject not in self._new]
            self._new |= await add_salts(held, new=[_committed(one, wanted[one]) for one in unknown])
        return self._known | self._new


def actor_of(row: Any) -> Subject | None:
    """Return whose name an entry holds; None: nobody's."""
    if row["actor"] is None:
        return None
    return Subject(actor_id=row["actor_id"], client_id=NONE, day=row["occurred_at"].date())


def client_of(row: Any) -> Subject | None:
    """Return whose address and user agent an entry holds; None: nobody's."""
    if row["address"] is None:
        return None
    actor = NONE if row["actor"] is None else row["actor_id"]
    return Subject(actor_id=actor, client_id=row["client_id"], day=row["occurred_at"].date())


def _committed(subject: Subject, values: Sequence[str]) -> NewSalt:
    salt = secrets.token_bytes(SALT_BYTES)
    return NewSalt(subject=subject, salt=salt, commitment=bytes.fromhex(commit(salt, *values)))
