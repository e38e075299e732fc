"""The status as a whole."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from indexer.api.models import Shown, older_name
from indexer.api.operations import ApiCall, operation
from indexer.api.parameters import Query
from indexer.api.responses import Document
from indexer.api.v1.cleanup import InForceShown
from indexer.api.v1.status.acting import ActingShown, DeletionsShown, show_acting, show_deletions
from indexer.api.v1.status.ages import age
from indexer.api.v1.status.cleanup import CleanupState
from indexer.api.v1.status.log import AuditProof, Unsealed, show_proof
from indexer.api.v1.status.losses import Instance, ProcessShown, show_instances, show_processes
from indexer.api.v1.status.receivers import FeedShown, ForwardingShown, show_feed, show_forwarding
from indexer.api.v1.status.reconciles import Reconcile, ReconcileFindings, show_found, show_reconcile
from indexer.api.v1.status.registry import RegistryTraits, show_registry
from indexer.api.v1.status.storage import StorageState, show_storage_state
from indexer.api.v1.status.verification import VerificationShown, counted_verification, show_verification
from indexer.api.v1.status.work import Backlog, LoopStatus, show_backlog, show_loops
from indexer.cleanup.status import parts_of_status, status_json
from indexer.common.errors import CallerError
from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import WorkKind
from indexer.store import storage
from indexer.store.checkpoints import list_conflicts, newest_checkpoint, newest_push
from indexer.store.collections import newest_collections
from indexer.store.feeds import list_feeds
from indexer.store.forwarding import forwarding_backlog
from indexer.store.jobs import count_jobs
from indexer.store.listing import status as store
from indexer.store.listing.freshness import freshness
from indexer.store.maintenance import why_paused
from indexer.store.self_check import check_state
from indexer.store.tag_actions import count_alarming


class NoQuery(Query):
    """No parameters."""


class Status(Shown):
    """What waits, how fresh the inventory is, and the state of every loop."""

    now: datetime
    as_of: datetime = Field(description="Every notification received before this instant has been applied.")
    last_reconciled_at: datetime | None = Field(
        description="When a full reconcile last ended complete. Null: none has."
    )
    walked_at: datetime | None = older_name("last_reconciled_at")
    ingest_lag_seconds: float = Field(description="Age of the oldest delivery that waits; 0: none waits.")
    inbox: int = Field(description="Deliveries that wait.")
    inbox_failing: int = Field(
        description="Of these, those that failed by a fault of the database or of the indexer. They are retried."
    )
    quarantine: int = Field(description="Deliveries and events that could not be applied.")
    backlog: dict[str, Backlog] = Field(description="Work items that wait, by kind.")
    audit_position: int = Field(description="Position of the newest sealed entry.")
    unsealed: Unsealed
    audit_proof: AuditProof
    repositories: int
    tags: int
    manifests: int
    verification: VerificationShown
    instances: list[Instance] = Field(
        description="Registry processes that sent events, the latest first; at most 100."
    )
    processes: list[ProcessShown] = Field(
        description="Registry processes whose counters were read at a debug address, the latest reading first; "
        "at most 100."
    )
    registry: RegistryTraits
    last_reconcile: Reconcile | None = Field(
        description="The last full reconcile that ended complete. Null: none has."
    )
    last_walk: Reconcile | None = older_name("last_reconcile")
    trend: list[ReconcileFindings] = Field(
        description="The newest full reconciles that have ended, the latest first."
    )
    gitlab_forwarding: ForwardingShown
    feeds: list[FeedShown] = Field(description="Every feed that was ever configured here.")
    acting: ActingShown
    deletions: DeletionsShown
    storage: StorageState
    policies: InForceShown
    cleanup: CleanupState
    loops: list[LoopStatus]


@operation("/status", query=NoQuery, result=Status)
async def get_status(call: ApiCall[NoQuery]) -> Document:
    """Show what waits, which events came from which registry process, and how many tags are verified."""
    if call.principal.repositories is not None:
        raise CallerError(
            "the status is of the whole registry, and the token grants single repositories only",
            status=403,
            code="forbidden",
        )
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await store.status(held)
        verification = await counted_verification(held, call.memory, found)
        forwarded = await forwarding_backlog(held)
        signed = await newest_checkpoint(held)
        pushed = await newest_push(held)
        checked = await check_state(held)
        conflicts = await list_conflicts(held)
        feeds = await list_feeds(held)
        pause, counts = await why_paused(held), await count_jobs(held)
        deletions = await count_alarming(held)
        check, samples = await storage.find_check(held), await storage.newest_samples(held, limit=1)
        ran = await newest_collections(held, limit=1)
        cleanup = await status_json(held, now=found.ingest["now"])
    ingest, now = found.ingest, found.ingest["now"]
    reconciled_at, reconcile = format_time(fresh.last_reconciled_at), show_reconcile(found)
    body = {
        "now": format_time(now),
        "as_of": format_time(fresh.as_of),
        "last_reconciled_at": reconciled_at,
        "walked_at": reconciled_at,
        "ingest_lag_seconds": age(ingest["waiting_since"], now) or 0.0,
        "inbox": ingest["waiting"],
        "inbox_failing": ingest["failing"],
        "quarantine": ingest["quarantined"],
        "backlog": {kind.value: show_backlog(found, kind, now) for kind in WorkKind},
        "audit_position": ingest["position"],
        "unsealed": {"entries": ingest["unsealed"], "since": format_time(ingest["unsealed_since"])},
        "audit_proof": show_proof(signed, pushed, checked, conflicts),
        "repositories": found.totals["repositories"],
        "tags": found.totals["tags"],
        "manifests": found.totals["manifests"],
        "verification": show_verification(verification),
        "instances": show_instances(found),
        "processes": show_processes(found),
        "registry": show_registry(found.traits),
        "last_reconcile": reconcile,
        "last_walk": reconcile,
        "trend": [show_found(row) for row in found.trend],
        "gitlab_forwarding": show_forwarding(forwarded, now),
        "feeds": [show_feed(feed, now) for feed in feeds],
        "acting": show_acting(pause, counts),
        "deletions": show_deletions(deletions),
        "storage": show_storage_state(check, next(iter(samples), None), next(iter(ran), None)),
        **parts_of_status(cleanup),
        "loops": show_loops(found),
    }
    return Document(body=body)
