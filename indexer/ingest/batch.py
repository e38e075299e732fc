"""Deliveries of the inbox → the events of one batch, and what of them is quarantined.

A batch is bounded in events, so that one transaction neither fills the memory nor delays a push for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexer.ingest.envelope import Decoded, decode
from indexer.inventory.events import Event
from indexer.store.inbox import Delivery, Quarantine

BATCH_EVENTS = 5000
"""No further delivery is decoded from here on. One envelope may hold more: its events stay together."""

DECODED_IN_THREAD_BYTES = 1024 * 1024
"""From this size on a batch is decoded in a thread, so that other requests need not wait for it."""

MAX_QUARANTINED_APART = 100
"""Refused events of one delivery that get a row each; of more the delivery is quarantined as a whole."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """Decoded deliveries. ``originals`` are the events as the registry sent them, by id; imported ones have none."""

    deliveries: list[Delivery] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    originals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: list[Quarantine] = field(default_factory=list)


async def decode_batch(deliveries: Sequence[Delivery]) -> Batch:
    """Decode deliveries in their order until the batch has ``BATCH_EVENTS``; the others are not part of it."""
    size = sum(len(delivery.body) for delivery in deliveries)
    if size > DECODED_IN_THREAD_BYTES or any(delivery.content_encoding for delivery in deliveries):
        return await asyncio.to_thread(_decode, deliveries)
    return _decode(deliveries)


def _decode(deliveries: Sequence[Delivery]) -> Batch:
    batch = Batch()
    for delivery in deliveries:
        if len(batch.events) + len(batch.refused) >= BATCH_EVENTS:
            break
        decoded = decode(
            delivery.body,
            content_encoding=delivery.content_encoding,
            received_at=delivery.received_at,
            imported=delivery.imported,
        )
        batch.deliveries.append(delivery)
        batch.events += decoded.events
        for event, original in zip(decoded.events, decoded.originals, strict=True):
            if not event.imported:  # GitLab gets what happens now, not an older history
                batch.originals.setdefault(event.id, original)
        batch.refused += _refused(delivery, decoded)
    return batch


def _refused(delivery: Delivery, decoded: Decoded) -> list[Quarantine]:
    """Return the rows of the quarantine: one for each refused event, or one for the delivery where they are many."""
    refused = decoded.refused
    if len(refused) > MAX_QUARANTINED_APART:
        reason = f"{len(refused)} of its events were refused, the first: {refused[0].reason}"
        return [Quarantine(delivery=delivery, reason=reason)]
    return [Quarantine(delivery=delivery, reason=each.reason, body=each.body) for each in refused]
