"""An audit entry as a CloudEvent (CloudEvents 1.0, JSON format): what every sink and the stream deliver.

``id`` is the log's identity and the entry's position: the same whenever and to whomever it is delivered, so a
receiver that keeps the ids it has seen takes each entry once. ``sequence`` (the extension of that name) is the
position, padded so that it sorts as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

SEQUENCE_DIGITS = 20
"""Of the largest position there can be, and one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose events these are: ``source`` (None: the log's own URN) and what types begin with."""

    log: UUID
    source: str | None = None
    type_prefix: str = "registry-indexer"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredEvent:
    """One entry, ready to be delivered; ``body`` is the whole CloudEvent as JSON."""

    position: int
    id: str
    source: str
    type: str
    subject: str | None
    entry: Mapping[str, Any]
    body: bytes
    leaf: bytes | None = None
    """The entry's leaf hash, where who reads the log has it; never delivered."""


def cloud_event(entry: Mapping[str, Any], origin: Origin, *, leaf: bytes | None = None) -> DeliveredEvent:
    """Return a sealed entry, as ``audit.present`` shows it, as a CloudEvent."""
    position: int = entry["position"]
    sequence = f"{position:0{SEQUENCE_DIGITS}}"
    subject = _subject(entry)
    source = origin.source or origin.log.urn
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id(origin.log, position),
        "source": source,
        "type": f"{origin.type_prefix}.{entry['action']}",
        "time": entry["occurred_at"],
        "sequence": sequence,
        "datacontenttype": "application/json",
    }
    if subject is not None:
        envelope["subject"] = subject
    return DeliveredEvent(
        position=position,
        id=envelope["id"],
        source=source,
        type=envelope["type"],
        subject=subject,
        entry=entry,
        body=orjson.dumps(envelope | {"data": entry}),
        leaf=leaf,
    )


def event_id(log: UUID, position: int) -> str:
    """Return the id of the event at a position."""
    return f"{log}/{position:0{SEQUENCE_DIGITS}}"


def _subject(entry: Mapping[str, Any]) -> str | None:
    """Return what an event is about, as references are written: ``repository:tag`` or ``repository@digest``."""
    repository = entry["repository"]
    if not repository:
        return None
    if entry["tag"]:
        return f"{repository}:{entry['tag']}"
    return f"{repository}@{entry['digest']}" if entry["digest"] else str(repository)
