"""Reading a registry's own counters from what it writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from indexer.common.errors import RegistryMisbehaved
from reconciler.registry.endpoint_counters import (
    EndpointConfiguration,
    EndpointCounters,
    EndpointReading,
    parse_expvar,
    parse_prometheus,
)

SECRET = "Bearer secret-of-the-test"
# As 2.8.2 and 3.1.1 write it.
WRITTEN: dict[str, Any] = {
    "name": "indexer",
    "url": "http://user:password@10.0.0.1:5005/notifications?key=secret",
    "Headers": {"authorization": [SECRET]},
    "Timeout": 5000000000,
    "Threshold": 3,
    "Backoff": 200000000,
    "IgnoredMediaTypes": ["text/plain"],
    "Ignore": {"MediaTypes": ["application/octet-stream"], "Actions": ["pull"]},
    "Metrics": {
        "Pending": 1,
        "Events": 3,
        "Successes": 2,
        "Failures": 5,
        "Errors": 0,
        "Statuses": {"200 OK": 1, "202 Accepted": 1, "401 Unauthorized": 5},
    },
}
METRICS = b"""\
# TYPE registry_notifications_events_total counter
registry_notifications_events_total{endpoint="bad",type="Errors"} 11
registry_notifications_events_total{endpoint="bad",type="Events"} 3
registry_notifications_events_total{endpoint="indexer",type="Events"} 3
registry_notifications_events_total{endpoint="indexer",type="Failures"} 5
registry_notifications_events_total{endpoint="indexer",type="Successes"} 2
# TYPE registry_notifications_pending_total gauge
registry_notifications_pending_total{endpoint="bad"} 3
registry_notifications_pending_total{endpoint="indexer"} 1
# TYPE registry_notifications_status_total counter
registry_notifications_status_total{code="202 Accepted",endpoint="indexer"} 2
registry_notifications_status_total{code="401 Unauthorized",endpoint="indexer"} 5
# TYPE registry_storage_action_seconds histogram
registry_storage_action_seconds_sum{action="GetContent",driver="filesystem"} 0.5
"""


def expvar(*endpoints: Any) -> bytes:
    return json.dumps({"registry": {"notifications": {"endpoints": list(endpoints) or None}}}).encode()


def test_expvar__reads_counters_beside_configuration() -> None:
    """Counters, statuses as numbers, durations in seconds, and both ways to ignore are read."""
    expected = EndpointReading(
        name="indexer",
        counters=EndpointCounters(
            pending=1, events=3, successes=2, failures=5, errors=0, statuses={200: 1, 202: 1, 401: 5}
        ),
        configuration=EndpointConfiguration(
            url="http://user:password@10.0.0.1:5005/notifications?key=secret",
            authorization=(SECRET,),
            timeout_seconds=5.0,
            threshold=3,
            backoff_seconds=0.2,
            ignored_media_types=frozenset({"text/plain", "application/octet-stream"}),
            ignored_actions=frozenset({"pull"}),
        ),
    )
    assert (expected,) == parse_expvar(expvar(WRITTEN), url="here")


def test_expvar__shows_no_secret() -> None:
    """Neither the representation nor the address to show holds the header, the password or the query."""
    (endpoint,) = parse_expvar(expvar(WRITTEN), url="here")
    assert endpoint.configuration is not None
    assert "secret" not in repr(endpoint)
    assert "password" not in repr(endpoint)
    assert "http://10.0.0.1:5005/notifications" == endpoint.configuration.shown_url


@pytest.mark.parametrize("endpoints", [None, []])
def test_expvar__no_endpoints(endpoints: object) -> None:
    """A registry without notifications writes null: there are none, and that is known."""
    written = json.dumps({"registry": {"notifications": {"endpoints": endpoints}}}).encode()
    assert () == parse_expvar(written, url="here")


def test_expvar__nanoseconds() -> None:
    """``timeout: 500`` is 500 nanoseconds, and stays that small."""
    (endpoint,) = parse_expvar(expvar({**WRITTEN, "Timeout": 500}), url="here")
    assert endpoint.configuration is not None
    assert 500e-9 == pytest.approx(endpoint.configuration.timeout_seconds)


@pytest.mark.parametrize(
    "written",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"registry": 1}',
        b'{"registry": {"notifications": {"endpoints": [1]}}}',
        b'{"registry": {"notifications": {"endpoints": [{"name": "x"}]}}}',
        expvar({**WRITTEN, "Timeout": "5s"}),
    ],
)
def test_expvar__somebody_elses(written: bytes) -> None:
    """What another program's variables hold is refused, with the address."""
    with pytest.raises(RegistryMisbehaved, match="here"):
        parse_expvar(written, url="here")


def test_prometheus__reads_counters_per_endpoint() -> None:
    """The same counters are read from labels; what Prometheus does not show is 0, and no configuration is known."""
    bad, ours = parse_prometheus(METRICS, url="here")
    assert EndpointCounters(pending=3, events=3, errors=11) == bad.counters
    assert (
        EndpointCounters(pending=1, events=3, successes=2, failures=5, statuses={202: 2, 401: 5})
        == ours.counters
    )
    assert ("bad", "indexer", None) == (bad.name, ours.name, ours.configuration)


def test_prometheus__not_its_text() -> None:
    """What is no Prometheus text is refused."""
    with pytest.raises(RegistryMisbehaved, match="here"):
        parse_prometheus(b'registry_notifications_pending_total{endpoint="x" oops', url="here")


def test_since__is_what_came_between() -> None:
    """A difference has only the statuses that were met meanwhile, and what is pending now."""
    before = EndpointCounters(pending=7, events=3, successes=2, failures=1, statuses={202: 2, 503: 1})
    after = EndpointCounters(pending=1, events=5, successes=4, failures=1, statuses={202: 4, 503: 1})
    assert EndpointCounters(pending=1, events=2, successes=2, statuses={202: 2}) == after.since(before)
