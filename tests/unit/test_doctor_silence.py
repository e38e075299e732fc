"""The doctor says why no notification of its canary came."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexer.common.errors import (
    RegistryUnavailable,
)
from reconciler.doctor.chain import judge_trail
from reconciler.doctor.facts import (
    CanaryEvents,
    Failure,
    Instance,
    Surroundings,
)
from reconciler.doctor.report import Link
from reconciler.registry.endpoint_counters import (
    DebugSource,
    EndpointCounters,
)
from tests.fixtures.examined import (
    NOTHING,
    TOKEN,
    WELL,
    broken,
    configured,
    endpoint,
    first_cause,
    instance,
    trail,
)

BEFORE = instance(endpoint())


def counted(**counts: object) -> Surroundings:
    """Counters before the push, and the same with more after it."""
    after = replace(WELL, **counts)  # type: ignore[arg-type]  # a test's shorthand
    return Surroundings(before=[BEFORE], after=[instance(endpoint(after))])


@pytest.mark.parametrize(
    ("surroundings", "delete", "cause"),
    [
        pytest.param(Surroundings(), False, "no endpoint", id="nothing-known"),
        pytest.param(Surroundings(receiver={202: 5}), False, "no endpoint", id="others-arrive"),
        pytest.param(
            Surroundings(receiver={401: 3}), False, "refused by our endpoint", id="receiver-refused"
        ),
        pytest.param(
            Surroundings(receiver={503: 3}), False, "could not be stored", id="receiver-not-durable"
        ),
        pytest.param(Surroundings(), True, "ignore block drops manifests", id="deletion-came"),
        pytest.param(Surroundings(after=[instance()]), False, "not configured", id="no-endpoint"),
        pytest.param(counted(), False, "made no event", id="no-event"),
        pytest.param(
            counted(events=10, pending=1, failures=3, statuses={202: 9, 401: 3}),
            False,
            "3 attempts answered 401",
            id="refused-401",
        ),
        pytest.param(counted(events=10, pending=1, errors=4), False, "without any answer", id="unreachable"),
        pytest.param(
            counted(events=10, successes=10, statuses={202: 9, 200: 1}),
            False,
            "1 attempt answered 200 where the indexer answers 202",
            id="redirected",
        ),
        pytest.param(
            counted(events=10, successes=10, statuses={202: 10}),
            False,
            "another database",
            id="other-database",
        ),
        pytest.param(counted(events=10, pending=3), False, "queue is long", id="waits-in-the-queue"),
        pytest.param(
            Surroundings(
                before=[instance(source=DebugSource.PROMETHEUS)],
                after=[
                    instance(
                        endpoint(EndpointCounters(events=1, pending=1, errors=2), None),
                        source=DebugSource.PROMETHEUS,
                    )
                ],
            ),
            False,
            "without any answer",
            id="prometheus-first-event",
        ),
        pytest.param(
            counted(events=1, successes=0, pending=1, failures=2, statuses={404: 2}),
            False,
            "2 attempts answered 404",
            id="restarted-meanwhile",
        ),
        pytest.param(
            Surroundings(before=[BEFORE], after=[instance(configured(timeout_seconds=500e-9))]),
            False,
            "500 nanoseconds",
            id="timeout-without-unit",
        ),
        pytest.param(
            Surroundings(after=[instance(endpoint())]), False, "no endpoint", id="no-counters-before"
        ),
        pytest.param(
            Surroundings(
                after=[Instance(address="http://debug", reading=Failure.of(RegistryUnavailable("away")))]
            ),
            False,
            "no endpoint",
            id="counters-not-readable",
        ),
    ],
)
def test_silence__why(surroundings: Surroundings, delete: bool, cause: str) -> None:
    """Counters weigh more than our receiver; a delete event that came means an ignore block; else the usual is said."""
    silent = trail(
        events=CanaryEvents(),
        inventory=NOTHING,
        verified=NOTHING,
        read=NOTHING,
        listing=None,
        events_after_removal=CanaryEvents(delete=delete),
        surroundings=surroundings,
    )
    check = broken(judge_trail(silent, token=TOKEN))
    assert check is not None
    assert Link.NOTIFIED == check.link
    assert cause in first_cause(check)


def test_silence__usual_causes_in_order() -> None:
    """With nothing to go by the commonest causes come first, and how to learn more comes last."""
    silent = trail(events=CanaryEvents(), inventory=NOTHING, events_after_removal=CanaryEvents())
    check = broken(judge_trail(silent, token=None))
    assert check is not None
    words = [
        "address",
        "token",
        "timeout",
        "ignore block",
        "proxy redirects",
        "queue",
        "cannot be told apart",
    ]
    assert all(word in cause.likely for word, cause in zip(words, check.causes, strict=True))
