"""Jobs, pure: ids, what becomes of a job whose work ended, and when nothing may act."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.common.errors import (
    ConfigurationError,
    IndexerError,
    RegistryDenied,
    RegistryMisbehaved,
    RegistryUnavailable,
    StoreBusy,
    StoreFault,
    StoreTimedOut,
    StoreUnavailable,
)
from indexer.jobs.job import JobState, new_job_id
from indexer.jobs.pauses import Maintenance, Pause, pause_of
from indexer.policies.grammar import parse_window
from indexer.store.jobs import JobCount
from reconciler.acting.decide import LONGEST_WAIT_SECONDS, ending_of
from reconciler.acting.interruptions import ActingPaused, Cancelled, JobFailed, LeaseLost, Stopping
from reconciler.doctor.acting import judge_acting
from reconciler.doctor.report import LinkOutcome

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)  # a Monday


def test_id__is_a_uuid_of_version_7_that_sorts_by_time() -> None:
    """A job's id is a UUIDv7: version, variant, the milliseconds first."""
    first, later = new_job_id(NOW, b"\xff" * 10), new_job_id(NOW + timedelta(milliseconds=1), bytes(10))
    assert (7, 7) == (first.version, later.version)
    assert "specified in RFC 4122" == first.variant
    assert first < later
    assert int(NOW.timestamp() * 1000) == first.int >> 80


PAUSED = Pause(code="maintenance", text="nothing acts")


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (LeaseLost("x"), None, None),
        (Cancelled("x"), JobState.CANCELLED, None),
        (Stopping("x"), JobState.WAITING, None),
        (ActingPaused(PAUSED), JobState.PAUSED, "nothing acts"),
        (StoreUnavailable("away"), JobState.WAITING, "away; it is tried again in 5 s"),
        (StoreTimedOut("late"), JobState.WAITING, "late; it is tried again in 5 s"),
        (StoreBusy("deadlock"), JobState.WAITING, "deadlock; it is tried again in 5 s"),
        (RegistryUnavailable("503"), JobState.WAITING, "503; it is tried again in 5 s"),
        (RegistryDenied("403"), JobState.FAILED, "403"),
        (RegistryMisbehaved("HTML"), JobState.FAILED, "HTML"),
        (StoreFault("no right"), JobState.FAILED, "no right"),
        (ConfigurationError("set it"), JobState.FAILED, "set it"),
        (JobFailed("the tag moved"), JobState.FAILED, "the tag moved"),
        (IndexerError("known"), JobState.FAILED, "known"),
        (
            KeyError("secret"),
            JobState.FAILED,
            "something unexpected went wrong (KeyError); the reconciler's log has the details",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_ending__by_how_the_work_ended(error: Exception, state: JobState | None, said: str | None) -> None:
    """What waits for database or registry is tried again; what is refused or unexpected has failed, and says why."""
    ending = ending_of(error, tries=0)
    assert (state, said) == (ending.state, ending.note or ending.error)
    assert (ending.again_in is not None) == ("tried again" in (said or ""))
    assert ending.is_unexpected == isinstance(error, KeyError)


def test_ending__waits_ever_longer_and_goes_on_waiting() -> None:
    """A registry that stays away never makes a job fail; the waits grow to five minutes and no further."""
    waits = [ending_of(RegistryUnavailable("away"), tries=tries) for tries in range(200)]
    assert {JobState.WAITING} == {one.state for one in waits}
    seconds = [one.again_in.total_seconds() for one in waits if one.again_in is not None]
    assert [5, 10, 20, 40] == seconds[:4]
    assert sorted(seconds) == seconds
    assert LONGEST_WAIT_SECONDS == seconds[-1]
    assert list(range(1, 201)) == [one.tries for one in waits]


def test_ending__of_a_failure_keeps_what_was_done() -> None:
    """A job that failed halfway shows what it had done."""
    ending = ending_of(JobFailed("halfway", result={"done": 3}), tries=4)
    assert {"done": 3} == ending.result


def maintained(*, until: datetime | None = None, ended_at: datetime | None = None) -> Maintenance:
    return Maintenance(begun_at=NOW, until=until, ended_at=ended_at, begun_by="ann", reason="collect")


WINDOWS = [parse_window("Mon 11:00-13:00Z"), parse_window("Tue 11:00-13:00Z")]


@pytest.mark.parametrize(
    ("maintenance", "windows", "code"),
    [
        (None, [], None),
        (maintained(), [], "maintenance"),
        (maintained(), WINDOWS, "maintenance"),
        (maintained(until=NOW + timedelta(seconds=1)), [], "maintenance"),
        (maintained(until=NOW), [], None),
        (maintained(until=NOW), WINDOWS, "blocked_window"),
        (maintained(ended_at=NOW), [], None),
        (maintained(until=NOW + timedelta(hours=1), ended_at=NOW), [], None),
        (None, WINDOWS, "blocked_window"),
        (None, WINDOWS[1:], None),
    ],
)
def test_pause__table(maintenance: Maintenance | None, windows: list[object], code: str | None) -> None:
    """Nothing acts during maintenance that has not ended, nor in a blocked window; else everything may."""
    pause = pause_of(maintenance=maintenance, blocked=windows, now=NOW)  # type: ignore[arg-type]
    assert code == (None if pause is None else pause.code)


def test_pause__says_who_why_and_how_it_ends() -> None:
    """The sentence names who began maintenance, why, and what ends it."""
    pause = pause_of(maintenance=maintained(until=NOW + timedelta(hours=2)), now=NOW)
    assert pause is not None
    assert (
        "ann began maintenance, nothing acts until 2026-05-04T14:00:00.000000Z or `reconciler maintenance end`: collect"
        == pause.text
    )


def count(state: JobState, minutes: int, jobs: int = 1) -> JobCount:
    return JobCount(kind="delete", state=state, jobs=jobs, since=NOW - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("pause", "counts", "said"),
    [
        (None, [], None),
        (
            None,
            [count(JobState.WAITING, 14), count(JobState.RUNNING, 900), count(JobState.FAILED, 900)],
            None,
        ),
        (PAUSED, [], "paused: nothing acts"),
        (None, [count(JobState.WAITING, 16, 3)], "3 jobs wait, the oldest (delete) for 16 minutes"),
    ],
)
def test_doctor__table(pause: Pause | None, counts: list[JobCount], said: str | None) -> None:
    """The doctor warns of maintenance, and of jobs that wait for long; of nothing else."""
    check = judge_acting(pause, counts, now=NOW)
    assert said == (None if check is None else check.found)
    assert check is None or check.outcome is LinkOutcome.WARNING
