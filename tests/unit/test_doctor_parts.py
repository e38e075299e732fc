"""The doctor judges our own parts: settings, database, schema, log, clocks, and the server's two addresses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.doctor import decide
from reconciler.doctor.facts import (
    Database,
    HttpAnswer,
    LogState,
    LoopState,
    ReceiverFact,
    SchemaState,
)
from reconciler.doctor.report import LinkOutcome
from tests.fixtures.examined import NOW, answer, first_cause


@pytest.mark.parametrize(
    ("problems", "remarks", "outcome"),
    [([], [], LinkOutcome.OK), ([], ["r"], LinkOutcome.WARNING), (["p"], ["r"], LinkOutcome.FAILED)],
)
def test_settings__problems_and_remarks(
    problems: list[str], remarks: list[str], outcome: LinkOutcome
) -> None:
    """A wrong setting breaks the chain, a missing one that only shortens the examination does not."""
    assert outcome == decide.judge_settings(problems, remarks).outcome


@pytest.mark.parametrize("takes_notices", [True, False])
def test_settings__say_whether_answers_may_lack_writes(takes_notices: bool) -> None:
    """Without a proxy that gives notice of writes, answers may be older than the last one; that is no fault."""
    found = decide.judge_settings((), (), takes_notices=takes_notices)
    assert (LinkOutcome.OK, not takes_notices) == (found.outcome, decide.MAY_LACK_WRITES in found.found)


@pytest.mark.parametrize(
    ("fact", "outcome"),
    [
        (Database(version_number=180001, version="18.1", ahead_seconds=0), LinkOutcome.OK),
        (Database(version_number=150000, version="15.0", ahead_seconds=0), LinkOutcome.OK),
        (Database(version_number=140012, version="14.12", ahead_seconds=0), LinkOutcome.FAILED),
        ("the database does not answer", LinkOutcome.FAILED),
    ],
)
def test_database__version_and_reach(fact: Database | str, outcome: LinkOutcome) -> None:
    """PostgreSQL 15 or newer, reachable: all else is broken."""
    assert outcome == decide.judge_database(fact).outcome


@pytest.mark.parametrize(
    ("state", "do"),
    [
        pytest.param(
            SchemaState(problem="lacks migration 0001", obstacle="GRANT it"), "GRANT it", id="no right"
        ),
        pytest.param(SchemaState(problem="lacks migration 0001"), "run `indexer migrate`", id="not migrated"),
        pytest.param(
            SchemaState(problem="permission denied", refused=True), "set INDEXER_DATABASE_URL here", id="role"
        ),
    ],
)
def test_schema__what_to_do(state: SchemaState, do: str) -> None:
    """What is to be done about a schema goes by why it is not ours, and not always by migrating."""
    check = decide.judge_schema(state)
    assert LinkOutcome.FAILED is check.outcome
    assert do in check.causes[0].remedy


FAILING = LoopState(
    loop="checkpoint",
    process="indexer serve h:1",
    outcome="failed",
    age_seconds=3,
    last_error="AnotherKeySigns: …",
)


@pytest.mark.parametrize(
    ("log", "outcome", "found"),
    [
        (LogState(), LinkOutcome.OK, "not yet compared"),
        (LogState(compared_at=NOW), LinkOutcome.OK, "as it was sealed and signed"),
        (
            LogState(damaged=1, first="entry 7 is missing", compared_at=NOW),
            LinkOutcome.FAILED,
            "entry 7 is missing",
        ),
        (
            LogState(damaged=3, first="entry 7 is missing"),
            LinkOutcome.FAILED,
            "entry 7 is missing, and 2 more",
        ),
        (LogState(conflicts=["80 entries were signed"]), LinkOutcome.FAILED, "80 entries were signed"),
        (LogState(signing=[FAILING]), LinkOutcome.WARNING, "it is not signed: AnotherKeySigns"),
        (LogState(signing=[FAILING, replace(FAILING, outcome="good")]), LinkOutcome.OK, ""),
        (LogState(signing=[replace(FAILING, age_seconds=4000)]), LinkOutcome.OK, ""),
    ],
)
def test_log__damaged_put_back_or_not_signed(log: LogState, outcome: LinkOutcome, found: str) -> None:
    """What the server found of its log breaks no push, and is told all the same."""
    check = decide.judge_log(log)
    assert (outcome, True) == (check.outcome, found in check.found)


@pytest.mark.parametrize(
    ("registry_ahead", "database_ahead", "outcome"),
    [
        (0.4, 0.0, LinkOutcome.OK),
        (-4.9, 4.9, LinkOutcome.OK),
        (5.5, 0.0, LinkOutcome.WARNING),
        (-5.5, None, LinkOutcome.WARNING),
        (0.0, 7.0, LinkOutcome.WARNING),
        (61.0, 0.0, LinkOutcome.FAILED),
        (None, -3600.0, LinkOutcome.FAILED),
        (None, None, LinkOutcome.SKIPPED),
    ],
)
def test_clocks__difference(
    registry_ahead: float | None, database_ahead: float | None, outcome: LinkOutcome
) -> None:
    """Seconds are noted, more than a minute is broken, in either direction and for either clock."""
    assert outcome == decide.judge_clocks(registry_ahead, database_ahead).outcome


@pytest.mark.parametrize(
    ("ready", "outcome", "cause"),
    [
        (answer(200), LinkOutcome.OK, ""),
        (answer(None, text="connection refused"), LinkOutcome.FAILED, "does not run"),
        (answer(301, location="https://x/"), LinkOutcome.FAILED, "redirects"),
        (answer(503, text="not ready"), LinkOutcome.FAILED, "lost its database"),
        (answer(404), LinkOutcome.FAILED, "another service"),
    ],
)
def test_indexer__readiness(ready: HttpAnswer, outcome: LinkOutcome, cause: str) -> None:
    """What ``/readyz`` answers tells whether the server is there, well, and itself."""
    check = decide.judge_indexer("http://indexer", ready)
    assert outcome == check.outcome
    assert cause in first_cause(check)


@pytest.mark.parametrize(
    ("with_token", "without_token", "cause"),
    [
        (answer(202), answer(401), None),
        (answer(401), answer(401), "another INDEXER_NOTIFICATIONS_TOKEN"),
        (answer(403), answer(403), "another INDEXER_NOTIFICATIONS_TOKEN"),
        (answer(302, location="/login"), answer(302, location="/login"), "redirects"),
        (answer(308, location="https://x/"), answer(308, location="https://x/"), "redirects"),
        (answer(503), answer(401), "cannot write"),
        (answer(200), answer(200), "another service"),
        (answer(404), answer(404), "another service"),
        (answer(None, text="timed out"), answer(None), "another service"),
        (answer(202), answer(202), "not the indexer"),
    ],
)
def test_receiver__token(with_token: HttpAnswer, without_token: HttpAnswer, cause: str | None) -> None:
    """The receiver takes our token with 202, refuses its absence with 401, and never redirects."""
    check = decide.judge_receiver(
        ReceiverFact(url="http://x/notifications", with_token=with_token, without_token=without_token)
    )
    assert (LinkOutcome.OK if cause is None else LinkOutcome.FAILED) == check.outcome
    assert (cause or "") in first_cause(check)
