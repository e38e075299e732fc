"""What looking brought back: frozen values for the decisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique

from indexer.common.errors import (
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
    TokenServerMisbehaved,
    TokenServerUnavailable,
)
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.canary import CanaryState
from reconciler.registry.answers import Deletion, Ping
from reconciler.registry.endpoint_counters import DebugReading


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What our own server, or what stands in its place, answered.

    ``status`` None: nothing did, and ``said`` says why.
    """

    status: int | None
    said: str = ""
    location: str | None = None

    @property
    def is_redirect(self) -> bool:
        """True for what a client would follow."""
        return self.status in {301, 302, 303, 307, 308}

    @property
    def words(self) -> str:
        """The answer in a few words."""
        if self.status is None:
            return self.said
        target = f" → {self.location[:200]}" if self.location else ""
        return f"{self.status}{target}"


@unique
class HttpFault(StrEnum):
    """Why the registry did not give what was asked, by kind of error."""

    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    MISBEHAVED = "misbehaved"
    TOKEN_SERVER = "token_server"  # noqa: S105 - a word, not a token
    """The registry answered; the token server that it names did not, or not as one, or may not be asked."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the registry's as a value."""

    fault: HttpFault
    said: str

    @classmethod
    def of(cls, error: RegistryError) -> Failure:
        """Keep an error's kind and message."""
        if isinstance(error, TokenServerUnavailable | TokenServerMisbehaved):
            return cls(HttpFault.TOKEN_SERVER, str(error))
        if isinstance(error, RegistryUnavailable):
            return cls(HttpFault.UNAVAILABLE, str(error))
        return cls(
            HttpFault.DENIED if isinstance(error, RegistryDenied) else HttpFault.MISBEHAVED, str(error)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The database: ``version_number`` as ``server_version_num``; ``ahead_seconds``: its clock less ours."""

    version_number: int
    version: str
    ahead_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """What is wrong with the schema; ``obstacle``: what `indexer migrate` would run into, with its remedy.

    ``refused``: the database did not let us read which migrations it has.
    """

    problem: str | None = None
    obstacle: str | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverFact:
    """What ``POST /notifications`` answered to an empty envelope, with and without the token."""

    url: str
    with_token: HttpAnswer
    without_token: HttpAnswer


@unique
class Family(StrEnum):
    """Which Distribution it is, as far as its answers tell."""

    V2 = "2.x"
    V3 = "3.x"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFacts:
    """The registry at the door: the ping, or why there was none."""

    url: str
    has_credentials: bool
    ping: Ping | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One registry process by its debug address.

    ``probes``: what each endpoint of ours answered when asked from here, with the token that the registry
    sends it; endpoints with another token are not asked, since ours is not theirs to see.
    """

    address: str
    reading: DebugReading | Failure
    probes: Mapping[str, HttpAnswer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """How a background loop of some process fares; ages in seconds."""

    loop: str
    process: str
    outcome: str
    age_seconds: float
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What was pushed."""

    repository: RepositoryName
    tag: TagName
    digest: Digest
    media_type: str
    pushed_at: datetime

    @property
    def name(self) -> str:
        """As an image reference has it."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEvents:
    """Notifications about the canary that are in our inbox."""

    push_seconds: float | None = None
    """From the push to the arrival; None: did not arrive."""
    delete: bool = False
    applied: bool = False
    quarantined: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingFact:
    """Whether the tag is in the listing, by the store and, where we may read it, by the API."""

    by_store: bool
    api: HttpAnswer | None = None
    by_api: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What explains a canary that was lost: counters before and after, our door's answers, loops, backlog."""

    before: Sequence[Instance] = ()
    after: Sequence[Instance] = ()
    receiver: Mapping[int, int] | None = None
    """Answers at our door since the push, by status; None where our metrics could not be read."""
    loops: Sequence[LoopState] = ()
    inbox_waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """How far the canary came. States are as of the deadline of their link, or of the moment it held."""

    canary: Canary
    patience_seconds: float
    news: CanaryEvents
    inventory: CanaryState
    verified: CanaryState
    read: CanaryState
    listing: ListingFact | None = None
    removal: Deletion | Failure
    events_after_removal: CanaryEvents = field(default_factory=CanaryEvents)
    gone: bool = False
    surroundings: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """The audit log: what does not fit what was sealed and signed, in words, and the loops that sign it.

    ``damaged`` entries, of which ``first`` is told; ``conflicts``: checkpoints elsewhere that it did not grow out of.
    """

    damaged: int = 0
    first: str | None = None
    conflicts: Sequence[str] = ()
    compared_at: datetime | None = None
    signing: Sequence[LoopState] = ()
