"""Cleanup, as metrics: whether programs read the same policies, how each stands, what is planned, what is in use."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import Gauge

from indexer.policies.problems import PoliciesRefused
from indexer.store import cleanup_plans, in_use, policies_in_force
from indexer.store.pool import Connection

POLICIES_DIFFER = Gauge(
    "indexer_policies_differ", "1 while programs read different policies files, and nothing acts, else 0."
)
POLICIES_REFUSED = Gauge(
    "indexer_policies_refused",
    "Programs whose policies file is wrong or cannot be read, and is not in force.",
)
SOURCE_SILENT = Gauge(
    "indexer_in_use_silent",
    "1 where a source of what is in use does not report any more, else 0.",
    ["source"],
)
SOURCE_UNCONFIRMED = Gauge(
    "indexer_in_use_unconfirmed",
    "1 where a source reports much less than before, and waits for confirmation, else 0.",
    ["source"],
)
STANDING = Gauge(
    "indexer_cleanup_policy_standing",
    "1 for how each policy stands: acts, or why it does not.",
    ["policy", "standing"],
)
VERDICTS = Gauge(
    "indexer_cleanup_verdicts",
    "Verdicts of each policy in its plan that counts, by decision.",
    ["policy", "decision"],
)
PLANS = Gauge("indexer_cleanup_plans", "Plans on record, by what was decided about them.", ["state"])
PLANNED = Gauge(
    "indexer_cleanup_planned", "Tags and manifests that are planned and open, by state.", ["state"]
)
ENDED = Gauge(
    "indexer_cleanup_ended", "What became of what was planned, as far as it is on record.", ["outcome"]
)

ACTS = "acts"


async def read_policies(held: Connection, now: datetime) -> None:
    """Read what an alarm waits for: how programs read the file, and who reports what is in use."""
    file = await policies_in_force.in_force(held)
    readings = await policies_in_force.readings(held, now=now)
    POLICIES_DIFFER.set(policies_in_force.differing(readings, file) is not None)
    POLICIES_REFUSED.set(sum(each.error is not None for each in readings))
    try:
        expected = [] if file is None else [each.id for each in file.policies().in_use]
    except PoliciesRefused:  # a newer program put them in force
        expected = []
    SOURCE_SILENT.clear()
    SOURCE_UNCONFIRMED.clear()
    sources = await in_use.list_sources(held)
    silent = in_use.silent(sources, expected=expected, now=now)
    for name in {*silent, *(each.source for each in sources)}:
        SOURCE_SILENT.labels(name).set(name in silent)
    for each in sources:
        SOURCE_UNCONFIRMED.labels(each.source).set(each.suspected_at is not None)


async def read_plans(held: Connection, now: datetime) -> None:
    """Read how policies stand, and what is planned: it reads every planned row."""
    STANDING.clear()
    VERDICTS.clear()
    try:
        standings = await cleanup_plans.standing(held, now=now)
    except PoliciesRefused:
        standings = []
    for each in standings:
        STANDING.labels(each.policy, each.refusal or ACTS).set(1)
        if each.part is not None:
            VERDICTS.labels(each.policy, "keep").set(each.part.kept)
            VERDICTS.labels(each.policy, "delete").set(each.part.deleted)
            VERDICTS.labels(each.policy, "hold").set(each.part.held)
    for state, plans in (await cleanup_plans.plan_counts(held)).items():
        PLANS.labels(state).set(plans)
    counts = await cleanup_plans.planned_counts(held, now=now)
    PLANNED.labels("due").set(counts.due)
    PLANNED.labels("pending").set(counts.tags + counts.manifests - counts.due)
    for outcome, number in (await cleanup_plans.outcome_counts(held)).items():
        ENDED.labels(outcome).set(number)
