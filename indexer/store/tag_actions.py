"""What we do to tags of the registry: on record before the first request, and joined with the events of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from indexer.inventory.events import Event, EventAction
from indexer.inventory.own_actions import ActionKind, OtherInstance, OwnAction, TagAction, WatchedEvent
from indexer.inventory.own_requests import Claim, nonce_of, weigh_claim
from indexer.inventory.records import TimeSource
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.identifiers import event_key
from indexer.store.instants import known, or_for_ever
from indexer.store.lookups import Lookups
from indexer.store.own_requests import own_key
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("tag_actions")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptManifest:
    """A manifest as it was before its tag was deleted. ``role``: child, tagged or referrer."""

    role: str
    digest: Digest
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTag:
    """A live tag as the inventory has it; ``verified``: an observation agreed since its last event."""

    digest: Digest | None
    verified: bool
    published_at: datetime
    published_source: TimeSource
    first_seen_at: datetime
    pushed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarming:
    """What an operator must see; ``examples`` are tags that may be left on a dummy manifest."""

    on_dummy: int
    uncertain: int
    put_back: int
    examples: Sequence[str]


async def plan_action(
    connection: Connection,
    action: TagAction,
    *,
    watched_until: datetime,
    lease_seconds: float,
    holder: uuid.UUID,
) -> bool:
    """Put an action on record before anything is sent; False: something is under way for the tag."""
    row = await connection.fetchrow(
        SQL["plan_action"],
        action.id,
        action.kind,
        action.repository,
        action.tag,
        digest_to_bytes(action.digest),
        action.source,
        action.actor,
        action.reason,
        action.job,
        action.of_action,
        action.asked_at,
        watched_until,
        action.kept_until,
        lease_seconds,
        holder,
        action.published_at,
        action.published_source,
        action.first_seen_at,
        action.pushed_by,
    )
    return row is not None


async def note_request(
    connection: Connection,
    *,
    looked_at: Mapping[uuid.UUID, datetime | None],
    nonce: uuid.UUID,
    method: str,
    path: str,
    now: datetime,
    dummy: Digest | None = None,
) -> None:
    """Record that a request is about to be sent for actions, each last looked at at an instant of the registry."""
    await connection.execute(
        SQL["note_request"],
        list(looked_at),
        list(looked_at.values()),
        nonce,
        method,
        path,
        now,
        None if dummy is None else digest_to_bytes(dummy),
    )


async def mark_done(
    connection: Connection, *, ids: Sequence[uuid.UUID], now: datetime, due_at: datetime
) -> None:
    """Record that the registry answered."""
    await connection.execute(SQL["mark_done"], list(ids), now, due_at)


async def end_action(
    connection: Connection,
    *,
    number: uuid.UUID,
    now: datetime,
    state: str,
    outcome: str,
    note: str,
    again_at: datetime | None = None,
    events: int | None = None,
) -> None:
    """Record what an action came to; ``again_at``: it is checked again then, or at once if it has other ``events``."""
    await connection.execute(
        SQL["end_action"], number, now, state, outcome, note, or_for_ever(again_at), events
    )


async def leave_uncertain(
    connection: Connection,
    *,
    number: uuid.UUID,
    now: datetime,
    note: str,
    again_at: datetime | None,
    events: int,
) -> None:
    """Record that an action is uncertain, like ``end_action``. What a person confirmed stays confirmed."""
    await connection.execute(SQL["leave_uncertain"], number, now, note, or_for_ever(again_at), events)


async def put_off(connection: Connection, *, ids: Sequence[uuid.UUID], until: datetime) -> None:
    """Have actions checked later."""
    await connection.execute(SQL["put_off"], list(ids), until)


async def extend_leases(
    connection: Connection, *, ids: Sequence[uuid.UUID], holder: uuid.UUID, seconds: float
) -> set[uuid.UUID]:
    """Go on with actions for some seconds from now; return those that are still the holder's."""
    rows = await connection.fetch(SQL["extend_leases"], list(ids), holder, seconds)
    return {row["id"] for row in rows}


async def take_due(
    connection: Connection,
    *,
    lease_seconds: float,
    holder: uuid.UUID,
    limit: int,
    ids: Sequence[uuid.UUID] = (),
    repository: RepositoryName | None = None,
) -> list[TagAction]:
    """Take actions that are due to be checked or finished, those that left a dummy manifest first."""
    rows = await connection.fetch(SQL["take_due"], limit, lease_seconds, holder, list(ids), repository)
    return await find_actions(connection, ids=[row["id"] for row in rows])


async def unfinished_dummies(connection: Connection, *, repository: RepositoryName) -> list[uuid.UUID]:
    """Return the actions in a repository whose dummy manifest may still be in a tag's place."""
    return [row["id"] for row in await connection.fetch(SQL["unfinished_dummies"], repository)]


async def with_dummy(connection: Connection, *, repository: RepositoryName, dummy: Digest) -> list[uuid.UUID]:
    """Return the actions in a repository that use a dummy manifest."""
    rows = await connection.fetch(SQL["with_dummy"], repository, digest_to_bytes(dummy))
    return [row["id"] for row in rows]


async def find_actions(connection: Connection, *, ids: Sequence[uuid.UUID]) -> list[TagAction]:
    """Return actions, by repository and tag."""
    rows = await connection.fetch(SQL["find_actions"], list(ids)) if ids else []
    return [action_of(row) for row in rows]


async def of_job(connection: Connection, *, job: uuid.UUID) -> list[TagAction]:
    """Return what was done for a job."""
    return [action_of(row) for row in await connection.fetch(SQL["of_job"], job)]


async def events_of(connection: Connection, *, number: uuid.UUID) -> list[WatchedEvent]:
    """Return the events of an action's tag while it is watched, in their order."""
    return [
        WatchedEvent(
            at=row["occurred_at"],
            ours=row["ours"],
            announces=row["announces"],
            digest=None if row["digest"] is None else digest_from_bytes(row["digest"]),
            actor=row["actor"],
            instance=row["instance_id"],
            instance_first_at=row["first_event_at"],
            tag=TagName(row["tag"]) if row["tag"] else None,
        )
        for row in await connection.fetch(SQL["events_of"], number)
    ]


async def other_instances(connection: Connection, *, since: datetime) -> list[OtherInstance]:
    """Return the registry processes that were heard of since an instant of ours."""
    return [
        OtherInstance(
            id=row["id"],
            address=row["address"],
            first_event_at=row["first_event_at"],
            last_event_at=row["last_event_at"],
            counted_from=row["began_at"],
            accounted_until=known(row["accounted_until"]),
            ended_at=row["ended_at"],
        )
        for row in await connection.fetch(SQL["other_instances"], since)
    ]


async def put_back_until(connection: Connection, *, number: uuid.UUID) -> dict[TagName, datetime]:
    """Return when the newest push was made that was put back for an action, of each tag, by the registry's clock.

    The tag '' is the manifest by its digest, which has no push of its own: there it is when it was put back.
    """
    rows = await connection.fetch(SQL["put_back_until"], number)
    return {TagName(row["tag"]): row["published_at"] for row in rows}


async def was_deleted_again(connection: Connection, *, number: uuid.UUID) -> bool:
    """Tell whether we looked at an action's tag or manifest since in order to delete it; that may be under way."""
    found: bool = await connection.fetchval(SQL["deleted_again"], number)
    return found


async def was_tag_deleted_since(
    connection: Connection, *, repository: RepositoryName, tag: TagName, since: datetime
) -> bool:
    """Tell whether we looked at a tag after an instant of the registry in order to delete it."""
    found: bool = await connection.fetchval(SQL["tag_deleted_since"], repository, tag, since)
    return found


async def find_recorded(
    connection: Connection, *, repository: RepositoryName, tags: Sequence[TagName]
) -> dict[TagName, RecordedTag]:
    """Return what the inventory has of live tags."""
    return {
        TagName(row["name"]): RecordedTag(
            digest=None if row["digest"] is None else digest_from_bytes(row["digest"]),
            verified=row["verified"],
            published_at=row["published_at"],
            published_source=TimeSource(row["published_source"]),
            first_seen_at=row["first_seen_at"],
            pushed_by=row["pushed_by"],
        )
        for row in await connection.fetch(SQL["find_recorded"], repository, list(tags))
    }


async def was_lossy(connection: Connection, *, since: datetime, until: datetime) -> str | None:
    """Return why events of an interval may have been lost; None: nothing says so."""
    why: str | None = await connection.fetchval(SQL["was_lossy"], since, until)
    return why


async def keep_manifests(
    connection: Connection, *, number: uuid.UUID, manifests: Sequence[KeptManifest], now: datetime
) -> None:
    """Keep the manifests of a deletion, in the order in which they are to be put back."""
    unique = {each.digest: each for each in manifests}
    ordered = sorted(unique.values(), key=lambda each: each.digest)
    await connection.execute(
        SQL["keep_manifests"],
        [digest_to_bytes(each.digest) for each in ordered],
        [each.media_type for each in ordered],
        [each.content for each in ordered],
        now,
    )
    await connection.execute(
        SQL["put_in_trash"],
        number,
        [digest_to_bytes(each.digest) for each in manifests],
        [each.role for each in manifests],
    )


async def keep_dummy(
    connection: Connection, *, digest: Digest, media_type: str, content: bytes, now: datetime
) -> None:
    """Keep a dummy manifest: a tag that it left dangling can be reached only by pushing it there again."""
    await connection.execute(SQL["keep_manifests"], [digest_to_bytes(digest)], [media_type], [content], now)


async def drop_planned(connection: Connection, *, holder: uuid.UUID, now: datetime) -> None:
    """End what a holder had planned and sent no request for."""
    await connection.execute(SQL["drop_planned"], holder, now)


async def kept_of(connection: Connection, *, number: uuid.UUID) -> list[KeptManifest]:
    """Return the manifests of a deletion, in the order in which they are put back."""
    return [_kept(row, row["role"]) for row in await connection.fetch(SQL["kept_of"], number)]


async def find_kept(connection: Connection, *, digest: Digest) -> KeptManifest | None:
    """Return one kept manifest."""
    row = await connection.fetchrow(SQL["find_kept"], digest_to_bytes(digest))
    return None if row is None else _kept(row, "tagged")


async def newest_deletion(
    connection: Connection, *, repository: RepositoryName, tag: TagName
) -> TagAction | None:
    """Return the newest deletion of a tag that was carried out."""
    row = await connection.fetchrow(SQL["newest_deletion"], repository, tag)
    return None if row is None else action_of(row)


async def newest_unlinking(
    connection: Connection, *, repository: RepositoryName, digest: Digest
) -> TagAction | None:
    """Return the newest deletion of a manifest by its digest that was carried out."""
    row = await connection.fetchrow(SQL["newest_unlinking"], repository, digest_to_bytes(digest))
    return None if row is None else action_of(row)


async def mark_gone(connection: Connection, *, number: uuid.UUID, because: str | None) -> None:
    """Record why a deletion cannot be undone; None: it can."""
    await connection.execute(SQL["mark_gone"], number, because)


async def count_alarming(connection: Connection) -> Alarming:
    """Return what an operator must see."""
    row = await connection.fetchrow(SQL["count_alarming"])
    return Alarming(
        on_dummy=row["on_dummy"],  # type: ignore[index]  # an aggregate always has a row
        uncertain=row["uncertain"],  # type: ignore[index]
        put_back=row["put_back"],  # type: ignore[index]
        examples=list(row["examples"] or ()),  # type: ignore[index]
    )


async def trim_actions(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget actions that are not kept any longer, and the manifests that only they kept; return how many actions."""
    status = await connection.execute(SQL["trim_actions"], before, limit)
    await connection.execute(SQL["trim_kept"], limit)
    return int(status.rsplit(" ", 1)[1])


# --- the events of our own requests -----------------------------------------------------------------------------


async def recognise(held: Connection, events: Sequence[Event]) -> list[Event]:
    """Return the events, with ``own`` set on those of a request that we sent for an action.

    The signature must be right, the request on record, its tag the event's, and its first event of the same request:
    whoever read a signature in a log cannot use it.
    """
    claimed = [n for n, event in enumerate(events) if event.action in _CHANGES and event.claim]
    if not claimed:
        return list(events)
    rows = await held.fetch(SQL["find_requests"], [_nonce(events[n]) for n in claimed])
    if not rows:
        return list(events)
    key = await own_key(held)
    by_nonce: dict[uuid.UUID, list[asyncpg.Record]] = {}
    for row in rows:
        by_nonce.setdefault(row["nonce"], []).append(row)
    bound = {row["nonce"]: row["request_key"] for row in rows if row["request_key"] is not None}
    recognised = list(events)
    new: dict[uuid.UUID, uuid.UUID] = {}
    for number in claimed:
        event = events[number]
        nonce = _nonce(event)
        candidates = by_nonce.get(nonce)
        if not candidates or not event.request.id or not _is_signed(event, candidates[0], key):
            continue
        request = event_key(event.request.id)
        if bound.setdefault(nonce, request) != request:
            continue
        new[nonce] = request
        about = next((each for each in candidates if _is_about(each, event)), None)
        if about is not None:
            recognised[number] = replace(event, own=_own(about))
    if new:
        ordered = sorted(new)
        await held.execute(SQL["bind_requests"], ordered, [new[nonce] for nonce in ordered])
    return recognised


async def note_events(held: Connection, lookups: Lookups, events: Iterable[Event], *, now: datetime) -> None:
    """Note events of what is watched, in the transaction that applies them; their actions are checked soon.

    Of an action on a tag these are the events that name the tag; of one on a manifest, those that name its digest.
    """
    changes = [event for event in events if event.action in _CHANGES and not event.imported]
    noted = [*await _of_tags(held, changes, now), *await _of_manifests(held, changes, now)]
    if not noted:
        return
    instances = await lookups.instances(event.instance for _, event, _ in noted)
    await held.execute(
        SQL["note_events"],
        [number for number, _, _ in noted],
        [event_key(event.id) for _, event, _ in noted],
        [event.claimed_at or event.occurred_at for _, event, _ in noted],
        [instances[event.instance] for _, event, _ in noted],
        [event.own is not None for _, event, _ in noted],
        [
            digest_to_bytes(event.digest)
            if event.digest is not None and event.action is EventAction.PUSH
            else None
            for _, event, _ in noted
        ],
        [event.actor for _, event, _ in noted],
        [event.own is not None and event.own.id == str(number) for number, event, _ in noted],
        [tag for _, _, tag in noted],
    )
    await held.execute(SQL["wake_actions"], sorted({number for number, _, _ in noted}), now)


_Noted = tuple[uuid.UUID, Event, TagName | None]
"""An action, an event of what it is about, and the tag of that event if the action is about a manifest."""


async def _of_tags(held: Connection, changes: Sequence[Event], now: datetime) -> list[_Noted]:
    named = sorted({(event.repository, event.tag) for event in changes if event.tag is not None})
    if not named:
        return []
    rows = await held.fetch(SQL["find_watched"], [name for name, _ in named], [tag for _, tag in named], now)
    watching: dict[tuple[str, str], list[uuid.UUID]] = {}
    for row in rows:
        watching.setdefault((row["repository"], row["tag"]), []).append(row["id"])
    return [
        (number, event, None)
        for event in changes
        if event.tag is not None
        for number in sorted(watching.get((event.repository, event.tag), ()))
    ]


async def _of_manifests(held: Connection, changes: Sequence[Event], now: datetime) -> list[_Noted]:
    named = sorted(
        {
            (event.repository, event.digest)
            for event in changes
            if event.digest is not None and not event.is_blob
        }
    )
    if not named:
        return []
    digests = [digest_to_bytes(digest) for _, digest in named]
    rows = await held.fetch(SQL["find_watched_manifests"], [name for name, _ in named], digests, now)
    watching: dict[tuple[str, str], list[uuid.UUID]] = {}
    for row in rows:
        watching.setdefault((row["repository"], digest_from_bytes(row["digest"])), []).append(row["id"])
    return [
        (number, event, event.tag)
        for event in changes
        if event.digest is not None
        for number in sorted(watching.get((event.repository, event.digest), ()))
    ]


_CHANGES = frozenset({EventAction.PUSH, EventAction.DELETE})


def _nonce(event: Event) -> uuid.UUID:
    return uuid.UUID(bytes=nonce_of(event.claim or ""))


def _is_signed(event: Event, row: asyncpg.Record, key: bytes) -> bool:
    at = event.claimed_at or event.occurred_at
    found = weigh_claim(event.claim or "", key=key, method=row["method"], path=row["path"], at=at)
    return found is Claim.OWN and event.request.method.upper() in {"", row["method"]}


def _is_about(row: asyncpg.Record, event: Event) -> bool:
    if row["repository"] != event.repository:
        return False
    if row["tag"]:
        return bool(row["tag"] == event.tag)
    # A manifest that is deleted by its digest takes its tags along; what is put back by digest has none.
    of_it = event.digest is not None and digest_to_bytes(event.digest) == row["digest"]
    return of_it or (event.action is EventAction.DELETE and event.tag is not None)


def _own(row: asyncpg.Record) -> OwnAction:
    return OwnAction(
        id=str(row["id"]),
        kind=ActionKind(row["kind"]),
        source=row["source"],
        actor=row["actor"],
        reason=row["reason"],
        job=None if row["job_id"] is None else str(row["job_id"]),
        published_at=row["published_at"],
        published_source=None if row["published_source"] is None else TimeSource(row["published_source"]),
        first_seen_at=row["first_seen_at"],
        pushed_by=row["pushed_by"],
    )


def action_of(row: asyncpg.Record) -> TagAction:
    """Return the action of a row that has its columns, and perhaps others."""
    return TagAction(
        id=row["id"],
        kind=ActionKind(row["kind"]),
        state=row["state"],
        repository=RepositoryName(row["repository"]),
        tag=TagName(row["tag"]),
        digest=digest_from_bytes(row["digest"]),
        dummy=None if row["dummy"] is None else digest_from_bytes(row["dummy"]),
        source=row["source"],
        actor=row["actor"],
        reason=row["reason"],
        job=row["job_id"],
        of_action=row["of_action"],
        asked_at=row["asked_at"],
        looked_at=row["looked_at"],
        requested_at=row["requested_at"],
        done_at=row["done_at"],
        ended_at=row["ended_at"],
        kept_until=row["kept_until"],
        outcome=row["outcome"],
        note=row["note"],
        gone=row["gone"],
        events=row["events"],
        published_at=row["published_at"],
        published_source=None if row["published_source"] is None else TimeSource(row["published_source"]),
        first_seen_at=row["first_seen_at"],
        pushed_by=row["pushed_by"],
    )


def _kept(row: asyncpg.Record, role: str) -> KeptManifest:
    return KeptManifest(
        role=role,
        digest=digest_from_bytes(row["digest"]),
        media_type=row["media_type"],
        content=row["content"],
    )
