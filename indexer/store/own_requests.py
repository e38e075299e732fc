"""Which pulls are our own: the key that proves it, and the signatures that were used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from indexer.inventory.events import Event, EventAction
from indexer.inventory.own_requests import Claim, key_of, minute_of, nonce_of, weigh_claim
from indexer.store.identifiers import event_key
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("own_requests")

DETAIL = "says_it_is_the_reconciler"
"""In the detail of an entry: why a request with our name is not one of ours."""


async def own_key(connection: Connection) -> bytes:
    """Return the key that our requests are signed with."""
    return key_of(await connection.fetchval(SQL["secret"]))


async def recognise(held: Connection, events: Sequence[Event], *, now: datetime) -> list[Event]:
    """Return the events: our own requests marked as ``ours``, others that claim to be with the reason they are not.

    Left out are events of our own that were recognised before: they are known by their signature, not by their id.
    """
    if not any(_claims(event) for event in events):
        return list(events)
    key = await own_key(held)
    claims = {n: _weigh(event, key) for n, event in enumerate(events) if _claims(event)}
    signed = {n: _number(events[n]) for n, claim in claims.items() if claim is Claim.OWN}
    used, new = await _use(held, {number: events[n] for n, number in reversed(signed.items())}, now=now)
    recognised = []
    for number, event in enumerate(events):
        if number not in claims:
            recognised.append(event)
        elif number not in signed:
            recognised.append(_not_ours(event, claims[number]))
        elif used.get(signed[number]) != _tail(event):
            recognised.append(_not_ours(event, Claim.REPEATED))
        elif signed[number] in new:
            new.discard(signed[number])
            recognised.append(replace(event, ours=True))
    return recognised


async def _use(
    held: Connection, first: Mapping[int, Event], *, now: datetime
) -> tuple[dict[int, int], set[int]]:
    """Record the first event of each signature; return which event each belongs to, and which signatures are new."""
    if not first:
        return {}, set()
    tails = {number: _tail(event) for number, event in first.items()}
    issued = {number: minute_of(event.claim or "") for number, event in first.items()}
    today = now.astimezone(UTC).date()
    rows = await held.fetch(
        SQL["use_values"], list(tails), list(tails.values()), today, list(issued.values())
    )
    new = {row["number"] for row in rows}
    used = {number: tails[number] for number in new}
    # After the insert, which waits for a transaction that packs one of them: then its pack is found here.
    found = await held.fetch(SQL["find_packed"], list(new), [issued[number] for number in new]) if new else []
    if packed := {row["number"]: row["event"] for row in found}:
        await held.execute(SQL["drop_values"], list(packed))
        new -= packed.keys()
        used |= packed
    if others := [number for number in tails if number not in used]:
        used |= {row["number"]: row["event"] for row in await held.fetch(SQL["find_uses"], others)}
    return used, new


def claims_of(events: Iterable[Event]) -> Iterator[str]:
    """Yield what each pull that claims to be ours was found to be."""
    for event in events:
        if _claims(event):
            yield Claim.OWN if event.ours else str(event.notes[DETAIL])


async def pack_values(connection: Connection, *, before: datetime, limit: int) -> int:
    """Put together, by the minute, signatures that were issued before an instant; return how many.

    One that is packed is known like any other. It takes 13 bytes, and a row of its own 77.
    """
    return int(await connection.fetchval(SQL["pack_values"], int(before.timestamp()) // 60, limit))


async def trim_values(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget signatures used before the day of an instant; return how many that are not packed."""
    day = before.astimezone(UTC).date()
    await connection.execute(SQL["trim_packs"], day, limit)
    return int((await connection.execute(SQL["trim_values"], day, limit)).rsplit(" ", 1)[1])


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


def _number(event: Event) -> int:
    """Return half of the signature's random number: two of them are not the same in this world's time."""
    return int.from_bytes(nonce_of(event.claim or "")[8:], "big", signed=True)


def _tail(event: Event) -> int:
    """Return the last part of an event's id, which is random in every version of UUID."""
    return int.from_bytes(event_key(event.id).bytes[12:], "big", signed=True)


def _not_ours(event: Event, why: Claim) -> Event:
    return replace(event, notes=event.notes | {DETAIL: why})
