"""Envelopes → events (Distribution notifications, ``events.v1+json`` of 2.8 and ``events.v2+json`` of 3.x).

An event is decoded however hostile its strings are: PostgreSQL refuses NUL, user agents are up to a megabyte long,
clocks and names are the client's. What had to be altered to be storable is in the event's ``notes``. What cannot be
decoded is refused with a reason; one bad event does not affect the others of its envelope.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pydantic_core

from indexer.inventory.events import Event, EventAction, InstanceInfo, RequestInfo
from indexer.inventory.own_requests import split_claim
from indexer.inventory.write_notices import split_write
from indexer.oci.digest import Digest, parse_digest
from indexer.oci.reference import RepositoryName, TagName, parse_repository_name, parse_tag_name
from indexer.store.text import LONGEST, storable

MAX_DECODED_BYTES = 16 * 1024 * 1024
"""After decompression: as much as a delivery may have that is not compressed."""

MAX_EVENTS = 10_000
"""Events of one envelope. Distribution sends one in each."""

MAX_VALUES = 600_000
"""Commas of one envelope: some 60 for each of MAX_EVENTS. Decoded, millions of tiny values take a hundred times their
bytes."""

MAX_SIZE_BYTES = 2**63 - 1
MAX_PORT = 65535
LONGEST_USER_AGENT = 1024
EARLIEST_BELIEVED = datetime(2000, 1, 1, tzinfo=UTC)
_INFLATE_ANY = 47  # zlib's window bits for "gzip or zlib, by its header"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEvent:
    """An event that could not be decoded, and why.

    ``body`` is the event as an envelope of its own; None: the whole delivery was refused, or must be kept.
    """

    reason: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The events of one delivery in their order, ``originals`` as the registry sent them, and what was refused.

    From ``originals`` the proxy's id of a write is taken off.
    """

    events: tuple[Event, ...] = ()
    originals: tuple[Mapping[str, Any], ...] = ()
    refused: tuple[RefusedEvent, ...] = ()


@dataclass(slots=True)
class _Notes:
    """What was altered in an event, and what is odd about it."""

    altered: dict[str, str] = field(default_factory=dict)
    odd: dict[str, object] = field(default_factory=dict)

    def as_detail(self) -> dict[str, object]:
        return self.odd | ({"altered": self.altered} if self.altered else {})


def decode(body: bytes, *, content_encoding: str, received_at: datetime, imported: bool = False) -> Decoded:
    """Decode a delivery. Never raises: what cannot be decoded is in ``refused``."""
    try:
        envelope = parse_json(_bounded(_inflate(body, content_encoding)))
    except ValueError as error:
        return Decoded(refused=(RefusedEvent(reason=str(error)),))
    if not isinstance(envelope, dict):
        return Decoded(refused=(RefusedEvent(reason="not an envelope: not a JSON object"),))
    listed = envelope.get("events")
    if listed is None and not (envelope.keys() - {"events"}):
        return Decoded()  # Distribution omits an empty list
    if not isinstance(listed, list):
        return Decoded(refused=(RefusedEvent(reason="not an envelope: no list of events"),))
    if len(listed) > MAX_EVENTS:
        reason = f"{len(listed)} events in one envelope, more than {MAX_EVENTS}"
        return Decoded(refused=(RefusedEvent(reason=reason),))
    return decode_events(listed, received_at=received_at, imported=imported)


def decode_events(sources: Iterable[Any], *, received_at: datetime, imported: bool = False) -> Decoded:
    """Decode the events of an envelope. Never raises.

    ``imported``: an event without a usable timestamp is refused; it did not happen when it was read, as a live event
    without one is taken to.
    """
    events, originals, refused = [], [], []
    for source in sources:
        try:
            event = _event(source, received_at)
            if imported:
                _refuse_undated(event)
                event = replace(event, imported=True)
            events.append(event)
            originals.append(source if event.write is None else _without_write(source))
        except ValueError as error:
            refused.append(_refused(source, str(error)))
        except RecursionError:
            refused.append(_refused(source, "it is nested too deeply"))
    return Decoded(events=tuple(events), originals=tuple(originals), refused=tuple(refused))


def _without_write(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event as the registry would have sent it without the proxy's id of the write."""
    request = source["request"]
    client, _ = split_write(request["useragent"])
    return {**source, "request": {**request, "useragent": client}}


def _inflate(body: bytes, encoding: str) -> bytes:
    """Decompress a body; Distribution never compresses, but a proxy in between might."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    inflater = zlib.decompressobj(_INFLATE_ANY)
    try:
        inflated = inflater.decompress(body, MAX_DECODED_BYTES)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed as {encoding}: {error}") from None
    if inflater.unconsumed_tail:
        raise ValueError(f"more than {MAX_DECODED_BYTES} bytes when decompressed")
    return inflated


def _bounded(body: bytes) -> bytes:
    values = body.count(b",")
    if values > MAX_VALUES:
        raise ValueError(f"{values} values in one envelope, more than {MAX_VALUES}")
    return body


def parse_json(body: bytes) -> Any:
    """Parse JSON with the strict, fast parser, else leniently; raise ``ValueError``.

    Lenient: bytes that are no UTF-8 are replaced, and control characters in strings are taken.
    """
    try:
        return pydantic_core.from_json(body)
    except ValueError as strict:
        try:
            return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
        except (ValueError, RecursionError):
            raise ValueError(f"not JSON: {str(strict)[:200]}") from None


def _refuse_undated(event: Event) -> None:
    for odd, reason in (
        ("timestamp_unreadable", "no readable timestamp"),
        ("timestamp_ahead", "its timestamp is in the future"),
    ):
        if odd in event.notes:
            raise ValueError(f"{reason}: {event.notes[odd]!s:.80}")


def _refused(source: Any, reason: str) -> RefusedEvent:
    """Refuse one event of an envelope; without ``body`` where it cannot be written as JSON again."""
    try:
        body = json.dumps({"events": [source]}, default=str).encode("utf-8", "replace")
    except (RecursionError, ValueError):
        return RefusedEvent(reason=reason)
    return RefusedEvent(reason=reason, body=body)


def _event(source: Any, received_at: datetime) -> Event:
    if not isinstance(source, dict):
        raise ValueError("not an event: not a JSON object")
    target = _object(source, "target")
    notes = _Notes()
    action = _action(source)
    repository = _repository(target)
    tag, digest = _tag(target), _digest(target)
    _refuse_incomplete(action, tag, digest)
    request, claim, write = _request(_object(source, "request"), notes)
    return Event(
        id=_id(source, notes),
        occurred_at=_occurred_at(source, received_at, notes),
        received_at=received_at,
        claimed_at=_claimed_at(notes),
        action=action,
        repository=repository,
        tag=tag,
        digest=digest,
        media_type=_text(target, "mediaType", notes, name="target.mediaType"),
        size_bytes=_size(target),
        from_repository=_text(target, "fromRepository", notes, name="target.fromRepository") or None,
        actor=_text(_object(source, "actor"), "name", notes, name="actor.name") or None,
        request=request,
        instance=_instance(_object(source, "source"), notes),
        notes=notes.as_detail(),
        claim=claim,
        write=write,
    )


def _action(source: Mapping[str, Any]) -> EventAction:
    action = str(source.get("action"))
    try:
        return EventAction(action)
    except ValueError:
        raise ValueError(f"unknown action {action[:80]!r}") from None


def _repository(target: Mapping[str, Any]) -> RepositoryName:
    name = target.get("repository")
    if not isinstance(name, str) or not name:
        raise ValueError("no repository")
    return parse_repository_name(name)


def _tag(target: Mapping[str, Any]) -> TagName | None:
    name = target.get("tag")
    if name is None or name == "":
        return None  # 3.x sends empty strings where 2.8 sends nothing
    if not isinstance(name, str):
        raise ValueError("not a tag: not a text")
    return parse_tag_name(name)


def _digest(target: Mapping[str, Any]) -> Digest | None:
    text = target.get("digest")
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise ValueError("not a digest: not a text")
    return parse_digest(text)


def _refuse_incomplete(action: EventAction, tag: TagName | None, digest: Digest | None) -> None:
    if digest is None and action is not EventAction.DELETE:
        raise ValueError(f"a {action} without a digest")
    if digest is None and tag is None:
        raise ValueError("a delete without tag or digest")


def _size(target: Mapping[str, Any]) -> int:
    size = target.get("size", target.get("length"))
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= MAX_SIZE_BYTES else 0


def _id(source: Mapping[str, Any], notes: _Notes) -> str:
    text = source.get("id")
    if isinstance(text, str) and text:
        return _storable(text, notes, name="id", longest=LONGEST)
    # A redelivery is byte-identical, so the content identifies an event that has no id of its own.
    canonical = json.dumps(source, sort_keys=True, default=str).encode("utf-8", "replace")
    notes.odd["id_missing"] = True
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def _occurred_at(source: Mapping[str, Any], received_at: datetime, notes: _Notes) -> datetime:
    text = source.get("timestamp")
    try:
        claimed = datetime.fromisoformat(text if isinstance(text, str) else "")
        claimed = (claimed if claimed.tzinfo else claimed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        notes.odd["timestamp_unreadable"] = _storable(str(text), _Notes(), name="", longest=80)
        return received_at
    if claimed < EARLIEST_BELIEVED:
        notes.odd["timestamp_unreadable"] = claimed.isoformat()
        return received_at
    if claimed > received_at:
        notes.odd["timestamp_ahead"] = claimed.isoformat()
        return received_at
    return claimed


def _claimed_at(notes: _Notes) -> datetime | None:
    """Return the event's own timestamp where it lies ahead of its receipt, which then counts instead."""
    ahead = notes.odd.get("timestamp_ahead")
    return datetime.fromisoformat(ahead) if isinstance(ahead, str) else None


def _request(source: Mapping[str, Any], notes: _Notes) -> tuple[RequestInfo, str | None, str | None]:
    """Return the request, the claim in its user agent that it is our own, and the proxy's id of it.

    The id is taken off first: a long user agent is cut at its end.
    """
    address, port = split_address(_text(source, "addr", notes, name="request.addr"))
    sent = source.get("useragent")
    client, write = split_write(sent) if isinstance(sent, str) else (sent, None)
    user_agent, claim = split_claim(
        _text({"useragent": client}, "useragent", notes, name="request.useragent", longest=LONGEST_USER_AGENT)
    )
    request = RequestInfo(
        id=_text(source, "id", notes, name="request.id") or None,
        address=address,
        port=port,
        host=_text(source, "host", notes, name="request.host"),
        method=_text(source, "method", notes, name="request.method", longest=32),
        user_agent=user_agent,
    )
    return request, claim, write


def split_address(text: str) -> tuple[str, int | None]:
    """Split ``host:port`` and ``[v6]:port``; behind a proxy the registry reports an address without a port."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    # No port has more digits than these, and int() refuses thousands of them.
    plausible = port.isdecimal() and len(port) <= len(str(MAX_PORT)) and int(port) <= MAX_PORT
    if colon and plausible and (bracketed or ":" not in host):
        return host.removeprefix("[").removesuffix("]"), int(port)
    return text, None


def _instance(source: Mapping[str, Any], notes: _Notes) -> InstanceInfo:
    return InstanceInfo(
        address=_text(source, "addr", notes, name="source.addr"),
        id=_text(source, "instanceID", notes, name="source.instanceID"),
    )


def _object(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def _text(source: Mapping[str, Any], key: str, notes: _Notes, *, name: str, longest: int = LONGEST) -> str:
    value = source.get(key)
    if value is None:
        return ""
    return _storable(value if isinstance(value, str) else str(value), notes, name=name, longest=longest)


def _storable(text: str, notes: _Notes, *, name: str, longest: int) -> str:
    """Return a text that PostgreSQL can store, at most ``longest`` characters; note what was altered."""
    clean, done = storable(text, longest=longest)
    if done:
        notes.altered[name] = done
    return clean
