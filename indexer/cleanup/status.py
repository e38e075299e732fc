"""What the next cleanup run would do, for ``reconciler cleanup status``, ``reconciler status`` and the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from indexer.common.rfc3339 import format_time
from indexer.policies.problems import PoliciesRefused
from indexer.policies.rules import Mode
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
    expected: list[str] = []
    try:
        standings = await cleanup_plans.standing(connection, now=now)
        expected = [] if file is None else [each.id for each in file.policies().in_use]
        unreadable = None
    except PoliciesRefused as refused:
        standings, unreadable = [], str(refused)
    runs = await cleanup_plans.last_runs(connection)
    counts = await cleanup_plans.planned_counts(connection, now=now)
    tags, manifests = await cleanup_plans.due_counts(connection, standings, now=now)
    sources = await in_use.list_sources(connection)
    never = sorted(set(expected) - {each.source for each in sources})
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
        "cleanup": [_standing_json(each, runs.get(each.policy)) for each in standings],
        "planned": {
            "tags": counts.tags,
            "manifests": counts.manifests,
            "due": counts.due,
            "pending": counts.tags + counts.manifests - counts.due,
            "next_due_at": format_time(counts.next_due_at),
            "next_run": {"tags": tags, "manifests": manifests},
            "outcomes": await cleanup_plans.outcome_counts(connection),
        },
        "in_use": [source_json(each, now=now) for each in sources]
        + [NEVER_REPORTED | {"source": name} for name in never],
    }


def _standing_json(standing: cleanup_plans.Standing, run: cleanup_plans.LastRun | None) -> dict[str, Any]:
    part = standing.part
    return {
        "policy": standing.policy,
        "mode": standing.mode,
        "plan_id": standing.plan_id,
        "acts": standing.refusal is None,
        "refusal": standing.refusal,
        "text": None if standing.refusal is None else REFUSALS.get(standing.refusal, standing.refusal),
        "keep": None if part is None else part.kept,
        "delete": None if part is None else part.deleted,
        "hold": None if part is None else part.held,
        "brake": [] if part is None else [limit.text for limit in part.brake],
        "by_itself": standing.mode == Mode.ENFORCE,
        "last_run": None if run is None else _run_json(run),
    }


def _run_json(run: cleanup_plans.LastRun) -> dict[str, Any]:
    return {
        "job": str(run.job),
        "state": run.state.value,
        "created_at": format_time(run.created_at),
        "ended_at": format_time(run.ended_at),
        "result": None if run.result is None else dict(run.result),
        "error": run.error,
    }


def parts_of_status(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields ``policies`` and ``cleanup`` of ``/api/v1/status`` and ``reconciler status``."""
    cleanup = {"policies": found["cleanup"], "planned": found["planned"], "in_use": found["in_use"]}
    return {"policies": found["policies"], "cleanup": cleanup}


def is_unused(found: Mapping[str, Any]) -> bool:
    """Tell whether there is nothing to say: no policies, now or before, and nobody reports what is in use."""
    policies, planned = found["policies"], found["planned"]
    said = (policies["sha256"], policies["differ"], policies["errors"], found["in_use"])
    return not any(said) and planned["tags"] + planned["manifests"] == 0


NEVER_REPORTED = {
    "images": 0,
    "reported_at": None,
    "counted_at": None,
    "valid_until": None,
    "silent": True,
    "waits_for_confirmation": False,
    "suspected_at": None,
    "suspected_images": None,
}
"""Of a source that the policies name and that never reported."""


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


def status_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the same in words."""
    return [text for _, text in labelled_lines(found)]


def labelled_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the same in words, each line with what it is about: ``policies``, ``cleanup``, ``in use``."""
    policies, planned = found["policies"], found["planned"]
    lines = []
    if policies["sha256"] is None:
        lines.append(("policies", "no policies are in force: nothing acts (INDEXER_POLICIES_FILE)"))
    else:
        since, sha256 = policies["since"], policies["sha256"][:12]
        lines.append(("policies", f"policies in force since {since} (sha256 {sha256})"))
    if policies["differ"] is not None:
        lines.append(("policies", policies["differ"]))
    lines += [
        ("policies", f"not in force: {line}")
        for each in policies["errors"]
        for line in each["error"].splitlines()
    ]
    for each in found["cleanup"]:
        said = f"does not act: {each['text']}"
        if each["acts"]:
            said = "acts by itself (reconciler run)" if each["by_itself"] else "acts"
        plan = f", plan {each['plan_id']}" if each["plan_id"] else ""
        counts = f"; it deletes {each['delete']}, holds {each['hold']}" if each["plan_id"] else ""
        lines.append(("cleanup", f"policy {each['policy']} ({each['mode']}{plan}) {said}{counts}"))
        lines += [("cleanup", f"brake of {each['policy']}: {limit}") for limit in each["brake"]]
        if each["last_run"] is not None:
            lines.append(("cleanup", _run_line(each["policy"], each["last_run"])))
    run = planned["next_run"]
    due = f", the next from {planned['next_due_at']} on" if planned["next_due_at"] else ""
    waits = f"; {planned['due']} are due, {planned['pending']} wait for their time{due}"
    lines.append(("cleanup", f"planned: {planned['tags']} tags, {planned['manifests']} manifests{waits}"))
    lines.append(
        ("cleanup", f"the next run would delete {run['tags']} tags and {run['manifests']} manifests")
    )
    lines += [("in use", _source_line(each)) for each in found["in_use"]]
    return lines


def _run_line(policy: str, run: Mapping[str, Any]) -> str:
    came_to = ", ".join(f"{number} {word}" for word, number in sorted((run["result"] or {}).items()))
    because = f": {run['error']}" if run["error"] else ""
    when = f"ended {run['ended_at']}" if run["ended_at"] else f"asked for {run['created_at']}"
    return f"last run of {policy}: {run['state']}, {when}, {came_to or 'nothing'}{because} (job {run['job']})"


def _source_line(source: Mapping[str, Any]) -> str:
    if source["reported_at"] is None:
        return f"{source['source']} never reported: nothing in its scope is deleted"
    state = "silent" if source["silent"] else "valid"
    waits = "; a much smaller set waits for confirmation" if source["waits_for_confirmation"] else ""
    until = f"{state} {'since' if source['silent'] else 'until'} {source['valid_until']}"
    return f"{source['source']} reports {source['images']} images, {until}{waits}"
