"""Which handler does which kind of job. A kind that is not here is left for a process that knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reconciler.acting.context import Handler
from reconciler.jobs import cleanup, delete, reconcile, restore, storage_check

HANDLERS: Final[Mapping[str, Handler]] = {
    "cleanup": cleanup.run,
    "delete": delete.run,
    "reconcile": reconcile.run,
    "restore": restore.run,
    "storage-check": storage_check.run,
}
