"""What a line of an older history is: an envelope, an event by itself, or an entry of an exported log. Pure.

An entry that a notification made is turned back into its event. One event makes an entry for each resource it changed
(tag, manifest), next to each other in the log: those of one event id become one event again, from the entry that names
the tag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from indexer.inventory.changes import AuditAction, AuditSource
from indexer.inventory.events import EventAction
from indexer.oci.media_types import OCTET_STREAM

_ACTIONS = {
    AuditAction.TAG_CREATED: EventAction.PUSH,
    AuditAction.TAG_MOVED: EventAction.PUSH,
    AuditAction.TAG_REPUSHED: EventAction.PUSH,
    AuditAction.TAG_DELETED: EventAction.DELETE,
    AuditAction.MANIFEST_PUSHED: EventAction.PUSH,
    AuditAction.MANIFEST_DELETED: EventAction.DELETE,
    AuditAction.MANIFEST_PULLED: EventAction.PULL,
    AuditAction.MANIFEST_CHECKED: EventAction.PULL,
    AuditAction.BLOB_PUSHED: EventAction.PUSH,
    AuditAction.BLOB_DELETED: EventAction.DELETE,
    AuditAction.BLOB_MOUNTED: EventAction.MOUNT,
    AuditAction.CONTENT_DELETED: EventAction.DELETE,
}
_BLOBS = (AuditAction.BLOB_PUSHED, AuditAction.BLOB_MOUNTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """Events, as a registry sends them, or an entry that no event made. ``place`` is file and line."""

    place: str
    events: tuple[Any, ...] = ()
    entry: Mapping[str, Any] | None = None
    from_entry: bool = False


def recognise(value: Any, *, place: str) -> Recognised:
    """Return the events or the entry of a JSON value; raise ``ValueError`` where it is none of the three forms."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if isinstance(value.get("events"), list):
        return Recognised(place=place, events=tuple(value["events"]))
    if isinstance(value.get("target"), dict) and "action" in value:
        return Recognised(place=place, events=(value,))
    if {"action", "source", "occurred_at", "recorded_at"} <= value.keys():
        return _entry(value, place)
    raise ValueError("neither an envelope, nor an event, nor an entry of an exported log")


def joined(found: Iterator[Recognised]) -> Iterator[Recognised]:
    """Join neighbouring entries of one event: the one that names the tag has all that the others have."""
    waiting: Recognised | None = None
    for one in found:
        if waiting is not None and one.from_entry and _id(waiting) == _id(one) is not None:
            waiting = one if one.events[0]["target"].get("tag") else waiting
            continue
        if waiting is not None:
            yield waiting
        waiting = one if one.from_entry else None
        if waiting is None:
            yield one
    if waiting is not None:
        yield waiting


def _id(one: Recognised) -> object:
    return one.events[0]["id"]


def _entry(entry: Mapping[str, Any], place: str) -> Recognised:
    if entry["source"] == AuditSource.NOTIFICATION and entry.get("event_id"):
        return Recognised(place=place, events=(event_of(entry),), from_entry=True)
    return Recognised(place=place, entry=entry)


def event_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event that made an entry, with the fields that the entry has; raise ``ValueError`` where none did."""
    try:
        action = AuditAction(str(entry["action"]))
        event_action = _ACTIONS[action]
    except (ValueError, KeyError):
        raise ValueError(f"no notification makes an entry of {str(entry['action'])[:80]!r}") from None
    detail = _members(entry, "detail")
    if detail.get("inferred_from") == "pull":
        event_action = EventAction.PULL
    tag, digest = entry.get("tag"), entry.get("digest")
    target = {
        "mediaType": OCTET_STREAM if action in _BLOBS else entry.get("media_type"),
        "digest": None if action is AuditAction.TAG_DELETED else digest,
        "repository": entry.get("repository"),
        "tag": tag,
        "fromRepository": detail.get("from_repository"),
    }
    request, registry = _members(entry, "request"), _members(entry, "registry")
    return {
        "id": entry["event_id"],
        "timestamp": entry["occurred_at"],
        "action": str(event_action),
        "target": _known(target),
        "request": _known(
            {
                "id": request.get("id"),
                "addr": _address(request),
                "host": request.get("host"),
                "method": request.get("method"),
                "useragent": request.get("user_agent"),
            }
        ),
        "actor": _known({"name": _members(entry, "actor").get("name")}),
        "source": _known({"addr": registry.get("address"), "instanceID": registry.get("instance_id")}),
    }


def _address(request: Mapping[str, Any]) -> str | None:
    address, port = request.get("address"), request.get("port")
    if not isinstance(address, str) or port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _members(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _known(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
