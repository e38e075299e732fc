"""Judges by a registry process's debug address whether it sends us notifications, and whether they arrive. Pure.

The rules, in the order they apply to one registry process:

1. The address cannot be read, or shows no configuration (Prometheus): a warning at most.
2. No endpoint at all, or none that is ours: failed. Ours is the one that sends our token, else one that posts to a path
   ``/notifications``.
3. Its configuration cannot work (a time-out in nanoseconds, no token or another one, manifest events ignored): failed.
4. Requested from here, its address redirects, refuses the registry's token, or is another service's: failed. No answer
   proves nothing, since the registry may be in another network.
5. Nothing was ever delivered though there were events: failed, and the statuses say why.
6. Otherwise it works. Successes other than our 202 are a warning: those events were lost since the process began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from indexer.oci import media_types
from reconciler.doctor.facts import Failure, HttpAnswer, Instance
from reconciler.doctor.report import Cause, Check, Link, failed, ok, skipped, warning
from reconciler.registry.endpoint_counters import (
    DebugReading,
    DebugSource,
    EndpointConfiguration,
    EndpointCounters,
    EndpointReading,
)
from reconciler.registry.our_endpoint import find_ours, sends_token

SHORTEST_TIMEOUT_SECONDS: Final = 0.001
"""Less than a millisecond is never meant; ``timeout: 500`` is 500 ns."""

ACCEPTED: Final = 202
_SUCCESSES: Final = range(200, 400)
_REFUSED: Final = (401, 403)
_ELSEWHERE: Final = (404, 405, 501)
_PROXY: Final = (502, 504)
_OURS_AWAY: Final = (429, 503)

RESTART = "and restart the registry"
TIMEOUT_REMEDY = f"write it with a unit (`timeout: 5s`) in the registry's config.yml, {RESTART}"
TOKEN_REMEDY = (
    "give the endpoint the header `Authorization: [Bearer <INDEXER_NOTIFICATIONS_TOKEN>]` in the registry's "
    f"config.yml, {RESTART}"
)
URL_REMEDY = (
    "in the registry's config.yml set the endpoint's url to the indexer's address as the registry reaches it, ending "
    f"in /notifications (in a container 127.0.0.1 is the container itself), {RESTART}"
)
REDIRECT_REMEDY = (
    "in the registry's config.yml set the endpoint's url to an address that answers without a redirect: https where "
    f"http redirects, and the path /notifications without a trailing slash, {RESTART}"
)
SNIPPET_REMEDY = (
    "add a notifications endpoint to the registry's config.yml (url, headers, timeout with unit; "
    f"`disabled: true` counts as none), {RESTART}"
)


@dataclass(slots=True)
class _Findings:
    """What is found of all processes together: the text, and causes for a failure and for a warning."""

    found: list[str] = field(default_factory=list)
    failures: list[Cause] = field(default_factory=list)
    warnings: list[Cause] = field(default_factory=list)


def judge_endpoints(instances: Sequence[Instance], *, token: str | None) -> Check:
    """Judge the readings of the debug addresses."""
    if not instances:
        return skipped(
            Link.ENDPOINT,
            "RECONCILER_REGISTRY_DEBUG_URLS is not set; with the registry's http.debug.addr in it, its counters and "
            "configuration can be examined",
        )
    findings = _Findings()
    for instance in instances:
        _judge_instance(instance, token, findings)
    found = "; ".join(findings.found)
    if findings.failures:
        return failed(Link.ENDPOINT, found, *findings.failures, *findings.warnings)
    if findings.warnings:
        return warning(Link.ENDPOINT, found, *findings.warnings)
    return ok(Link.ENDPOINT, found)


def configuration_causes(endpoint: EndpointReading, *, token: str | None) -> list[Cause]:
    """Return the faults of an endpoint's configuration."""
    configuration = endpoint.configuration
    if configuration is None:
        return []
    causes = []
    if configuration.timeout_seconds < SHORTEST_TIMEOUT_SECONDS:
        nanoseconds = round(configuration.timeout_seconds * 1e9)
        causes.append(
            Cause(
                f"endpoint {endpoint.name}: `timeout: {nanoseconds}` has no unit and means {nanoseconds} "
                "nanoseconds, so no delivery can ever succeed",
                TIMEOUT_REMEDY,
            )
        )
    if token is not None and not configuration.authorization:
        causes.append(Cause(f"endpoint {endpoint.name} sends no Authorization header", TOKEN_REMEDY))
    elif token is not None and not sends_token(configuration, token):
        causes.append(
            Cause(
                f"endpoint {endpoint.name} sends another token than INDEXER_NOTIFICATIONS_TOKEN", TOKEN_REMEDY
            )
        )
    return causes + _ignored_causes(endpoint.name, configuration)


def counter_causes(name: str, counters: EndpointCounters) -> list[Cause]:
    """Return why deliveries fail, by their counters; the most certain cause first."""
    causes = []
    statuses = counters.statuses
    if lost := _foreign(counters):
        causes.append(
            Cause(
                f"endpoint {name}: {_count(lost)} answered {_list(lost)} where the indexer answers 202: another "
                "service, or a redirect, which the registry follows as a GET and counts as delivered; these events "
                "are lost",
                REDIRECT_REMEDY,
            )
        )
    for codes, likely, remedy in _STATUS_CAUSES:
        if met := {status: statuses[status] for status in codes if status in statuses}:
            causes.append(Cause(f"endpoint {name}: {_count(met)} answered {_list(met)}: {likely}", remedy))
    if counters.errors and not causes:
        causes.append(
            Cause(
                f"endpoint {name}: {counters.errors} attempts without any answer: the registry cannot reach the "
                "address or does not trust its certificate, or the timeout is too short",
                URL_REMEDY,
            )
        )
    return causes


_STATUS_CAUSES: Final = (
    (_REFUSED, "the token is wrong or missing", TOKEN_REMEDY),
    (
        _ELSEWHERE,
        "not the indexer's endpoint: a wrong path, another service, or a redirect, followed as a GET",
        REDIRECT_REMEDY,
    ),
    (
        _PROXY,
        "a proxy in front of the indexer does not reach it",
        "correct the indexer's address in the proxy's configuration",
    ),
    (
        _OURS_AWAY,
        "the indexer could not store the delivery",
        "check the indexer's database and disk; the registry repeats the delivery by itself",
    ),
)


def _judge_instance(instance: Instance, token: str | None, findings: _Findings) -> None:
    reading = instance.reading
    if isinstance(reading, Failure):
        findings.found.append(f"{instance.address}: cannot be read ({reading.message})")
        findings.warnings.append(
            Cause(
                f"{instance.address} is not the registry's debug address",
                "set http.debug.addr in the registry's config.yml, and RECONCILER_REGISTRY_DEBUG_URLS to that address",
            )
        )
        return
    if not reading.endpoints and reading.source is DebugSource.EXPVAR:
        findings.found.append(f"{instance.address}: no notifications endpoint")
        findings.failures.append(
            Cause("the registry is not configured to send notifications to anyone", SNIPPET_REMEDY)
        )
        return
    ours = find_ours(reading, token=token)
    if ours is None:
        _judge_none_ours(instance.address, reading, findings)
        return
    _judge_ours(instance, ours, token, findings)


def _judge_none_ours(address: str, reading: DebugReading, findings: _Findings) -> None:
    if reading.source is DebugSource.PROMETHEUS:
        findings.found.append(
            f"{address}: Prometheus shows counters only, and which ones are ours is not certain"
        )
        return
    others = ", ".join(
        f"{each.name} → {each.configuration.shown_url}"
        for each in reading.endpoints
        if each.configuration is not None
    )
    findings.found.append(f"{address}: none of its endpoints is ours ({others})")
    findings.failures.append(Cause("the registry posts to other endpoints only", SNIPPET_REMEDY))


def _judge_ours(instance: Instance, ours: EndpointReading, token: str | None, findings: _Findings) -> None:
    counters = ours.counters
    place = f" → {ours.configuration.shown_url}" if ours.configuration is not None else ""
    findings.found.append(
        f"{instance.address}: {ours.name}{place}: {counters.events} events, {counters.successes} delivered, "
        f"{counters.pending} pending, {counters.failures} refused and {counters.errors} unanswered attempts"
    )
    findings.failures += configuration_causes(ours, token=token)
    findings.failures += _probe_causes(ours, instance.probes.get(ours.name))
    causes = counter_causes(ours.name, counters)
    if counters.events and not counters.successes and (counters.failures or counters.errors):
        findings.failures += causes
    elif _foreign(counters) or counters.pending:
        findings.warnings += causes
    if ours.configuration is not None:
        findings.warnings += _remarks(ours.name, ours.configuration)


def _probe_causes(ours: EndpointReading, answer: HttpAnswer | None) -> list[Cause]:
    """Judge what the endpoint's own address answered to a request from here."""
    if answer is None or ours.configuration is None or answer.status in {None, ACCEPTED, *_OURS_AWAY}:
        return []
    place = f"{ours.configuration.shown_url} answers {answer.summary}"
    if answer.is_redirect:
        return [
            Cause(
                f"{place}: the registry follows 301, 302 and 303 as a GET and counts the answer as success, so the "
                "event is lost",
                REDIRECT_REMEDY,
            )
        ]
    if answer.status in _REFUSED:
        return [
            Cause(
                f"{place} to the registry's own token: a proxy drops the header, or another indexer "
                "listens there",
                "let the proxy pass the Authorization header on, or correct the address",
            )
        ]
    return [Cause(f"{place}, which is not the indexer's answer", URL_REMEDY)]


def _ignored_causes(name: str, configuration: EndpointConfiguration) -> list[Cause]:
    manifests = sorted(
        each for each in configuration.ignored_media_types if media_types.is_manifest(media_types.bare(each))
    )
    causes = []
    if manifests:
        causes.append(
            Cause(
                f"endpoint {name}: its ignore block drops pushes of {', '.join(manifests)}",
                f"leave only application/octet-stream in ignore.mediatypes, {RESTART}",
            )
        )
    if actions := sorted(configuration.ignored_actions & {"push", "delete"}):
        causes.append(
            Cause(
                f"endpoint {name}: its ignore block drops {' and '.join(actions)} events",
                f"leave only pull in ignore.actions, {RESTART}",
            )
        )
    if "" in configuration.ignored_media_types:
        causes.append(
            Cause(
                f'endpoint {name}: the empty media type ("") in its ignore block drops deletes',
                f"remove it from ignore.mediatypes, {RESTART}",
            )
        )
    return causes


def _remarks(name: str, configuration: EndpointConfiguration) -> list[Cause]:
    remarks = []
    if configuration.ignored_actions and not configuration.ignored_media_types:
        remarks.append(
            Cause(
                f"endpoint {name}: up to 3.0 `ignore.actions` has no effect unless a media type is ignored, too",
                "add application/octet-stream to ignore.mediatypes; the indexer does not use blob events",
            )
        )
    if configuration.backoff_seconds < SHORTEST_TIMEOUT_SECONDS:
        remarks.append(
            Cause(
                f"endpoint {name}: its backoff has no unit, so a refused event is repeated without a pause",
                f"write `backoff: 1s`, {RESTART}",
            )
        )
    return remarks


def _foreign(counters: EndpointCounters) -> dict[int, int]:
    """Return the successes that our endpoint did not answer, by status."""
    return {s: count for s, count in counters.statuses.items() if s in _SUCCESSES and s != ACCEPTED}


def _count(statuses: dict[int, int]) -> str:
    total = sum(statuses.values())
    return f"{total} attempt{'s' if total != 1 else ''}"


def _list(statuses: dict[int, int]) -> str:
    return ", ".join(str(status) for status in sorted(statuses))
