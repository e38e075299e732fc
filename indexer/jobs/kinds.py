"""The kinds of jobs: what each may be asked with, whether it changes the registry, and who may ask.

A process of an older version does not know a newer kind, and leaves its jobs alone. The handlers, which do the work,
are in ``reconciler.jobs.kinds``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from indexer.jobs.params import (
    CleanupParams,
    CollectionPlanParams,
    DeleteParams,
    ReconcileParams,
    RestoreParams,
    StorageCheckParams,
    StorageImportParams,
)
from indexer.oci.reference import RepositoryName

DELETE_ACTIONS: Final = frozenset({"delete"})
"""Any of these actions of a registry token on a repository allows deleting in it."""

RESTORE_ACTIONS: Final = frozenset({"delete", "push"})
"""The same for restoring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of job.

    - ``acts``: it changes the registry; then it is paused by maintenance, and has its repositories to itself.
    - ``acts_if``: of its parameters, whether it does; None: always what ``acts`` says.
    - ``repositories``: of its parameters, the repositories that it is about; None: the whole registry.
    - ``actions``: a registry token with any of these actions on each of the repositories may ask for it; None: only an
      operator token may.
    - ``on_record``: its repositories must be on record, else the request is a 404.
    """

    name: str
    params: type[BaseModel]
    acts: bool
    repositories: Callable[[Any], list[RepositoryName] | None]
    actions: frozenset[str] | None = None
    on_record: bool = False
    acts_if: Callable[[Any], bool] | None = None

    def acts_with(self, params: BaseModel) -> bool:
        """Tell whether a job with these parameters changes the registry."""
        return self.acts if self.acts_if is None else self.acts_if(params)


RECONCILE: Final = Kind(
    name="reconcile",
    params=ReconcileParams,
    acts=False,
    repositories=lambda params: params.repositories,
)

DELETE: Final = Kind(
    name="delete",
    params=DeleteParams,
    acts=True,
    repositories=lambda params: params.repositories,
    actions=DELETE_ACTIONS,
    on_record=True,
)

RESTORE: Final = Kind(
    name="restore",
    params=RestoreParams,
    acts=True,
    repositories=lambda params: params.repositories,
    actions=RESTORE_ACTIONS,
    on_record=True,
)

CLEANUP: Final = Kind(
    name="cleanup",
    params=CleanupParams,
    acts=True,
    repositories=lambda params: params.repositories,
)

STORAGE_CHECK: Final = Kind(
    name="storage-check",
    params=StorageCheckParams,
    acts=False,
    acts_if=lambda params: params.repair,
    repositories=lambda _params: None,
)

STORAGE_IMPORT: Final = Kind(
    name="storage-import",
    params=StorageImportParams,
    acts=False,
    repositories=lambda params: params.repositories,
)

COLLECTION_PLAN: Final = Kind(
    name="gc-plan",
    params=CollectionPlanParams,
    acts=False,
    repositories=lambda _params: None,
)

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (RECONCILE, CLEANUP, DELETE, RESTORE, STORAGE_CHECK, STORAGE_IMPORT, COLLECTION_PLAN)
}
