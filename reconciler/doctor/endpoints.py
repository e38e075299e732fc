"""Is the registry configured to tell us, and does telling succeed? Judged by its debug address. Pure.

The rules, in the order they apply to one registry process:

1. The address cannot be read, or has no configuration to show (Prometheus): a warning at most; nothing
   follows.
2. No endpoint at all, or none that is ours: broken. Ours is the one that sends our token, else one that posts
   to a path ``/notifications``.
3. Its configuration cannot work (a time-out in nanoseconds, no or another token, news of manifests ignored):
   broken.
4. Asked from here, its address redirects, refuses the registry's token, or is somebody else's: broken. No
   answer from here says nothing, since the registry may live in another network.
5. Nothing was ever delivered though there was something to deliver: broken, and the statuses say why.
6. Otherwise well; successes other than our 202 are a warning: events were lost that way since the process
   began.
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
"""Nobody means less than a millisecond; ``timeout: 500`` is 500 ns."""

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
    "name the indexer's own address, ending in /notifications, as it is reached from the registry's host or "
    f"container (127.0.0.1 there is not 127.0.0.1 here) in the registry's config.yml, {RESTART}"
)
REDIRECT_REMEDY = (
    "let the registry post to an address that answers itself: the scheme (https where http redirects), "
    f"host and path /notifications that the indexer or its proxy serves without a redirect, {RESTART}"
)
SNIPPET_REMEDY = (
    "add a notifications endpoint to the registry's config.yml (url, headers, timeout with unit; "
    f"`disabled: true` counts as none), {RESTART}"
)


@dataclass(slots=True)
class _Findings:
    """What is said of all processes together."""

    found: list[str] = field(default_factory=list)
    broken: list[Cause] = field(default_factory=list)
    doubtful: list[Cause] = field(default_factory=list)


def judge_endpoints(instances: Sequence[Instance], *, token: str | None) -> Check:
    """Judge what the debug addresses told."""
    if not instances:
        return skipped(
            Link.ENDPOINT,
            "RECONCILER_REGISTRY_DEBUG_URLS is not set, so the registry's side cannot be seen (its "
            "http.debug.addr)",
        )
    findings = _Findings()
    for instance in instances:
        _judge_instance(instance, token, findings)
    found = "; ".join(findings.found)
    if findings.broken:
        return failed(Link.ENDPOINT, found, *findings.broken, *findings.doubtful)
    if findings.doubtful:
        return warning(Link.ENDPOINT, found, *findings.doubtful)
    return ok(Link.ENDPOINT, found)


def configuration_causes(endpoint: EndpointReading, *, token: str | None) -> list[Cause]:
    """Return what about an endpoint's configuration cannot work."""
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
    """Return what the outcomes of deliveries say about why they fail, the surest first."""
    causes = []
    statuses = counters.statuses
    if lost := _foreign(counters):
        causes.append(
            Cause(
                f"endpoint {name}: {_count(lost)} answered {_list(lost)} where the indexer answers 202: a "
                "redirect (the registry follows it as a GET and takes the event for delivered: it is "
                "lost) or another service",
                REDIRECT_REMEDY,
            )
        )
    for codes, likely, remedy in _STATUS_CAUSES:
        if met := {status: statuses[status] for status in codes if status in statuses}:
            causes.append(Cause(f"endpoint {name}: {_count(met)} answered {_list(met)}: {likely}", remedy))
    if counters.errors and not causes:
        causes.append(
            Cause(
                f"endpoint {name}: {counters.errors} attempts without any answer: the address cannot be "
                "reached from the registry, its certificate is not trusted there, or the time-out is too "
                "short",
                URL_REMEDY,
            )
        )
    return causes


_STATUS_CAUSES: Final = (
    (_REFUSED, "the token is wrong or missing", TOKEN_REMEDY),
    (
        _ELSEWHERE,
        "not the indexer's door: a wrong path, another service, or a redirect, followed as a GET",
        REDIRECT_REMEDY,
    ),
    (_PROXY, "a proxy in front of the indexer does not reach it", "mend the proxy's upstream address"),
    (
        _OURS_AWAY,
        "the indexer could not make it durable just then",
        "look after the indexer's database; the registry repeats by itself",
    ),
)


def _judge_instance(instance: Instance, token: str | None, findings: _Findings) -> None:
    reading = instance.reading
    if isinstance(reading, Failure):
        findings.found.append(f"{instance.address}: cannot be read ({reading.said})")
        findings.doubtful.append(
            Cause(
                f"{instance.address} is not the registry's debug address",
                "set http.debug.addr in the registry's config.yml, and name it in "
                "RECONCILER_REGISTRY_DEBUG_URLS",
            )
        )
        return
    if not reading.endpoints and reading.source is DebugSource.EXPVAR:
        findings.found.append(f"{instance.address}: no notifications endpoint")
        findings.broken.append(
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
        findings.found.append(f"{address}: Prometheus shows counters only, and none that is surely ours")
        return
    others = ", ".join(
        f"{each.name} → {each.configuration.shown_url}"
        for each in reading.endpoints
        if each.configuration is not None
    )
    findings.found.append(f"{address}: none of its endpoints is ours ({others})")
    findings.broken.append(Cause("the registry posts to others, not to the indexer", SNIPPET_REMEDY))


def _judge_ours(instance: Instance, ours: EndpointReading, token: str | None, findings: _Findings) -> None:
    counters = ours.counters
    place = f" → {ours.configuration.shown_url}" if ours.configuration is not None else ""
    findings.found.append(
        f"{instance.address}: {ours.name}{place}: {counters.events} events, {counters.successes} delivered, "
        f"{counters.pending} pending, {counters.failures} refused and {counters.errors} unanswered attempts"
    )
    findings.broken += configuration_causes(ours, token=token)
    findings.broken += _probe_causes(ours, instance.probes.get(ours.name))
    causes = counter_causes(ours.name, counters)
    if counters.events and not counters.successes and (counters.failures or counters.errors):
        findings.broken += causes
    elif _foreign(counters) or counters.pending:
        findings.doubtful += causes
    if ours.configuration is not None:
        findings.doubtful += _remarks(ours.name, ours.configuration)


def _probe_causes(ours: EndpointReading, answer: HttpAnswer | None) -> list[Cause]:
    """Judge what the endpoint's own address answered when asked from here."""
    if answer is None or ours.configuration is None or answer.status in {None, ACCEPTED, *_OURS_AWAY}:
        return []
    place = f"{ours.configuration.shown_url} answers {answer.words}"
    if answer.is_redirect:
        return [
            Cause(
                f"{place}: the registry follows 301, 302 and 303 as a GET, takes the answer for success, "
                "and the event is lost",
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
                f"endpoint {name}: its ignore block swallows pushes of {', '.join(manifests)}",
                f"leave only application/octet-stream in ignore.mediatypes, {RESTART}",
            )
        )
    if actions := sorted(configuration.ignored_actions & {"push", "delete"}):
        causes.append(
            Cause(
                f"endpoint {name}: its ignore block swallows {' and '.join(actions)} events",
                f"leave only pull in ignore.actions, {RESTART}",
            )
        )
    if "" in configuration.ignored_media_types:
        causes.append(
            Cause(
                f'endpoint {name}: the empty media type ("") in its ignore block swallows deletes',
                f"take it out of ignore.mediatypes, {RESTART}",
            )
        )
    return causes


def _remarks(name: str, configuration: EndpointConfiguration) -> list[Cause]:
    remarks = []
    if configuration.ignored_actions and not configuration.ignored_media_types:
        remarks.append(
            Cause(
                f"endpoint {name}: up to 3.0 `ignore.actions` has no effect unless a media type is ignored "
                "too",
                "add application/octet-stream to ignore.mediatypes; the index has no use for blob events",
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
    """Return the successes that were not ours."""
    return {s: count for s, count in counters.statuses.items() if s in _SUCCESSES and s != ACCEPTED}


def _count(statuses: dict[int, int]) -> str:
    total = sum(statuses.values())
    return f"{total} attempt{'s' if total != 1 else ''}"


def _list(statuses: dict[int, int]) -> str:
    return ", ".join(str(status) for status in sorted(statuses))
