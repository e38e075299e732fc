"""The settings of an examination. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from indexer.oci.reference import RepositoryName
from reconciler.registry.retrying import RetryPolicy
from reconciler.registry.transport import TransportSettings

PROBE_REPOSITORY = RepositoryName("registry-indexer-doctor/canary")

_REQUEST_SECONDS = 10.0
"""A person waits, so a registry that takes longer counts as unreachable."""

_LISTING_SECONDS = 60.0
"""One name of the catalog may take long on S3: the registry reads its whole storage first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorSettings:
    """How to examine.

    ``problems``: settings that are wrong or missing; steps that need them are skipped. ``remarks``: missing settings
    that only make the examination shorter.
    """

    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    database_url: str | None = field(default=None, repr=False)
    registry: TransportSettings | None = None
    debug_urls: tuple[str, ...] = ()
    indexer_url: str | None = None
    notifications_token: str | None = field(default=None, repr=False)
    api_token: str | None = field(default=None, repr=False)
    anonymous_read: bool = False
    takes_notices: bool = False
    """Whether a proxy can give notice of writes, so that answers have the newest."""
    catalog_is_closed: bool = False
    """The operator accepts that the catalog is denied."""
    repository: RepositoryName = PROBE_REPOSITORY
    read_only: bool = False
    """Push no canary, and request no deletion."""
    patience_seconds: float = 15.0
    """How long each step of the canary may take: longer than the registry's backoff and our own rests."""

    @property
    def impatient_registry(self) -> TransportSettings | None:
        """The registry's settings with short time-outs, since a person waits."""
        if self.registry is None:
            return None
        return replace(
            self.registry,
            timeout_seconds=_REQUEST_SECONDS,
            listing_timeout_seconds=_LISTING_SECONDS,
            retry=RetryPolicy(attempts=2),
        )
