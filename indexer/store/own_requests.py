"""Which pulls are our own: the key that proves it, and the signatures that were used."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from indexer.inventory.events import Event, EventAction
from indexer.inventory.own_requests import Claim, key_of, nonce_of, weigh_claim
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("own_requests")

DETAIL = "says_it_is_the_reconciler"
"""In the detail of an entry: why a request with our name is not one of ours."""


async def own_key(connection: Connection) -> bytes:
    """Return the key that our requests are signed with."""
    return key_of(await connection.fetchval(SQL["secret"]))


async def recognise(held: Connection, events: Sequence[Event], *, now: datetime) -> list[Event]:
    """Return the events: our own requests marked as ``ours``, others that claim to be with the reason they are not."""
    if not any(_claims(event) for event in events):
        return list(events)
    key = await own_key(held)
    claims = {n: _weigh(event, key) for n, event in enumerate(events) if _claims(event)}
    first: dict[uuid.UUID, int] = {}
    for number, claim in claims.items():
        if claim is Claim.OWN:
            first.setdefault(_nonce(events[number]), number)
    rows = await held.fetch(SQL["use_values"], list(first), now) if first else []
    ours = {first[row["nonce"]] for row in rows}
    return [
        event if n not in claims else _recognised(event, claims[n], is_new=n in ours)
        for n, event in enumerate(events)
    ]


def claims_of(events: Iterable[Event]) -> Iterator[str]:
    """Yield what each pull that claims to be ours was found to be."""
    for event in events:
        if _claims(event):
            yield Claim.OWN if event.ours else str(event.notes[DETAIL])


async def trim_values(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget signatures used before an instant; return how many."""
    return int((await connection.execute(SQL["trim_values"], before, limit)).rsplit(" ", 1)[1])


def _claims(event: Event) -> bool:
    return event.action is EventAction.PULL and event.claim is not None


def _weigh(event: Event, key: bytes) -> Claim:
    reference = event.tag or event.digest
    resource = "blobs" if event.is_blob else "manifests"
    return weigh_claim(
        event.claim or "",
        key=key,
        method=event.request.method,
        path=f"/v2/{event.repository}/{resource}/{reference}",
        at=event.claimed_at or event.occurred_at,
    )


def _nonce(event: Event) -> uuid.UUID:
    return uuid.UUID(bytes=nonce_of(event.claim or ""))


def _recognised(event: Event, claim: Claim, *, is_new: bool) -> Event:
    if claim is Claim.OWN and is_new:
        return replace(event, ours=True)
    why = Claim.REPEATED if claim is Claim.OWN else claim
    return replace(event, notes=event.notes | {DETAIL: why})
