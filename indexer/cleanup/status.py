"""What the next cleanup run would do, for ``reconciler cleanup status``, ``reconciler status`` and the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from indexer.common.rfc3339 import format_time
from indexer.policies.problems import PoliciesRefused
from indexer.store import cleanup_plans, in_use, policies_in_force
from indexer.store.pool import Connection

REFUSALS = {
    "preview": "its mode is preview, which never acts",
    "policies_differ": "programs read different policies",
    "no_plan": "no plan was made under the policies in force",
    "policy_changed": "other policies are in force than its plan was made with",
    "not_approved": "no plan under the policies in force was approved: reconciler cleanup approve PLAN",
    "approval_ended": "the approval of its plan has ended: approve it again",
    "blocked.brake": "its plan is beyond the brake",
    "weak_evidence": "more than 1 % of its deletions would be others if every time were known exactly",
    "blocked_window": "a blocked window is open",
    "outside_window": "it is outside of its window",
    "stale": "its plan was not confirmed for hours: is `reconciler run` running?",
}
"""In words."""


async def status_json(connection: Connection, *, now: datetime) -> dict[str, Any]:
    """Return what is in force, how each policy stands, and what is planned, as a JSON object."""
    file = await policies_in_force.in_force(connection)
    readings = await policies_in_force.readings(connection, now=now)
    differ = policies_in_force.differing(readings, file)
    try:
        standings = await cleanup_plans.standing(connection, now=now)
        unreadable = None
    except PoliciesRefused as refused:
        standings, unreadable = [], str(refused)
    counts = await cleanup_plans.planned_counts(connection, now=now)
    next_run = await cleanup_plans.due_verdicts(connection, now=now) if unreadable is None else []
    return {
        "policies": {
            "sha256": None if file is None or not file.content else file.sha256,
            "since": None if file is None or not file.content else format_time(file.since),
            "differ": differ,
            "errors": [
                {"process": each.process, "file": each.file, "error": each.error}
                for each in readings
                if each.error is not None
            ]
            + ([] if unreadable is None else [{"process": None, "file": None, "error": unreadable}]),
        },
        "cleanup": [
            {
                "policy": each.policy,
                "mode": each.mode,
                "plan_id": each.plan_id,
                "acts": each.refusal is None,
                "refusal": each.refusal,
                "text": None if each.refusal is None else REFUSALS.get(each.refusal, each.refusal),
            }
            for each in standings
        ],
        "planned": {
            "tags": counts.tags,
            "manifests": counts.manifests,
            "next_due_at": format_time(counts.next_due_at),
            "next_run": {
                "tags": sum(each.tag is not None for each in next_run),
                "manifests": sum(each.tag is None for each in next_run),
            },
            "outcomes": await cleanup_plans.outcome_counts(connection),
        },
        "in_use": [source_json(each, now=now) for each in await in_use.list_sources(connection)],
    }


def source_json(source: in_use.Source, *, now: datetime) -> dict[str, Any]:
    """Return what a source reported last."""
    return {
        "source": source.source,
        "images": source.images,
        "reported_at": format_time(source.reported_at),
        "counted_at": format_time(source.counted_at),
        "valid_until": format_time(source.valid_until),
        "silent": source.valid_until <= now,
        "waits_for_confirmation": source.suspected_at is not None,
        "suspected_at": format_time(source.suspected_at),
        "suspected_images": source.suspected_images,
    }


def status_lines(found: dict[str, Any]) -> list[str]:
    """Return the same in words."""
    policies, planned = found["policies"], found["planned"]
    lines = []
    if policies["sha256"] is None:
        lines.append("no policies are in force: nothing acts (INDEXER_POLICIES_FILE)")
    else:
        lines.append(f"policies in force since {policies['since']} (sha256 {policies['sha256'][:12]})")
    if policies["differ"] is not None:
        lines.append(policies["differ"])
    lines += [f"not in force: {line}" for each in policies["errors"] for line in each["error"].splitlines()]
    for each in found["cleanup"]:
        said = "acts" if each["acts"] else f"does not act: {each['text']}"
        plan = f", plan {each['plan_id']}" if each["plan_id"] else ""
        lines.append(f"policy {each['policy']} ({each['mode']}{plan}) {said}")
    run = planned["next_run"]
    due = f", the next from {planned['next_due_at']} on" if planned["next_due_at"] else ""
    lines.append(f"planned: {planned['tags']} tags, {planned['manifests']} manifests{due}")
    lines.append(f"the next run would delete {run['tags']} tags and {run['manifests']} manifests")
    for each in found["in_use"]:
        state = "silent" if each["silent"] else f"valid until {each['valid_until']}"
        waits = "; a much smaller set waits for confirmation" if each["waits_for_confirmation"] else ""
        lines.append(f"in use: {each['source']} reports {each['images']} images, {state}{waits}")
    return lines
