"""What ``reconciler status`` shows: what waits, the last full reconcile, how many tags are verified, every loop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from indexer.cleanup.status import is_unused, labelled_lines, parts_of_status, status_json
from indexer.common.rfc3339 import format_time
from indexer.common.terminal import write_lines
from indexer.inventory.changes import WorkKind
from indexer.inventory.loss import LossState, LossStatement
from indexer.jobs.pauses import Pause
from indexer.store import storage
from indexer.store.checkpoints import Conflict, list_conflicts
from indexer.store.collections import Inferred, newest_collections
from indexer.store.drift import RunOutcome
from indexer.store.instants import known
from indexer.store.jobs import JobCount, count_jobs
from indexer.store.listing import status as status_store
from indexer.store.listing.runs import latest_runs
from indexer.store.listing.status import StatusRows, Verification
from indexer.store.maintenance import why_paused
from indexer.store.migrate import check as check_schema
from indexer.store.pool import connect, translated
from indexer.store.self_check import CheckState, check_state
from indexer.store.storage import Sample, StoredCheck
from indexer.store.tag_actions import Alarming, count_alarming
from indexer.store.traits import Trait, TraitState

BRAKE_CHECKED = (RunOutcome.COMPLETE, RunOutcome.INCOMPLETE, RunOutcome.BRAKED)
RUNS_SHOWN = 50
OVERLAP_SHOWN = timedelta(days=1)
SILENT = timedelta(minutes=2)
"""Of every process some loop does a round every few seconds."""
WAITING_OF = {WorkKind.VERIFY: "tags", WorkKind.RESOLVE: "manifests", WorkKind.MEASURE: "repositories"}
"""What the work items of a kind are of."""

MAY_LACK_WRITES = "answers      may lack the newest writes: INDEXER_PROXY_SECRET is not set"
RELEASE = "if the registry is right, release it once: reconciler once --release-brake"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """Everything at one moment; ``run`` is the newest full reconcile, ``ended`` the newest that ended."""

    status: StatusRows
    verification: Verification
    run: Mapping[str, Any] | None
    ended: Mapping[str, Any] | None
    checked: CheckState
    conflicts: Sequence[Conflict]
    deletions: Alarming
    jobs: Sequence[JobCount]
    pause: Pause | None
    storage_check: StoredCheck | None
    storage_bytes: Sample | None
    collection: Inferred | None
    cleanup: Mapping[str, Any]

    @property
    def now(self) -> datetime:
        """The database's clock."""
        now: datetime = self.status.ingest["now"]
        return now

    @property
    def brake(self) -> str | None:
        """Why the newest full reconcile that ended held back its deletions, if it did."""
        if self.ended is None or self.ended["outcome"] != RunOutcome.BRAKED:
            return None
        return str(self.ended["note"] or "pulled")


async def show_status(database_url: str, *, as_json: bool, takes_notices: bool) -> int:
    """Read, print, and return the exit code. ``takes_notices``: the indexer learns of writes from the proxy."""
    picture = await read_view(database_url)
    if as_json:
        sys.stdout.write(json.dumps(picture_json(picture) | {"takes_notices": takes_notices}) + "\n")
        return 0
    write_lines(picture_lines(picture))
    if not takes_notices:
        write_lines([MAY_LACK_WRITES])
    return 0


async def read_view(database_url: str) -> StatusView:
    """Read everything; raise a store error where the database is away or at another version."""
    held = await connect(database_url, application="reconciler status")
    try:
        async with translated():
            await check_schema(held)
            found = await status_store.status(held)
            verification = await status_store.verification(
                held, tags=found.totals["tags"], now=found.ingest["now"]
            )
            runs = await latest_runs(held, limit=RUNS_SHOWN)
            checked = await check_state(held)
            conflicts = await list_conflicts(held)
            deletions = await count_alarming(held)
            jobs, pause = await count_jobs(held), await why_paused(held)
            check, samples = await storage.find_check(held), await storage.newest_samples(held, limit=1)
            ran = await newest_collections(held, limit=1)
            cleanup = await status_json(held, now=found.ingest["now"])
    finally:
        await held.close()
    ended = (run for run in runs if run["outcome"] in BRAKE_CHECKED)
    return StatusView(
        status=found,
        verification=verification,
        run=dict(runs[0]) if runs else None,
        ended=next(map(dict, ended), None),
        checked=checked,
        conflicts=conflicts,
        deletions=deletions,
        jobs=jobs,
        pause=pause,
        storage_check=check,
        storage_bytes=next(iter(samples), None),
        collection=next(iter(ran), None),
        cleanup=cleanup,
    )


def picture_json(picture: StatusView) -> dict[str, Any]:
    """Return the picture as JSON has it; the words are those of ``/api/v1/status``."""
    status, verification = picture.status, picture.verification
    ingest = status.ingest
    return {
        "now": format_time(picture.now),
        "inbox": {
            "waiting": ingest["waiting"],
            "since": format_time(ingest["waiting_since"]),
            "failing": ingest["failing"],
            "failure": ingest["failure"],
            "quarantine": ingest["quarantined"],
        },
        "backlog": {kind.value: _backlog_json(picture, kind) for kind in WorkKind},
        "tags": status.totals["tags"],
        "verification": {
            "verified": verification.verified,
            "within_15_minutes": verification.within_15_minutes,
            "within_24_hours": verification.within_24_hours,
            "broken": verification.broken,
            "sampled": verification.sampled,
            "push_to_verified": {
                "pushes": verification.pushes,
                "median_seconds": verification.median_seconds,
                "p99_seconds": verification.p99_seconds,
            },
        },
        "last_run": None if picture.run is None else _run_json(picture.run),
        "last_reconciled_at": format_time(status.last_walk["finished_at"]) if status.last_walk else None,
        "brake": picture.brake,
        "audit": {
            "checked_at": format_time(picture.checked.current.pass_ended_at),
            "damaged": picture.checked.damaged,
            "first_damage": None if picture.checked.first is None else picture.checked.first.what,
            "conflicts": [one.what for one in picture.conflicts],
        },
        "deletions": {
            "on_dummy": picture.deletions.on_dummy,
            "uncertain": picture.deletions.uncertain,
            "put_back_in_the_last_day": picture.deletions.put_back,
        },
        "storage": {
            "checked_at": None
            if picture.storage_check is None
            else format_time(picture.storage_check.checked_at),
            "damaged": 0 if picture.storage_check is None else picture.storage_check.damaged,
            "harmless": 0 if picture.storage_check is None else picture.storage_check.harmless,
            "read_at": None if picture.storage_bytes is None else format_time(picture.storage_bytes.taken_at),
            "collection": None if picture.collection is None else picture.collection.show(),
        },
        "registry": {trait.value: _fields(picture.status.traits.get(trait)) for trait in Trait},
        "acting": {
            "paused": None
            if picture.pause is None
            else {
                "code": picture.pause.code,
                "text": picture.pause.text,
                "until": format_time(picture.pause.until),
            },
            "jobs": [
                {"kind": each.kind, "state": each.state, "jobs": each.jobs, "since": format_time(each.since)}
                for each in picture.jobs
            ],
        },
        **parts_of_status(picture.cleanup),
        "loops": [{key: _json_value(value) for key, value in dict(row).items()} for row in status.loops],
        "instances": [
            {key: _json_value(value) for key, value in dict(row).items() if key != "id"}
            | {
                "loss": status.loss_of(row).as_json(),
                "intervals": [interval.as_json() for interval in status.intervals_of(row)],
            }
            for row in status.instances
        ],
        "processes": [
            {
                "address": each.account.address,
                "ended_at": format_time(each.ended_at),
                "events": each.account.events,
                "delivered": each.account.delivered,
                "pending": each.account.pending,
                "loss": each.now.as_json(),
                "intervals": [interval.as_json() for interval in each.intervals],
            }
            for each in status.processes
        ],
    }


def picture_lines(picture: StatusView) -> Iterator[str]:
    """Return the picture line by line, for people."""
    ingest, now = picture.status.ingest, picture.now
    oldest = _oldest(ingest["waiting_since"], now)
    yield f"inbox        {ingest['waiting']} waiting to be applied{oldest}, {ingest['quarantined']} in quarantine"
    if ingest["failing"]:
        yield f"             {ingest['failing']} of them failed and are tried again: {ingest['failure']}"
    for kind in WorkKind:
        row = _backlog_json(picture, kind)
        line = f"{kind:<12} {row['waiting']} {WAITING_OF[kind]} waiting"
        if row["waiting"]:
            line += f"{_oldest(picture.status.backlog[kind]['since'], now)}, {row['failing']} failing"
        yield line
    yield f"tags         {picture.status.totals['tags']}, {_verified(picture.verification)}"
    if picture.verification.pushes:
        yield (
            f"             pushes in the last hour: {picture.verification.pushes}; half were verified within "
            f"{picture.verification.median_seconds} s, 99 % within {picture.verification.p99_seconds} s"
        )
    yield from _reconcile_lines(picture)
    yield from _job_lines(picture)
    if not is_unused(picture.cleanup):
        yield from (f"{about:<12} {text}" for about, text in labelled_lines(picture.cleanup))
    yield from _log_lines(picture)
    yield from _deletion_lines(picture.deletions)
    yield from _storage_lines(picture.storage_check, now)
    yield from _collection_lines(picture.collection, now)
    yield from _trait_lines(picture)
    yield from loop_lines(picture.status.loops, now)
    for row in picture.status.instances:
        last = known(row["last_event_at"])
        newest = f", the last{_since(last, now)}" if last else ""
        yield f"registry     {row['instance']} at {row['address']}: {row['events']} events received{newest}"
        yield f"             {loss_words(picture.status.loss_of(row))}"
        for interval in picture.status.downtimes[row["id"]]:
            yield f"             {loss_words(interval)}"
    for each in picture.status.processes:
        ended = f", ended{_since(each.ended_at, now)}" if each.ended_at else ""
        account = each.account
        yield (
            f"counters     {account.address}: {account.events} events made, {account.delivered} delivered, "
            f"{account.pending} pending, read{_since(account.read_at, now)}{ended}"
        )
        for interval in each.intervals or (each.now,):
            yield f"             {loss_words(interval)}"


def _deletion_lines(deletions: Alarming) -> Iterator[str]:
    """Return what an operator must see of deletions; nothing where all is well."""
    if deletions.on_dummy:
        yield (
            f"deletions    {deletions.on_dummy} TAGS MAY STILL POINT TO A DUMMY: {', '.join(deletions.examples)}; "
            "start `reconciler run`, which finishes this"
        )
    if deletions.uncertain:
        yield f"deletions    {deletions.uncertain} tags where it is not known whether a push was lost"
    if deletions.put_back:
        yield f"deletions    {deletions.put_back} pushes put back in the last day"


def _storage_lines(check: StoredCheck | None, now: datetime) -> Iterator[str]:
    """Return a line about the newest check of the storage; nothing where there was none."""
    if check is None:
        return
    found = (
        f"{check.damaged} THINGS DAMAGED: GET /api/v1/storage/findings?severity=damaged"
        if check.damaged
        else "nothing damaged"
    )
    yield f"storage      {found}; checked{_since(check.checked_at, now)}"


def _collection_lines(found: Inferred | None, now: datetime) -> Iterator[str]:
    """Return a line about the newest collection, for a day if something was pushed or deleted meanwhile."""
    if found is None or not found.overlapped or now - found.found_at > OVERLAP_SHOWN:
        return
    when = (
        "while maintenance lasted"
        if found.in_maintenance
        else "perhaps not while it ran: there was no maintenance"
    )
    yield (
        f"collection   {found.uploads} PUSHES AND {found.deletions} DELETIONS OVERLAPPED WITH IT ({when}), like "
        f"{', '.join(found.examples)}: run `reconciler storage check`; found{_since(found.found_at, now)}"
    )


def loop_lines(loops: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    """Return a line for each loop that fails and each process that is gone, and one for all the others."""
    by_process: dict[str, list[Mapping[str, Any]]] = {}
    for row in loops:
        by_process.setdefault(row["process"], []).append(row)
    well: list[str] = []
    count = 0
    for process, rows in by_process.items():
        last = max((row["last_run_at"] for row in rows if row["last_run_at"] is not None), default=None)
        if last is None or now - last > SILENT or all(row["outcome"] == "ended" for row in rows):
            how = "ended" if all(row["outcome"] == "ended" for row in rows) else "gone; last active"
            yield f"process      {process}: {how}{_since(last, now)}"
            continue
        failing = [row for row in rows if row["outcome"] == "failed"]
        for row in failing:
            error = f"; last error: {row['last_error']}" if row["last_error"] else ""
            yield f"loop         {row['loop']:<9} failed {_since(row['last_run_at'], now)}, {process}{error}"
        count += sum(row["outcome"] == "good" for row in rows)
        well.append(process)
    if count:
        yield f"loops        {count} without errors, in {', '.join(well)}"


def loss_words(statement: LossStatement) -> str:
    """Say a statement in words."""
    interval = f"between {format_time(statement.from_at)} and {format_time(statement.to_at)}"
    match statement.state:
        case LossState.NOTHING_LOST:
            return f"nothing lost {interval}"
        case LossState.AT_MOST:
            return f"at most {statement.lost} lost {interval}: {statement.because}"
        case LossState.UNKNOWN:
            return f"unknown what was lost {interval}, because {statement.because}"


def _reconcile_lines(picture: StatusView) -> Iterator[str]:
    run, last = picture.run, picture.status.last_walk
    if run is None:
        yield "reconcile    none yet"
        return
    how = run["outcome"] or "under way"
    counts = run["counts"]
    found = f"{counts['found']} tags found, " if counts.get("found") else ""
    yield (
        f"reconcile    {how}, by `reconciler {run['mode']}`, began{_since(run['started_at'], picture.now)}: "
        f"{counts.get('repositories', 0)} repositories, {counts.get('tags', 0)} tags compared, "
        f"{found}{counts.get('changed', 0)} repaired, {run['findings']} findings"
    )
    if run["note"]:
        yield f"             {run['note']}"
    if picture.brake is not None:
        yield f"brake        pulled; {RELEASE}"
    if run["outcome"] != RunOutcome.COMPLETE:
        if last is None:
            yield "             none was complete so far"
        else:
            yield f"             the last complete one ended{_since(last['finished_at'], picture.now)}"


def _job_lines(picture: StatusView) -> Iterator[str]:
    """Return a line for jobs that have not ended, and one if nothing may act; nothing where there is neither."""
    if picture.pause is not None:
        yield f"acting       paused: {picture.pause.text}"
    unended = [each for each in picture.jobs if not each.state.has_ended]
    if unended:
        words = [
            f"{each.jobs} {each.kind} {each.state}{_oldest(each.since, picture.now)}" for each in unended
        ]
        yield f"jobs         {'; '.join(words)}"


def _trait_lines(picture: StatusView) -> Iterator[str]:
    words = {
        Trait.HIDES_TAGS: "hides tags from its own listing",
        Trait.IS_CACHE: "is a pull-through cache: nothing is compared",
    }
    for trait, said in words.items():
        shown = picture.status.traits.get(trait)
        if shown is not None and shown.holds:
            yield f"registry     {said}, known{_since(shown.changed_at, picture.now)}: {shown.because}"
    pulls = picture.status.traits.get(Trait.ANNOUNCES_PULLS)
    if pulls is None or not pulls.holds:
        because = "none was announced yet" if pulls is None else pulls.because
        yield f"pulls        not known ({because}): a tag shown as never pulled may be in use"


def _log_lines(picture: StatusView) -> Iterator[str]:
    checked = picture.checked
    compared = _since(checked.current.pass_ended_at, picture.now)
    how = (
        f"all of it was compared with the Merkle tree{compared}"
        if compared
        else "not all of it was compared with the Merkle tree yet"
    )
    if checked.first is None:
        yield f"audit log    no damage found; {how}"
    else:
        more = f", and {checked.damaged - 1} more" if checked.damaged > 1 else ""
        yield f"audit log    DAMAGED: {checked.first.what}{more}; found{_since(checked.found_at, picture.now)}; {how}"
    for one in picture.conflicts:
        yield f"             RESTORED FROM A BACKUP, OR ANOTHER LOG: {one.what}"


def _backlog_json(picture: StatusView, kind: WorkKind) -> dict[str, Any]:
    row = picture.status.backlog.get(kind)
    if row is None:
        return {"waiting": 0, "due": 0, "failing": 0, "since": None}
    return {
        "waiting": row["waiting"],
        "due": row["due"],
        "failing": row["failing"],
        "since": format_time(row["since"]),
    }


def _run_json(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _json_value(value) for key, value in run.items()}


def _json_value(value: Any) -> Any:
    """Write times as the API does; an infinite one is not known."""
    return format_time(known(value)) if isinstance(value, datetime) else value


def _fields(shown: TraitState | None) -> dict[str, Any] | None:
    return None if shown is None else {name: _json_value(value) for name, value in asdict(shown).items()}


def _verified(shares: Verification) -> str:
    if shares.verified is None:
        return "nothing to verify"
    about = "about " if shares.sampled else ""
    return (
        f"{about}{shares.verified:.1%} verified ({shares.within_15_minutes:.1%} in the last 15 min, "
        f"{shares.within_24_hours:.1%} in the last 24 h), {shares.broken:.1%} broken"
    )


def _oldest(at: datetime | None, now: datetime) -> str:
    """Return for how long the oldest of what waits has waited; nothing if nothing waits."""
    return "" if at is None else f", the oldest for {_age(at, now)}"


def _since(at: datetime | None, now: datetime) -> str:
    """Return how long ago, with a blank before it; nothing where not known."""
    return "" if at is None else f" {_age(at, now)} ago"


def _age(at: datetime, now: datetime) -> str:
    """Return how old something is, in the largest unit that fits."""
    seconds = max(0.0, (now - at).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
