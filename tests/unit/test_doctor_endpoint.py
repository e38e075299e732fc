"""The doctor judges the endpoint that the registry has been given, by its configuration and counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexer.common.errors import (
    RegistryUnavailable,
)
from reconciler.doctor.endpoints import judge_endpoints
from reconciler.doctor.facts import (
    Failure,
    Instance,
)
from reconciler.doctor.report import LinkOutcome
from reconciler.registry.endpoint_counters import (
    DebugSource,
    EndpointCounters,
    EndpointReading,
)
from tests.fixtures.examined import (
    CANARY,
    CONFIGURATION,
    QUIET,
    TOKEN,
    WELL,
    answer,
    configured,
    endpoint,
    first_cause,
    instance,
)

NEVER = EndpointCounters(pending=2, events=2)


@pytest.mark.parametrize(
    ("seen", "outcome", "cause"),
    [
        pytest.param(instance(endpoint()), LinkOutcome.OK, "", id="well"),
        pytest.param(instance(endpoint(QUIET)), LinkOutcome.OK, "", id="no-event-yet"),
        pytest.param(instance(), LinkOutcome.FAILED, "not configured", id="no-endpoint"),
        pytest.param(
            instance(configured(authorization=("Basic x",), url="http://chat/hook")),
            LinkOutcome.FAILED,
            "posts to other endpoints only",
            id="only-others",
        ),
        pytest.param(
            instance(configured(timeout_seconds=500e-9)),
            LinkOutcome.FAILED,
            "500 nanoseconds",
            id="timeout-without-unit",
        ),
        pytest.param(
            instance(configured(authorization=())), LinkOutcome.FAILED, "no Authorization", id="no-token"
        ),
        pytest.param(
            instance(configured(authorization=("Bearer other",))),
            LinkOutcome.FAILED,
            "another token",
            id="wrong-token",
        ),
        pytest.param(
            instance(configured(authorization=(f"bearer  {TOKEN}",))),
            LinkOutcome.OK,
            "",
            id="scheme-in-any-case",
        ),
        pytest.param(
            instance(configured(authorization=("Basic x", f"Bearer {TOKEN}"))),
            LinkOutcome.OK,
            "",
            id="second-header",
        ),
        pytest.param(
            instance(configured(ignored_media_types=frozenset({CANARY.media_type}))),
            LinkOutcome.FAILED,
            "drops pushes",
            id="manifests-ignored",
        ),
        pytest.param(
            instance(configured(ignored_actions=frozenset({"pull", "delete"}))),
            LinkOutcome.FAILED,
            "drops delete events",
            id="deletes-ignored",
        ),
        pytest.param(
            instance(configured(ignored_media_types=frozenset({"", "application/octet-stream"}))),
            LinkOutcome.FAILED,
            "drops deletes",
            id="empty-type-ignored",
        ),
        pytest.param(
            instance(configured(ignored_media_types=frozenset())),
            LinkOutcome.WARNING,
            "no effect",
            id="actions-alone",
        ),
        pytest.param(
            instance(configured(backoff_seconds=1e-9)),
            LinkOutcome.WARNING,
            "without a pause",
            id="backoff-without-unit",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, failures=7, statuses={401: 7}))),
            LinkOutcome.FAILED,
            "token is wrong",
            id="never-delivered-401",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, failures=7, statuses={405: 7}))),
            LinkOutcome.FAILED,
            "not the indexer's endpoint",
            id="never-delivered-405",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, failures=7, statuses={502: 7}))),
            LinkOutcome.FAILED,
            "proxy",
            id="never-delivered-502",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, errors=7))),
            LinkOutcome.FAILED,
            "without any answer",
            id="never-reached",
        ),
        pytest.param(
            instance(endpoint(EndpointCounters(events=9, successes=9, statuses={200: 2, 202: 7}))),
            LinkOutcome.WARNING,
            "2 attempts answered 200",
            id="some-redirected",
        ),
        pytest.param(
            instance(endpoint(replace(WELL, failures=50, errors=9, statuses={202: 9, 503: 50}))),
            LinkOutcome.OK,
            "",
            id="trouble-that-passed",
        ),
        pytest.param(
            instance(endpoint(replace(WELL, pending=4, failures=50, statuses={202: 9, 503: 50}))),
            LinkOutcome.WARNING,
            "could not store",
            id="trouble-now",
        ),
        pytest.param(
            instance(endpoint(), probe=answer(301, location="https://x/")),
            LinkOutcome.FAILED,
            "answers 301 → https://x/",
            id="probe-redirected",
        ),
        pytest.param(
            instance(endpoint(), probe=answer(401)),
            LinkOutcome.FAILED,
            "drops the header",
            id="probe-refused",
        ),
        pytest.param(
            instance(endpoint(), probe=answer(200)),
            LinkOutcome.FAILED,
            "not the indexer's",
            id="probe-stranger",
        ),
        pytest.param(instance(endpoint(), probe=answer(202)), LinkOutcome.OK, "", id="probe-well"),
        pytest.param(
            instance(endpoint(), probe=answer(None, text="no such host")),
            LinkOutcome.OK,
            "",
            id="probe-unreachable",
        ),
        pytest.param(
            instance(endpoint(configuration=None), source=DebugSource.PROMETHEUS),
            LinkOutcome.OK,
            "",
            id="prometheus-well",
        ),
        pytest.param(
            instance(source=DebugSource.PROMETHEUS), LinkOutcome.OK, "", id="prometheus-nothing-follows"
        ),
        pytest.param(
            Instance(address="http://debug", reading=Failure.of(RegistryUnavailable("refused"))),
            LinkOutcome.WARNING,
            "not the registry's debug address",
            id="not-readable",
        ),
    ],
)
def test_endpoint__one_instance(seen: Instance, outcome: LinkOutcome, cause: str) -> None:
    """What a registry process says of its endpoint, and what is broken by it."""
    check = judge_endpoints([seen], token=TOKEN)
    assert outcome == check.outcome
    assert cause in first_cause(check)
    assert TOKEN not in repr(check)


def test_endpoint__worst_instance_counts() -> None:
    """Of several processes one that is broken breaks the link, and each is named."""
    check = judge_endpoints([instance(endpoint()), instance()], token=TOKEN)
    assert LinkOutcome.FAILED == check.outcome
    assert 2 == check.found.count("http://debug: ")


def test_endpoint__ours_among_others() -> None:
    """Ours is the one with our token, wherever it posts to, and what others suffer is theirs."""
    other = EndpointReading(
        name="chat",
        counters=replace(NEVER, errors=9),
        configuration=replace(CONFIGURATION, authorization=(), url="http://chat/notifications"),
    )
    ours = configured(url="https://proxy/registry-events")
    assert LinkOutcome.OK == judge_endpoints([instance(other, ours)], token=TOKEN).outcome


def test_endpoint__without_our_token() -> None:
    """Where the token is not known here, nothing is said about the registry's."""
    assert LinkOutcome.OK == judge_endpoints([instance(endpoint())], token=None).outcome


def test_endpoint__not_asked() -> None:
    """Without debug addresses nothing is claimed."""
    assert LinkOutcome.SKIPPED == judge_endpoints([], token=TOKEN).outcome
