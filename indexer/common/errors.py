"""Every error that crosses a floor, split by what a catcher asks.

    IndexerError
    ├── ConfigurationError        the operator must change something before we can start (exit 64)
    ├── RegistryError             talking to the registry failed
    │   ├── RegistryUnavailable   it did not answer, or said "not now": try again, conclude nothing
    │   │   └── TokenServerUnavailable    the same of the token server that it names
    │   ├── RegistryDenied        401/403: conclude nothing, tell the operator
    │   └── RegistryMisbehaved    it answered something no registry answers: conclude nothing
    │       └── TokenServerMisbehaved     the token server did, or it is none that may be asked
    ├── StoreError                the database refused
    │   ├── StoreUnavailable      not reachable just now: try again
    │   │   └── StoreTimedOut     it did not answer in time: it may be what was asked, too
    │   ├── StoreBusy             another transaction was in the way: try again
    │   ├── StoreRefused          the values are none it can store: they are wrong, and will be again
    │   ├── StoreFault            it cannot do what we ask, whatever the values: rights, a table that is not there
    │   └── StoreOutdated         the schema is not the one this program was built for
    ├── StorageError              reading the registry's storage failed
    │   ├── StorageUnavailable    it did not answer, or said "not now": try again, conclude nothing
    │   └── StorageRefused        it is not the registry's, or may not be read: nothing is concluded, tell the operator
    ├── GitlabUnavailable         GitLab did not take what we forward: try again
    ├── SinkError                 a feed's sink did not take what we deliver
    │   ├── SinkUnavailable       no answer, or one that is about us: try again
    │   ├── SinkRefused           it took what we sent for wrong, and will again
    │   └── SinkGone              it asks for nothing ever again
    ├── ServerError               `indexer serve`, asked on the command line, did not answer, or not with what was asked
    ├── Postponed                 a loop's round failed, and says when to come again
    └── CallerError               the request is wrong, and says how (``code``, ``status``)

A 404 from the registry is not an error here: it is an answer, and clients return it as a value.
"""

from __future__ import annotations


class IndexerError(Exception):
    """Root of the tree; the message is one line that says what is wrong and what to do."""


class ConfigurationError(IndexerError):
    """A setting is missing, unknown or wrong."""


class RegistryError(IndexerError):
    """Talking to the registry failed; nothing may be concluded about what it holds."""


class RegistryUnavailable(RegistryError):  # noqa: N818 - a state, read as "registry unavailable"
    """No answer, a reset, a time-out, 429 or 5xx.

    ``retry_after_seconds`` is the registry's own ``Retry-After`` where it sent one (RFC 9110 section 10.2.3);
    ``status`` is what it answered, None where it did not.
    """

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.status = status


class TokenServerUnavailable(RegistryUnavailable):
    """The registry answered; the token server that it sends us to did not."""


class RegistryDenied(RegistryError):  # noqa: N818 - a state, read as "registry denied"
    """401 or 403 after authentication was tried."""


class RegistryMisbehaved(RegistryError):  # noqa: N818 - a state, read as "registry misbehaved"
    """An answer that no Distribution registry gives: HTML, another digest, a broken listing."""


class TokenServerMisbehaved(RegistryMisbehaved):
    """No token server answers so, or the one that the registry names must not be asked."""


class StoreError(IndexerError):
    """The database refused or broke."""


class StoreUnavailable(StoreError):  # noqa: N818 - a state, read as "store unavailable"
    """The database cannot be reached just now; what was asked did not happen or must be retried whole."""


class StoreTimedOut(StoreUnavailable):
    """No answer in time: the database hangs, or what was asked takes that long."""


class StoreBusy(StoreError):  # noqa: N818 - a state, read as "store busy"
    """Another transaction was in the way: a deadlock, a lock not had in time, a serialization failure."""


class StoreRefused(StoreError):  # noqa: N818 - a state, read as "store refused"
    """The values cannot be stored: out of range, not encodable, against a constraint. They never will be."""


class StoreFault(StoreError):  # noqa: N818 - a state, read as "store fault"
    """The database cannot do what we ask, whatever the values: a right, a table or a column is missing."""


class StoreOutdated(StoreError):  # noqa: N818 - a state, read as "store outdated"
    """The schema is older or newer than this program."""


class StorageError(IndexerError):
    """Reading the registry's storage failed; nothing may be concluded about what it holds."""


class StorageUnavailable(StorageError):  # noqa: N818 - a state, read as "storage unavailable"
    """No answer, a time-out, an input or output error: the same may succeed later."""


class StorageRefused(StorageError):  # noqa: N818 - a state, read as "storage refused"
    """It cannot be read as it is set up: rights, no bucket, a link that leads out, another registry's storage."""


class GitlabUnavailable(IndexerError):  # noqa: N818 - a state, read as "GitLab unavailable"
    """No answer, "not now", or a refusal that is about us.

    ``maybe_the_event``: it may be what we sent that GitLab cannot digest. ``retry_after_seconds`` is GitLab's own wish.
    """

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None, maybe_the_event: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.maybe_the_event = maybe_the_event


class SinkError(IndexerError):
    """A feed's sink did not take what we deliver."""


class SinkUnavailable(SinkError):  # noqa: N818 - a state, read as "sink unavailable"
    """No answer, "not now", or a refusal of us; ``retry_after_seconds`` is the sink's own wish."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SinkRefused(SinkError):  # noqa: N818 - a state, read as "sink refused"
    """It took the entries for wrong, and will again."""


class SinkGone(SinkError):  # noqa: N818 - a state, read as "sink gone"
    """It asks for nothing ever again."""


class ServerError(IndexerError):
    """A server of ours, or the API in this process, did not answer what the command line asked."""


class Postponed(IndexerError):  # noqa: N818 - a state, read as "postponed"
    """A loop's round failed; the next one is worth trying after ``rest_seconds``, and not before."""

    def __init__(self, message: str, *, rest_seconds: float) -> None:
        super().__init__(message)
        self.rest_seconds = rest_seconds


class CallerError(IndexerError):
    """The request is wrong.

    ``status`` is the HTTP status, ``code`` a stable word for programs, ``parameter`` the offending query
    parameter where there is one, ``allowed`` what would have been accepted.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "bad_request",
        parameter: str | None = None,
        allowed: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.parameter = parameter
        self.allowed = allowed
