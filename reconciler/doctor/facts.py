"""Facts: what was observed, as frozen values for the decisions. Pure."""

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
    """What our own server, or another service at its address, answered.

    ``text``: the beginning of the body. ``status`` None: there was no answer, and ``text`` says why.
    """

    status: int | None
    text: str = ""
    location: str | None = None

    @property
    def is_redirect(self) -> bool:
        """Whether a client would follow it."""
        return self.status in {301, 302, 303, 307, 308}

    @property
    def summary(self) -> str:
        """The status and where it redirects to, or why there was no answer."""
        if self.status is None:
            return self.text
        target = f" → {self.location[:200]}" if self.location else ""
        return f"{self.status}{target}"


@unique
class HttpFault(StrEnum):
    """Why the registry did not answer a request as expected, by kind of error."""

    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    MISBEHAVED = "misbehaved"
    TOKEN_SERVER = "token_server"  # noqa: S105 - a word, not a token
    """The registry answered; the token server that it names did not, or not as one, or must not be asked."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A registry error as a value."""

    fault: HttpFault
    message: str

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
    """What is wrong with the schema; ``obstacle``: why `indexer migrate` would fail, with its remedy.

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
    """Which Distribution it is, as far as its answers show."""

    V2 = "2.x"
    V3 = "3.x"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFacts:
    """The registry: the answer to ``/v2/``, or why there was none."""

    url: str
    has_credentials: bool
    ping: Ping | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One registry process by its debug address.

    ``probes``: what each endpoint of ours answered to a request from here, with the token that the registry sends to
    it. Endpoints with another token get no request, since they must not learn ours.
    """

    address: str
    reading: DebugReading | Failure
    probes: Mapping[str, HttpAnswer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """The state of a background loop of one process; ages in seconds."""

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
        """The canary as an image reference."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEvents:
    """Notifications about the canary that are in our inbox."""

    push_seconds: float | None = None
    """From the push to the arrival of its event; None: it did not arrive."""
    delete: bool = False
    applied: bool = False
    quarantined: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingFact:
    """Whether the tag is in the listing: in the database and, where we have a token, by the API."""

    by_store: bool
    api: HttpAnswer | None = None
    by_api: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What may explain a lost canary: counters before and after, our endpoint's answers, loops, backlog."""

    before: Sequence[Instance] = ()
    after: Sequence[Instance] = ()
    receiver: Mapping[int, int] | None = None
    """Answers of our endpoint since the push, by status; None where our metrics could not be read."""
    loops: Sequence[LoopState] = ()
    inbox_waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """How far the canary came. Each state is as of the moment its step succeeded, or of the step's deadline."""

    canary: Canary
    patience_seconds: float
    events: CanaryEvents
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
    """The audit log: differences from what was sealed and signed, in words, and the loops that sign it.

    ``damaged``: the number of damaged entries; ``first``: the first of them. ``conflicts``: checkpoints elsewhere that
    belong to another history.
    """

    damaged: int = 0
    first: str | None = None
    conflicts: Sequence[str] = ()
    compared_at: datetime | None = None
    signing: Sequence[LoopState] = ()
