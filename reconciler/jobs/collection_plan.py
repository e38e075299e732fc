"""The job ``gc-plan``: what the registry's own collection of garbage would delete, and damage. Deletes nothing.

A process that takes the job after another was killed reads the storage anew; a plan that was made, and is in the log,
is not made a second time.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from indexer.inventory.changes import AuditAction
from indexer.jobs.params import CollectionPlanParams
from reconciler.acting.context import Entry, JobContext
from reconciler.collection.plan import CollectionPlan, summary_json
from reconciler.collection.planning import Asked, plan_from_storage
from reconciler.collection.references import Release
from reconciler.storage.objects import open_storage
from reconciler.storage.whereabouts import descriptor_cache_of

MOST_HAZARDS: Final = 200
"""So many hazards are part of the job's result. ``reconciler gc plan --json`` names all, and every blob."""


async def run(context: JobContext) -> Mapping[str, Any]:
    """Make the plan, and return its figures, with the first hazards."""
    planned: Mapping[str, Any] | None = context.state.get("planned")
    if planned is not None:
        return planned
    params = CollectionPlanParams.model_validate(context.job.params)
    settings = context.components.settings
    storage = await asyncio.to_thread(open_storage, settings)
    asked = Asked(
        release=None if params.registry_version is None else Release(params.registry_version),
        delete_untagged=params.delete_untagged,
        unproven=params.unproven_storage,
        cache=descriptor_cache_of(settings, os.environ),
    )
    plan, _ = await plan_from_storage(
        context.components, storage, asked, check=context.check, report=context.progress
    )
    await context.progress(plan.repositories, plan.repositories, "repositories")
    await context.check()
    result = result_of(plan)
    shown = {name: value for name, value in result.items() if name not in _NOT_IN_LOG}
    await context.save({"planned": result}, entry=Entry(AuditAction.COLLECTION_PLANNED, shown))
    return result


_NOT_IN_LOG: Final = frozenset({"hazards", "left_out"})


def result_of(plan: CollectionPlan) -> dict[str, Any]:
    """Return the result of the job for a plan."""
    summary = summary_json(plan)
    hazards = summary.pop("hazards")
    by_code = Counter(each.code.value for each in plan.hazards)
    return {
        **summary,
        "hazards_by_code": dict(sorted(by_code.items())),
        "hazards": hazards[:MOST_HAZARDS],
        "left_out": max(len(hazards) - MOST_HAZARDS, 0),
    }
