"""How everything is doing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.answers import Thing
from indexer.api.models import Shown
from indexer.api.openapi import Call, operation
from indexer.api.parameters import Query
from indexer.audit.verify import Fault
from indexer.errors import CallerError
from indexer.inventory.changes import DueKind
from indexer.inventory.loss import LossState
from indexer.rfc3339 import format_time
from indexer.store.checkpoints import Signed, newest_checkpoint
from indexer.store.checks import CheckState, check_state
from indexer.store.feeds import FeedState, list_feeds
from indexer.store.forwarding import forwarding_backlog
from indexer.store.instants import known
from indexer.store.listing import status as store
from indexer.store.listing.freshness import freshness
from indexer.store.listing.walk import Row
from indexer.store.pool import Connection

VERIFICATION_KEPT_SECONDS = 15.0
"""Counting the verified reads every tag, so its result may be this old."""


class NoQuery(Query):
    """No parameters."""


class Backlog(Shown):
    """Work of one kind that waits."""

    waiting: int
    due: int = Field(description="Of these, how many need not wait any longer.")
    failing: int = Field(description="Of these, how many failed before.")
    since: datetime | None
    age_seconds: float | None


class Unsealed(Shown):
    """Audit entries that have no position yet."""

    entries: int
    since: datetime | None


class Loss(Shown):
    """What is claimed of the events that were made in an interval."""

    state: LossState
    lost: int | None = Field(description="At most so many; null unless the state is `at_most`.")
    from_: datetime = Field(alias="from")
    to: datetime
    because: str | None


class Process(Shown):
    """A registry process by its own counters, read at its debug address."""

    address: str
    instance_id: str | None = Field(description="Whose counters these are; null while that is not known.")
    began_at: datetime = Field(description="Of the first reading.")
    read_at: datetime
    ended_at: datetime | None
    error: str | None = Field(description="Why the last reading failed; null: it did not.")
    events: int = Field(description="Made for our endpoint since the process began.")
    delivered: int
    pending: int
    missing: int = Field(description="Delivered and not received, at most.")
    loss: Loss
    intervals: list[Loss] = Field(description="The latest first; at most 5.")


class Instance(Shown):
    """One registry process: a restart makes a new one."""

    instance_id: str
    address: str
    events: int = Field(description="Distinct events received.")
    first_seen_at: datetime
    last_seen_at: datetime
    first_event_at: datetime | None
    last_event_at: datetime | None
    missing: int | None = Field(
        description="Delivered by its counters and not received, at most; null: unknown."
    )
    loss: Loss
    intervals: list[Loss] = Field(description="The latest first; at most 5.")


class Walk(Shown):
    """A complete walk of everything."""

    id: int
    started_at: datetime
    finished_at: datetime
    counts: dict[str, Any]


class WalkFound(Shown):
    """What one walk of everything found."""

    id: int
    started_at: datetime
    finished_at: datetime
    outcome: Literal["complete", "incomplete", "braked"]
    repositories: int = Field(description="Compared in full or in part.")
    tags: int = Field(description="Looked at.")
    repaired: int
    held_back: int = Field(description="Deletions that the brake did not allow.")
    undecided: dict[str, int] = Field(description="How much could not be decided, by kind of reason.")


class VerifiedPushes(Shown):
    """From a push's event (registry's clock) to the first look that agreed; of the last hour, exact to a tenth."""

    pushes: int
    median_seconds: float | None
    p99_seconds: float | None


class VerificationShown(Shown):
    """Shares of all tags, 0 to 1; null without tags."""

    verified: float | None
    within_15_minutes: float | None
    within_24_hours: float | None
    broken: float | None
    sampled: bool = Field(description="Estimated from a sample.")
    push_to_verified: VerifiedPushes


class Loop(Shown):
    """A background loop of one process."""

    loop: str
    process: str
    started_at: datetime
    last_run_at: datetime | None
    last_good_at: datetime | None
    last_error: str | None
    outcome: str | None


class ForwardingShown(Shown):
    """Events forwarded to GitLab; all 0 where none are."""

    waiting: int
    since: datetime | None
    age_seconds: float | None
    dead: int = Field(description="Refused by GitLab for good, and still kept.")
    forwarded: int = Field(description="Since ever.")
    dropped: int = Field(description="Since ever: they waited too long, or too many waited.")


class FeedShown(Shown):
    """A feed of the audit log."""

    name: str
    kind: str
    position: int = Field(description="Up to here everything is delivered, dead or filtered out.")
    behind: int = Field(description="Sealed entries after that.")
    behind_since: datetime | None = Field(description="When the oldest of them was recorded.")
    age_seconds: float | None
    delivered: int = Field(description="Since ever, repetitions included.")
    dead: int = Field(description="Refused by the sink for good.")
    attempts: int = Field(description="Failed, since the last that did not.")
    replays: int
    delivered_at: datetime | None
    failed_at: datetime | None
    retry_at: datetime | None
    stopped: str | None = Field(description="Why it waits for an operator; null: it does not.")
    last_error: str | None


class AuditDamage(Shown):
    """What of the log does not fit its tree."""

    position: int = Field(description="Of the first entry; 0: it is the tree as a whole.")
    fault: Fault
    what: str
    found_at: datetime


class AuditProof(Shown):
    """Whether the log is what was sealed and signed."""

    signed_position: int = Field(description="Of the newest entry that a checkpoint counts.")
    signed_at: datetime | None
    checked_position: int = Field(
        description="How far the present or last comparison with the tree has come."
    )
    checked_at: datetime | None = Field(description="When the whole log was last compared.")
    damaged: int = Field(description="Entries that do not fit, 1,000 at most.")
    first_damage: AuditDamage | None


class Status(Shown):
    """How everything is doing."""

    now: datetime
    as_of: datetime = Field(description="Every notification received before this instant has been applied.")
    walked_at: datetime | None
    ingest_lag_seconds: float = Field(description="Age of the oldest delivery that waits; 0: none does.")
    inbox: int = Field(description="Deliveries that wait.")
    quarantine: int = Field(description="Deliveries and events that could not be applied.")
    backlog: dict[str, Backlog] = Field(description="By kind of work.")
    audit_position: int = Field(description="Of the newest sealed entry.")
    unsealed: Unsealed
    audit_proof: AuditProof
    repositories: int
    tags: int
    manifests: int
    verification: VerificationShown
    instances: list[Instance] = Field(description="The latest first; at most 100.")
    processes: list[Process] = Field(description="By debug address, the latest reading first; at most 100.")
    last_walk: Walk | None
    trend: list[WalkFound] = Field(
        description="What the newest walks of everything found that came to an end, the latest first."
    )
    gitlab_forwarding: ForwardingShown
    feeds: list[FeedShown] = Field(description="Every feed that was ever configured here.")
    loops: list[Loop]


@operation("/status", query=NoQuery, result=Status)
async def get_status(call: Call[NoQuery]) -> Thing:
    """Show how everything is doing: what waits, who told us how much, how well the tags are verified."""
    if call.principal.repositories is not None:
        raise CallerError("the status is for operators", status=403, code="forbidden")
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await store.status(held)
        verification = await _verification(held, call, found)
        forwarded = await forwarding_backlog(held)
        signed = await newest_checkpoint(held)
        checked = await check_state(held)
        feeds = await list_feeds(held)
    ingest, now = found.ingest, found.ingest["now"]
    body = {
        "now": format_time(now),
        "as_of": format_time(fresh.as_of),
        "walked_at": format_time(fresh.walked_at),
        "ingest_lag_seconds": _age(ingest["waiting_since"], now) or 0.0,
        "inbox": ingest["waiting"],
        "quarantine": ingest["quarantined"],
        "backlog": {kind.value: _show_backlog(found, kind, now) for kind in DueKind},
        "audit_position": ingest["position"],
        "unsealed": {"entries": ingest["unsealed"], "since": format_time(ingest["unsealed_since"])},
        "audit_proof": _show_proof(signed, checked),
        "repositories": found.totals["repositories"],
        "tags": found.totals["tags"],
        "manifests": found.totals["manifests"],
        "verification": _show_verification(verification),
        "instances": _show_instances(found),
        "processes": _show_processes(found),
        "last_walk": _show_walk(found),
        "trend": [_show_found(row) for row in found.trend],
        "gitlab_forwarding": {
            "waiting": forwarded.waiting,
            "since": format_time(forwarded.since),
            "age_seconds": _age(forwarded.since, now),
            "dead": forwarded.dead,
            "forwarded": forwarded.forwarded,
            "dropped": forwarded.dropped,
        },
        "feeds": [_show_feed(feed, now) for feed in feeds],
        "loops": _show_loops(found),
    }
    return Thing(body=body)


def _show_feed(feed: FeedState, now: datetime) -> dict[str, Any]:
    return {
        "name": feed.name,
        "kind": feed.kind,
        "position": feed.position,
        "behind": feed.behind,
        "behind_since": format_time(feed.behind_since),
        "age_seconds": _age(feed.behind_since, now),
        "delivered": feed.delivered,
        "dead": feed.dead,
        "attempts": feed.attempts,
        "replays": feed.replays,
        "delivered_at": format_time(feed.delivered_at),
        "failed_at": format_time(feed.failed_at),
        "retry_at": format_time(feed.retry_at),
        "stopped": feed.stopped,
        "last_error": feed.last_error,
    }


async def _verification(held: Connection, call: Call[NoQuery], found: store.Status) -> store.Verification:
    kept = call.memory.get("verification")
    if kept is not None and time.monotonic() - kept[0] < VERIFICATION_KEPT_SECONDS:
        return kept[1]  # type: ignore[no-any-return]  # the process's memory holds anything
    counted = await store.verification(held, tags=found.totals["tags"], now=found.ingest["now"])
    call.memory["verification"] = (time.monotonic(), counted)
    return counted


def _show_proof(signed: Signed | None, checked: CheckState) -> dict[str, Any]:
    first = checked.first
    return {
        "signed_position": 0 if signed is None else signed.size,
        "signed_at": None if signed is None else format_time(signed.signed_at),
        "checked_position": checked.lap.position,
        "checked_at": format_time(checked.lap.lap_ended_at),
        "damaged": checked.damaged,
        "first_damage": None
        if first is None
        else {
            "position": first.position,
            "fault": first.fault,
            "what": first.what,
            "found_at": format_time(checked.found_at),
        },
    }


def _show_backlog(found: store.Status, kind: DueKind, now: datetime) -> dict[str, Any]:
    row = found.backlog.get(kind)
    if row is None:
        return {"waiting": 0, "due": 0, "failing": 0, "since": None, "age_seconds": None}
    return {
        "waiting": row["waiting"],
        "due": row["due"],
        "failing": row["failing"],
        "since": format_time(row["since"]),
        "age_seconds": _age(row["since"], now),
    }


def _show_verification(shares: store.Verification) -> dict[str, Any]:
    return {
        "verified": shares.verified,
        "within_15_minutes": shares.within_15_minutes,
        "within_24_hours": shares.within_24_hours,
        "broken": shares.broken,
        "sampled": shares.sampled,
        "push_to_verified": {
            "pushes": shares.pushes,
            "median_seconds": shares.median_seconds,
            "p99_seconds": shares.p99_seconds,
        },
    }


def _show_instances(found: store.Status) -> Sequence[dict[str, Any]]:
    return [_show_instance(found, row) for row in found.instances]


def _show_instance(found: store.Status, row: Row) -> dict[str, Any]:
    process = found.process_of(row)
    return {
        "instance_id": row["instance"],
        "address": row["address"],
        "events": row["events"],
        "first_seen_at": format_time(row["first_seen_at"]),
        "last_seen_at": format_time(row["last_seen_at"]),
        "first_event_at": format_time(known(row["first_event_at"])),
        "last_event_at": format_time(known(row["last_event_at"])),
        "missing": None if process is None else process.account.missing,
        "loss": found.loss_of(row).as_json(),
        "intervals": [each.as_json() for each in found.intervals_of(row)],
    }


def _show_processes(found: store.Status) -> Sequence[dict[str, Any]]:
    names = {row["id"]: row["instance"] for row in found.instances}
    return [
        {
            "address": each.account.address,
            "instance_id": names.get(each.account.instance_id),
            "began_at": format_time(each.account.began_at),
            "read_at": format_time(each.account.read_at),
            "ended_at": format_time(each.ended_at),
            "error": each.account.error,
            "events": each.account.events,
            "delivered": each.account.delivered,
            "pending": each.account.pending,
            "missing": each.account.missing,
            "loss": each.now.as_json(),
            "intervals": [interval.as_json() for interval in each.intervals],
        }
        for each in found.processes
    ]


def _show_walk(found: store.Status) -> dict[str, Any] | None:
    row = found.last_walk
    if row is None:
        return None
    return {
        "id": row["id"],
        "started_at": format_time(row["started_at"]),
        "finished_at": format_time(row["finished_at"]),
        "counts": row["counts"],
    }


def _show_found(row: Row) -> dict[str, Any]:
    counts = row["counts"]
    return {
        "id": row["id"],
        "started_at": format_time(row["started_at"]),
        "finished_at": format_time(row["finished_at"]),
        "outcome": row["outcome"],
        "repositories": counts.get("repositories", 0),
        "tags": counts.get("tags", 0),
        "repaired": counts.get("changed", 0),
        "held_back": counts.get("held_back", 0),
        "undecided": {kind: what["count"] for kind, what in row["undecided"].items()},
    }


def _show_loops(found: store.Status) -> Sequence[dict[str, Any]]:
    times = ("started_at", "last_run_at", "last_good_at")
    words = ("loop", "process", "last_error", "outcome")
    return [
        {name: row[name] for name in words} | {name: format_time(row[name]) for name in times}
        for row in found.loops
    ]


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, round((now - since).total_seconds(), 3))
