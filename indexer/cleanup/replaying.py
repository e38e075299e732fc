"""Replay of policies over the past, repository by repository, and what it is shown as."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from indexer.cleanup.evaluation import at_one_instant, look_at_world, owned
from indexer.common.rfc3339 import format_time
from indexer.policies.facts import Coverage
from indexer.policies.limits import braked
from indexer.policies.replay import Day, Deletion, Replayed, RepositoryPast, is_known, replay
from indexer.policies.rules import Policies, Policy
from indexer.store import cleanup_past
from indexer.store.cleanup_facts import longest_period
from indexer.store.pool import Connection

MOST_SHOWN = 1000
"""Deletions that were missed, of each policy; their number is exact."""


async def replay_policies(
    connection: Connection,
    policies: Policies,
    *,
    since: datetime,
    now: datetime,
    policy_ids: Iterable[str] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[tuple[Policy, Replayed]]:
    """Return, for each policy, what it would have deleted on each day since an instant, until now."""
    found: list[tuple[Policy, Replayed]] = []
    async with at_one_instant(connection):
        world = await look_at_world(connection, now=now)
        coverage = await _coverage(connection, world.known.coverage)
        parts = await owned(connection, policies, policy_ids=policy_ids)
        total = sum(len(rows) for _, rows in parts)
        done = 0
        for policy, rows in parts:
            replayed = Replayed(days=_days(since, now, coverage))
            annotations = sorted({rule.annotation for rule in policy.delete if rule.annotation is not None})
            for row in rows:
                past = await cleanup_past.load_past(
                    connection,
                    repository=row,
                    since=since - longest_period(policy),
                    annotations=annotations,
                )
                replayed.deletions += await asyncio.to_thread(_replay, past, policy, coverage, replayed.days)
                done += 1
                progress(done, total)
            found.append((policy, replayed))
    return found


def _replay(past: RepositoryPast, policy: Policy, coverage: Coverage, days: Sequence[Day]) -> list[Deletion]:
    return list(replay(past, policy, coverage, days))


async def _coverage(connection: Connection, coverage: Coverage) -> Coverage:
    """Return since when pulls are known one by one: months that left the log are not."""
    begins = await cleanup_past.log_begins(connection)
    since = coverage.pulls_since
    if since is None or begins is None:
        return Coverage(pulls_since=None, gaps=coverage.gaps)
    return Coverage(pulls_since=max(since, begins), gaps=coverage.gaps)


def _days(since: datetime, now: datetime, coverage: Coverage) -> list[Day]:
    """Return the days at whose beginnings is evaluated, the last of them now."""
    first = since.replace(hour=0, minute=0, second=0, microsecond=0)
    instants = [first + timedelta(days=number) for number in range((now - first).days + 1)]
    return [
        Day(at=at, known=is_known(coverage, at))
        for at in (*(each for each in instants if since <= each < now), now)
    ]


def replay_json(found: list[tuple[Policy, Replayed]], *, since: datetime, now: datetime) -> dict[str, Any]:
    """Return a replay as a JSON object."""
    return {
        "since": format_time(since),
        "until": format_time(now),
        "policies": [_policy_json(policy, replayed) for policy, replayed in found],
    }


def _policy_json(policy: Policy, replayed: Replayed) -> dict[str, Any]:
    missed = [each for each in replayed.deletions if each.missed is not None]
    return {
        "id": policy.id,
        "mode": policy.mode,
        "deleted": len(replayed.deletions),
        "missed": len(missed),
        "unknown_days": sum(not day.known for day in replayed.days),
        "days": [_day_json(policy, day) for day in replayed.days],
        "missed_tags": [_missed_json(each) for each in missed[:MOST_SHOWN]],
    }


def _day_json(policy: Policy, day: Day) -> dict[str, Any]:
    limits = braked(policy.brake, deleted=day.nominated, tags=day.tags, freed_bytes=0)
    return {
        "at": format_time(day.at),
        "known": day.known,
        "tags": day.tags,
        "would_delete": day.nominated,
        "deleted": day.deleted,
        "brake": [limit.text for limit in limits],
    }


def _missed_json(deletion: Deletion) -> dict[str, Any]:
    return {
        "repository": deletion.repository,
        "tag": deletion.tag,
        "digest": deletion.digest,
        "rule": deletion.rule,
        "deleted_at": format_time(deletion.at),
        "missed": deletion.missed,
        "missed_at": format_time(deletion.missed_at),
    }


def replay_lines(found: dict[str, Any]) -> list[str]:
    """Return the same in words."""
    lines = []
    for policy in found["policies"]:
        days = len(policy["days"])
        lines.append(
            f"policy {policy['id']}: {policy['deleted']} tags deleted since {found['since']}, of which "
            f"{policy['missed']} were pulled, pushed again or restored later"
        )
        if policy["unknown_days"]:
            lines.append(
                f"  of {policy['unknown_days']} of {days} days it is not known which pulls there were: what was "
                "missed on these is not counted"
            )
        braked_days = [day for day in policy["days"] if day["brake"]]
        if braked_days:
            lines.append(
                f"  on {len(braked_days)} days the plan was beyond the brake, first on {braked_days[0]['at']}: "
                f"{braked_days[0]['brake'][0]}; they are counted as if somebody had released it"
            )
        lines += [
            f"  {each['missed']} {each['missed_at']}: {each['repository']}:{each['tag']}, deleted {each['deleted_at']}"
            f" by rule {each['rule']}"
            for each in policy["missed_tags"]
        ]
    return lines
