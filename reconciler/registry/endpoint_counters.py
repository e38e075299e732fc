"""A registry's counters of its notifications, and their parsing. Pure.

What the counters mean (read in the code and measured, 2.8.2 and 3.1.1):

- ``events``: queued for the endpoint, after its ignore block; ``pending``: not yet delivered.
- ``successes``: answered 2xx or 3xx. A redirect is followed as a GET without body, and the *last* answer is counted, so
  a lost event shows as ``200 OK``; our own endpoint answers only 202.
- ``failures``: answered anything else; ``errors``: not answered. Both count attempts, and attempts never end.

They start at 0 with every process. expvar also shows the endpoint's headers, and with them a token, which is kept out
of every representation here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson
from prometheus_client.parser import text_string_to_metric_families

from indexer.common.errors import RegistryMisbehaved

_NANOSECONDS: Final = 1e9
_PREFIX: Final = "registry_notifications_"
_FIELDS: Final = {"Events": "events", "Successes": "successes", "Failures": "failures", "Errors": "errors"}


@unique
class DebugSource(StrEnum):
    """Where the counters were read."""

    EXPVAR = "expvar"
    PROMETHEUS = "prometheus"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCounters:
    """Counters of an endpoint since the registry process began; ``statuses``: successes and failures by HTTP status."""

    pending: int = 0
    events: int = 0
    successes: int = 0
    failures: int = 0
    errors: int = 0
    statuses: Mapping[int, int] = field(default_factory=dict)

    def since(self, before: EndpointCounters) -> EndpointCounters:
        """Return the counts since an earlier reading of the same process; ``pending`` is the current one."""
        statuses = {
            status: count - before.statuses.get(status, 0)
            for status, count in self.statuses.items()
            if count != before.statuses.get(status, 0)
        }
        return EndpointCounters(
            pending=self.pending,
            events=self.events - before.events,
            successes=self.successes - before.successes,
            failures=self.failures - before.failures,
            errors=self.errors - before.errors,
            statuses=statuses,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfiguration:
    """The registry's configuration of an endpoint. The URL and the header may contain secrets."""

    url: str = field(repr=False)
    authorization: tuple[str, ...] = field(repr=False)
    timeout_seconds: float
    threshold: int
    backoff_seconds: float
    ignored_media_types: frozenset[str] = frozenset()
    ignored_actions: frozenset[str] = frozenset()

    @property
    def shown_url(self) -> str:
        """The address without credentials and query."""
        try:
            parts = urlsplit(self.url)
            netloc = parts.netloc.rpartition("@")[2]
            return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
        except ValueError:
            return "(not an address)"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReading:
    """One endpoint; ``configuration`` is None if it was read from Prometheus."""

    name: str
    counters: EndpointCounters
    configuration: EndpointConfiguration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """Identifies a registry process, since neither version shows its instanceID here.

    ``collections``: the number of Go's garbage collections; ``collected_at``: when the last (at most 256) ended, in
    nanoseconds since 1970, which no other process shares. ``started_at``: Prometheus'
    ``process_start_time_seconds``, in seconds since 1970, if that was read.
    """

    collections: int = 0
    collected_at: frozenset[int] = frozenset()
    started_at: float | None = None

    @property
    def last_collected_at(self) -> int | None:
        """The newest of ``collected_at``."""
        return max(self.collected_at, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugReading:
    """One reading of one registry process. No endpoints mean that none is configured, if ``source`` is expvar."""

    address: str
    read_at: datetime
    source: DebugSource
    endpoints: tuple[EndpointReading, ...]
    process: ProcessMark = field(default_factory=ProcessMark)

    def find(self, name: str) -> EndpointReading | None:
        """Return the endpoint of that name."""
        return next((endpoint for endpoint in self.endpoints if endpoint.name == name), None)


def parse_expvar(content: bytes, *, url: str) -> tuple[EndpointReading, ...]:
    """Parse ``registry.notifications.endpoints`` of ``/debug/vars``; it is ``null`` if none is configured."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RegistryMisbehaved(f"{url}: not JSON ({error})") from error
    registry = value.get("registry") if isinstance(value, dict) else None
    notifications = registry.get("notifications") if isinstance(registry, dict) else None
    if not isinstance(notifications, dict):
        raise RegistryMisbehaved(f"{url}: has no registry.notifications, so it is no registry's")
    try:
        return tuple(_read_endpoint(endpoint) for endpoint in notifications.get("endpoints") or ())
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RegistryMisbehaved(
            f"{url}: its endpoints are not as Distribution writes them ({error})"
        ) from error


def parse_prometheus(content: bytes, *, url: str) -> tuple[EndpointReading, ...]:
    """Parse the ``registry_notifications_…`` counters of ``/metrics``, one endpoint per label value."""
    found: dict[str, dict[str, Any]] = {}
    try:
        for sample in _samples(content.decode("utf-8", "replace")):
            name = sample.labels.get("endpoint", "")
            counts = found.setdefault(name, {"statuses": {}})
            _count(counts, sample.name.removeprefix(_PREFIX), sample.labels, int(sample.value))
    except ValueError as error:
        raise RegistryMisbehaved(f"{url}: not Prometheus' text ({error})") from error
    return tuple(
        EndpointReading(name=name, counters=EndpointCounters(**counts), configuration=None)
        for name, counts in sorted(found.items())
    )


def parse_expvar_process(content: bytes) -> ProcessMark:
    """Parse Go's ``memstats`` of ``/debug/vars``; return an empty mark if they are not as Go writes them."""
    try:
        statistics = orjson.loads(content)["memstats"]
        return ProcessMark(
            collections=int(statistics["NumGC"]),
            collected_at=frozenset(int(ended) for ended in statistics["PauseEnd"] if ended),
        )
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return ProcessMark()


def parse_prometheus_process(content: bytes) -> ProcessMark:
    """Parse ``process_start_time_seconds`` of ``/metrics``; return an empty mark without it."""
    try:
        for family in text_string_to_metric_families(content.decode("utf-8", "replace")):
            if family.name == "process_start_time_seconds":
                return ProcessMark(started_at=float(family.samples[0].value))
    except (LookupError, ValueError):
        pass
    return ProcessMark()


def _read_endpoint(value: Any) -> EndpointReading:
    metrics, ignore = value["Metrics"], value.get("Ignore") or {}
    statuses: dict[int, int] = {}
    for text, count in (metrics.get("Statuses") or {}).items():
        statuses[_status(text)] = statuses.get(_status(text), 0) + int(count)
    return EndpointReading(
        name=str(value["name"]),
        counters=EndpointCounters(
            pending=int(metrics["Pending"]),
            statuses=statuses,
            **{ours: int(metrics[theirs]) for theirs, ours in _FIELDS.items()},
        ),
        configuration=EndpointConfiguration(
            url=str(value["url"]),
            authorization=_authorization(value.get("Headers") or {}),
            timeout_seconds=int(value["Timeout"]) / _NANOSECONDS,
            threshold=int(value["Threshold"]),
            backoff_seconds=int(value["Backoff"]) / _NANOSECONDS,
            # The legacy key of 2.x beside the one of 2.7 and later; both apply.
            ignored_media_types=frozenset(
                [*(value.get("IgnoredMediaTypes") or ()), *(ignore.get("MediaTypes") or ())]
            ),
            ignored_actions=frozenset(ignore.get("Actions") or ()),
        ),
    )


def _authorization(headers: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the values of the Authorization header, whatever the case of its name."""
    return tuple(
        value for name, values in headers.items() if name.lower() == "authorization" for value in values
    )


def _samples(text: str) -> Iterable[Any]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(_PREFIX) and "endpoint" in sample.labels:
                yield sample


def _count(counts: dict[str, Any], name: str, labels: Mapping[str, str], value: int) -> None:
    if name == "pending_total":
        counts["pending"] = value
    elif name == "events_total" and labels.get("type") in _FIELDS:
        counts[_FIELDS[labels["type"]]] = value
    elif name == "status_total":
        status = _status(labels.get("code", ""))
        counts["statuses"][status] = counts["statuses"].get(status, 0) + value


_STATUS_DIGITS = 3


def _status(text: str) -> int:
    """Return the number in ``202 Accepted``; a proxy may send another reason phrase."""
    number = text.split(maxsplit=1)[0] if text.strip() else ""
    return int(number) if number.isascii() and number.isdigit() and len(number) <= _STATUS_DIGITS else 0
