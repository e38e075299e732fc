"""What ``reconciler status`` says of a database in every state."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.store import (
    checkpoints,
    inbox,
    loops,
    loss,
    reconcile_runs,
    repositories,
    self_check,
    work_items,
)
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.inbox import Delivery, Quarantine
from indexer.store.pool import connect
from indexer.store.traits import Trait, note_trait
from reconciler.commands.status_view import (
    MAY_LACK_WRITES,
    picture_json,
    picture_lines,
    read_view,
    show_status,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


async def test_status__of_nothing(migrated_url: str) -> None:
    """A fresh database has nothing that waits, no walk, and nothing to verify; that is said without an error."""
    picture = await read_view(migrated_url)
    lines = list(picture_lines(picture))
    assert [
        "inbox        0 waiting to be applied, 0 in quarantine",
        "verify       0 tags waiting",
        "resolve      0 manifests waiting",
        "measure      0 repositories waiting",
        "tags         0, nothing to verify",
        "reconcile    none yet",
        "audit log    no damage found; not all of it was compared with the Merkle tree yet",
        "pulls        not known (none was announced yet): a tag shown as never pulled may be in use",
    ] == lines
    assert (None, None, []) == (
        picture_json(picture)["last_run"],
        picture_json(picture)["brake"],
        picture_json(picture)["loops"],
    )


async def test_status__of_a_log_that_was_changed(migrated_url: str) -> None:
    """Damage of the log, and checkpoints elsewhere that it did not grow out of, are where an operator looks."""
    now = datetime.now(UTC)
    held = await connect(migrated_url, application="tests")
    try:
        found = [self_check.Damage(position=n, fault="missing", what=f"entry {n} is missing") for n in (7, 9)]
        await self_check.put_damages(held, first=1, last=10, damages=found, at=now)
        await checkpoints.put_conflict(
            held, place="host:/a", what="80 entries were signed, and it has 40", at=now
        )
        gone = now - timedelta(days=1)
        await checkpoints.put_conflict(held, place="host:/b", what="of a server that is gone", at=gone)
    finally:
        await held.close()
    picture = await read_view(migrated_url)
    lines = [line for line in picture_lines(picture) if "DAMAGED" in line or "RESTORED" in line]
    assert "audit log    DAMAGED: entry 7 is missing, and 1 more" == lines[0].partition(";")[0]
    assert [
        "             RESTORED FROM A BACKUP, OR ANOTHER LOG: 80 entries were signed, and it has 40"
    ] == lines[1:]
    assert {
        "checked_at": None,
        "damaged": 2,
        "first_damage": "entry 7 is missing",
        "conflicts": ["80 entries were signed, and it has 40"],
    } == picture_json(picture)["audit"]


async def test_status__of_trouble(migrated_url: str) -> None:
    """What waits has its age, a pulled brake says how to release it, and a failing loop its last error."""
    now = datetime.now(UTC)
    held = await connect(migrated_url, application="tests")
    try:
        old = Delivery(received_at=now - timedelta(minutes=10), body=b"{}")
        await inbox.put_deliveries(held, deliveries=[old])
        await inbox.quarantine(held, refused=[Quarantine(delivery=old, reason="odd")], now=now)
        await repositories.add_repositories(held, announced={RepositoryName("team/app"): now})
        async with held.transaction():
            ids = await repositories.lock_repositories(held, names=[RepositoryName("team/app")])
            key = work_items.WorkKey(
                kind=WorkKind.VERIFY, repository_id=ids[RepositoryName("team/app")], key="latest"
            )
            await work_items.enqueue(held, keys=[key], now=now - timedelta(hours=3), due_at=now)
        run = await reconcile_runs.begin_run(
            held,
            mode=RunMode.RUN,
            at=now - timedelta(minutes=5),
            scope=None,
            cause=None,
            thorough=False,
        )
        await reconcile_runs.end_run(
            held,
            run_id=run.id,
            at=now,
            outcome=RunOutcome.BRAKED,
            counts={"repositories": 7},
            undecided={},
            note="90 of 100 tags",
        )
        await loops.report(
            held, loop="verify", process="host:1", at=now, outcome="failed", error="RegistryUnavailable: away"
        )
    finally:
        await held.close()
    picture = await read_view(migrated_url)
    lines = list(picture_lines(picture))
    assert "inbox        1 waiting to be applied, the oldest for 10 min, 1 in quarantine" == lines[0]
    assert "verify       1 tags waiting, the oldest for 3 h, 0 failing" == lines[1]
    assert "             90 of 100 tags" in lines
    assert any(line.startswith("brake") and "--release-brake" in line for line in lines)
    assert any("last error: RegistryUnavailable: away" in line for line in lines)
    shown = json.loads(json.dumps(picture_json(picture)))
    assert ("90 of 100 tags", "braked") == (shown["brake"], shown["last_run"]["outcome"])


def processes_in(lines: Iterable[str]) -> list[str]:
    """The lines about loops and processes; how many seconds ago something was depends on the machine."""
    found = [line for line in lines if line.startswith(("loop", "process"))]
    return [re.sub(r"\b\d+ s ago", "N s ago", line) for line in found]


async def test_status__of_processes_that_come_and_go(migrated_url: str) -> None:
    """Loops without errors are one line, a failure has its own, and of each dead program the last process is shown."""
    now = datetime.now(UTC)
    ages = {
        "indexer serve host:1": 600,  # killed
        "indexer serve host:2": 300,  # killed
        "indexer serve host:3": 1,
        "reconciler run host:4": 400,  # killed, and not started again
        "reconciler run host:5": 300,
    }
    held = await connect(migrated_url, application="tests")
    try:
        for process, age in ages.items():
            for loop in ("one", "two", "three"):
                fails = process.endswith(":3") and loop == "two"
                await loops.report(
                    held,
                    loop=loop,
                    process=process,
                    at=now - timedelta(seconds=age),
                    outcome="failed" if fails else "good",
                    error="StoreBusy: wait" if fails else None,
                )
        shown = {row["process"] for row in await loops.list_loops(held)}
    finally:
        await held.close()
    assert {"indexer serve host:3", "reconciler run host:5"} == shown
    picture = await read_view(migrated_url)
    assert shown == {row["process"] for row in picture_json(picture)["loops"]}
    assert [
        "loop         two       failed  N s ago, indexer serve host:3; last error: StoreBusy: wait",
        "process      reconciler run host:5: gone; last active 5 min ago",
        "loops        2 without errors, in indexer serve host:3",
    ] == processes_in(picture_lines(picture))


async def test_status__of_two_processes_of_one_program(migrated_url: str) -> None:
    """Replicas that run are all shown, and not the newest of them alone."""
    now = datetime.now(UTC)
    replicas = ["reconciler run host:1", "reconciler run host:2"]
    held = await connect(migrated_url, application="tests")
    try:
        for age, process in enumerate(replicas):
            at = now - timedelta(seconds=age)
            await loops.report(held, loop="reconcile", process=process, at=at, outcome="good", error=None)
    finally:
        await held.close()
    assert replicas == [row["process"] for row in picture_json(await read_view(migrated_url))["loops"]]


async def test_status__of_processes_that_were_ended(migrated_url: str) -> None:
    """An end by a signal takes the predecessor's rows along, and is told until another process runs."""
    now = datetime.now(UTC)
    held = await connect(migrated_url, application="tests")
    try:
        for process in ("reconciler run host:1", "reconciler run host:2"):
            await loops.report(held, loop="reconcile", process=process, at=now, outcome="good", error=None)
            await loops.end_process(held, process=process)
        ended = list(picture_lines(await read_view(migrated_url)))
        rows = await held.fetchval("SELECT count(*) FROM loop_state")
        await loops.report(
            held,
            loop="reconcile",
            process="reconciler run host:3",
            at=now + timedelta(seconds=1),
            outcome="good",
            error=None,
        )
        running = list(picture_lines(await read_view(migrated_url)))
    finally:
        await held.close()
    assert ["process      reconciler run host:2: ended N s ago"] == processes_in(ended)
    assert 1 == rows
    assert ["loops        1 without errors, in reconciler run host:3"] == processes_in(running)


async def test_status__of_a_registry_that_is_known_by_imported_history_alone(migrated_url: str) -> None:
    """An instance that never sent us anything is no registry process whose losses were in question."""
    held = await connect(migrated_url, application="tests")
    try:
        for name, events in (("imported", 0), ("alive", 3)):
            await held.execute(
                "INSERT INTO registry_instance (key, instance, address, first_seen_at, last_seen_at, first_event_at,"
                " last_event_at, events) VALUES ($1, $2, 'registry:5000', now(), now(), now(), now(), $3)",
                name.encode(),
                name,
                events,
            )
        witnesses = await loss.list_instances(held)
    finally:
        await held.close()
    assert ["alive"] == [row["instance"] for row in picture_json(await read_view(migrated_url))["instances"]]
    assert 1 == len(witnesses)


async def test_status__of_foreign_text(migrated_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a holder of the notifications token wrote moves no cursor and reverses no line of a terminal."""
    held = await connect(migrated_url, application="tests")
    try:
        await held.execute(
            "INSERT INTO registry_instance (key, instance, address, first_seen_at, last_seen_at, first_event_at,"
            " last_event_at, events) VALUES ('k', $1, $2, now(), now(), now(), now(), 3)",
            "i\x1b[2J",
            "reg\u202e\x1b]0;title\x07\r\nloops",
        )
    finally:
        await held.close()
    assert await show_status(migrated_url, as_json=False, takes_notices=False) == 0
    lines = capsys.readouterr().out.split("\n")
    assert not [line for line in lines if not line.isprintable()]
    assert any("i\N{REPLACEMENT CHARACTER}[2J at reg" in line for line in lines)
    assert MAY_LACK_WRITES in lines
    assert "loops" not in lines


async def test_status__of_a_registry_that_hides_tags(migrated_url: str) -> None:
    """What the registry was found to be like is said with the evidence; what was found not to hold is JSON only."""
    now = datetime.now(UTC)
    held = await connect(migrated_url, application="tests")
    try:
        for trait, holds in ((Trait.HIDES_TAGS, True), (Trait.IS_CACHE, False)):
            await note_trait(held, trait=trait, holds=holds, because="app:10 is not listed beside 1", at=now)
    finally:
        await held.close()
    picture = await read_view(migrated_url)
    assert ["registry     hides tags from its own listing, known 0 s ago: app:10 is not listed beside 1"] == [
        line for line in picture_lines(picture) if line.startswith("registry")
    ]
    shown = picture_json(picture)["registry"]
    assert (True, False) == (shown["hides_tags"]["holds"], shown["is_cache"]["holds"])
    assert "app:10 is not listed beside 1" == shown["hides_tags"]["because"]
