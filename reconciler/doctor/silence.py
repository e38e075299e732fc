"""Finds the likely causes where a canary was pushed and no notification arrived. Pure.

Evidence in the order of its weight:

1. The registry's counters of our endpoint before and after the push: it made no event, could not deliver it, or
   delivered it elsewhere.
2. What our own endpoint answered meanwhile: 401 is a wrong token, 503 a database that did not answer.
3. The delete event arrived and the push event did not: an ignore block drops the manifest's media type.
4. Without any of these: the remaining causes, the commonest first.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.doctor.endpoints import (
    ACCEPTED,
    REDIRECT_REMEDY,
    RESTART,
    SNIPPET_REMEDY,
    TIMEOUT_REMEDY,
    TOKEN_REMEDY,
    URL_REMEDY,
    configuration_causes,
    counter_causes,
)
from reconciler.doctor.facts import Failure, Instance, Trail
from reconciler.doctor.report import Cause
from reconciler.registry.endpoint_counters import DebugReading, DebugSource, EndpointCounters, EndpointReading
from reconciler.registry.our_endpoint import find_ours

IGNORED = Cause(
    "the endpoint's ignore block drops manifests (their media type in ignore.mediatypes, or push in "
    "ignore.actions)",
    f"leave only application/octet-stream and pull in the ignore block, {RESTART}",
)
NO_EVENT = Cause(
    "the registry made no event of the push: an ignore block drops manifests, or RECONCILER_REGISTRY_DEBUG_URLS "
    "does not name the instance that received the push",
    f"leave only application/octet-stream and pull in the ignore block, {RESTART}; set "
    "RECONCILER_REGISTRY_DEBUG_URLS to the addresses of all instances",
)
USUAL = (
    Cause("no endpoint, or one with an address that the registry cannot reach", URL_REMEDY),
    Cause("the endpoint's token is not INDEXER_NOTIFICATIONS_TOKEN", TOKEN_REMEDY),
    Cause("the endpoint's timeout has no unit: `timeout: 500` means 500 nanoseconds", TIMEOUT_REMEDY),
    IGNORED,
    Cause(
        "a proxy redirects (http → https, a trailing slash): the registry counts that as success",
        REDIRECT_REMEDY,
    ),
    Cause(
        "the registry's queue is long, or an older event is refused and all others wait behind it",
        "wait and run the doctor again; a restart of the registry empties the queue, and the next reconcile repairs "
        "what is lost by it",
    ),
)
NO_COUNTERS = Cause(
    "the registry's counters are not known, so these causes cannot be told apart",
    "set RECONCILER_REGISTRY_DEBUG_URLS to the registry's http.debug.addr, and run the doctor again: the counters show "
    "which one it is",
)


def why_silent(trail: Trail, *, token: str | None) -> tuple[Cause, ...]:
    """Return the likely causes, the likeliest first."""
    causes = _by_counters(trail, token)
    causes += _by_receiver(trail)
    if trail.events_after_removal.delete and trail.events.push_seconds is None:
        causes.insert(0, IGNORED)
    if causes:
        return tuple(dict.fromkeys(causes))
    counted = any(isinstance(each.reading, DebugReading) for each in trail.surroundings.after)
    return USUAL if counted else (*USUAL, NO_COUNTERS)


def _by_counters(trail: Trail, token: str | None) -> list[Cause]:
    before = {each.address: each for each in trail.surroundings.before}
    readings = [
        (each, before.get(each.address))
        for each in trail.surroundings.after
        if isinstance(each.reading, DebugReading)
    ]
    if readings and all(_has_no_endpoint(now) for now, _ in readings):
        return [Cause("the registry is not configured to send notifications to anyone", SNIPPET_REMEDY)]
    causes: list[Cause] = []
    made: list[int | None] = []
    for now, then in readings:
        assert isinstance(now.reading, DebugReading)  # noqa: S101 - filtered above; tells mypy
        ours = find_ours(now.reading, token=token)
        if ours is None:
            made.append(0 if now.reading.source is DebugSource.EXPVAR else None)
            continue
        earlier = _before(then, ours)
        made.append(None if earlier is None else ours.counters.events - earlier.events)
        causes += _by_endpoint(ours, earlier, token)
    if not causes and made and not any(made) and None not in made:
        causes.append(NO_EVENT)
    return causes


def _by_endpoint(ours: EndpointReading, before: EndpointCounters | None, token: str | None) -> list[Cause]:
    causes = configuration_causes(ours, token=token)
    if before is not None:
        delta = ours.counters.since(before)
        causes += counter_causes(ours.name, delta) or _delivered_elsewhere(ours, delta.statuses)
    if not causes and ours.counters.pending:
        causes.append(USUAL[-1])
    return causes


def _has_no_endpoint(instance: Instance) -> bool:
    reading = instance.reading
    return (
        isinstance(reading, DebugReading) and reading.source is DebugSource.EXPVAR and not reading.endpoints
    )


def _before(then: Instance | None, ours: EndpointReading) -> EndpointCounters | None:
    """Return the endpoint's counters before the push; None: they are not known.

    Prometheus does not show an endpoint before its first event, and after a restart counters begin at 0.
    """
    if then is None or isinstance(then.reading, Failure):
        return None
    found = then.reading.find(ours.name)
    if found is None:
        return EndpointCounters() if then.reading.source is DebugSource.PROMETHEUS else None
    return EndpointCounters() if found.counters.events > ours.counters.events else found.counters


def _delivered_elsewhere(ours: EndpointReading, statuses: Mapping[int, int]) -> list[Cause]:
    if ACCEPTED not in statuses:
        return []
    return [
        Cause(
            f"endpoint {ours.name} delivered, and was answered 202: by an indexer with another database than "
            "INDEXER_DATABASE_URL names",
            "set INDEXER_DATABASE_URL to the database of the indexer at that address, or correct the endpoint's "
            "address",
        )
    ]


def _by_receiver(trail: Trail) -> list[Cause]:
    receiver = trail.surroundings.receiver or {}
    causes = []
    if receiver.get(401):
        causes.append(
            Cause(
                f"{receiver[401]} deliveries were refused by our endpoint meanwhile: their token is wrong or missing",
                TOKEN_REMEDY,
            )
        )
    if receiver.get(503):
        causes.append(
            Cause(
                f"{receiver[503]} deliveries could not be stored meanwhile",
                "check the indexer's database and disk; the registry repeats the deliveries by itself",
            )
        )
    return causes
