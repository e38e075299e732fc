"""Settings of the read APIs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from indexer.api.trust import Trust
from indexer.audit.cloudevents import Origin

STATEMENT_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAttributes:
    """Attributes of every CloudEvent, from the feeds file; see ``audit.cloudevents``."""

    source: str | None = None
    type_prefix: str = "registry-indexer"

    def origin(self, log: UUID) -> Origin:
        """Return the origin of the events of a log."""
        return Origin(log=log, source=self.source, type_prefix=self.type_prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Settings of the read APIs.

    Without a token and without ``anonymous_read`` nothing is readable.
    """

    api_tokens: frozenset[str] = field(default=frozenset(), repr=False)
    """Read tokens: each reads everything."""
    operator_tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Operator tokens, name and secret: each reads and acts; its name is the actor in the audit log."""
    in_use_tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """In-use tokens, source and secret: each reports what its source runs, and does nothing else."""
    proxy_secret: str | None = field(default=None, repr=False)
    """What the proxy in front of the registry proves itself with; None: no proxy is believed."""
    anonymous_read: bool = False
    """Requests without a token may read everything."""
    trust: Trust | None = None
    """The registry's token trust: its tokens grant here what they grant there. None: only operators' tokens count."""
    registry_host: str | None = None
    """The host that clients pull from, shown in commands; None: not known."""
    sign_in_ca_file: Path | None = None
    """PEM bundle that the realm's certificate is checked by; None: the usual authorities."""
    connections: int = 4
    """Database connections of the pool that are used for reads; 3 to 8 are best (measured)."""
    statement_timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS
    """A request whose statement takes longer is answered with 503 ``too_slow``."""
    streams: int = 100
    """Streams and long polls that may be open at a time."""
    events: EventAttributes = EventAttributes()
