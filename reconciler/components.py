"""What every verb, loop and job builds on; ``app`` makes it."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.settings import Settings
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.pulls.announced import OwnRequests
from reconciler.registry.client import RegistryClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Settings, pools, and the registry's client."""

    settings: Settings
    database_url: str
    pool: Pool
    lookups: Lookups
    registry: RegistryClient
    own_requests: OwnRequests
    reconciling: RegistryClient
    """The same client for requests of a reconcile, which keep RECONCILER_MAX_RATE. Verification does not."""
