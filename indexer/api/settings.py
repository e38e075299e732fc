"""What the door needs to be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from indexer.api.trust import Trust
from indexer.audit.cloudevents import Origin

STATEMENT_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAttributes:
    """What the feeds' file says of every event; see ``audit.cloudevents``."""

    source: str | None = None
    type_prefix: str = "registry-indexer"

    def origin(self, log: UUID) -> Origin:
        """Return whose events those of a log are."""
        return Origin(log=log, source=self.source, type_prefix=self.type_prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Settings of the read APIs.

    Without a token and without ``anonymous_read`` nothing is readable.
    """

    api_tokens: frozenset[str] = field(default=frozenset(), repr=False)
    """Operator tokens: each reads everything."""
    anonymous_read: bool = False
    """Whoever reaches the address may read everything."""
    trust: Trust | None = None
    """The registry's own token trust: its tokens open here what they open there. None: only operators' tokens."""
    connections: int = 4
    """Database connections held for answering, of the pool given; 3 to 8 are best (measured)."""
    statement_timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS
    """A question that takes longer is answered with 503 ``too_slow``."""
    streams: int = 100
    """Streams and long polls that may be open at a time."""
    events: EventAttributes = EventAttributes()
