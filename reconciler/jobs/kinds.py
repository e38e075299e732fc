"""Which handler does which kind of job. A kind that is not here is left for a process that knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from indexer.settings import Settings
from reconciler.acting.context import Handler
from reconciler.jobs import (
    cleanup,
    collection_plan,
    delete,
    reconcile,
    restore,
    storage_check,
    storage_import,
)

HANDLERS: Final[Mapping[str, Handler]] = {
    "cleanup": cleanup.run,
    "delete": delete.run,
    "gc-plan": collection_plan.run,
    "reconcile": reconcile.run,
    "restore": restore.run,
    "storage-check": storage_check.run,
    "storage-import": storage_import.run,
}

OF_STORAGE: Final = frozenset({"gc-plan", "storage-check", "storage-import"})
"""Kinds that read the storage: a daemon that does not know where it is leaves them to one that does."""


def handlers_of(settings: Settings) -> Mapping[str, Handler]:
    """Return the handlers of a daemon with these settings."""
    if settings.reconciler_storage_url is not None or settings.reconciler_registry_config is not None:
        return HANDLERS
    return {kind: handler for kind, handler in HANDLERS.items() if kind not in OF_STORAGE}
