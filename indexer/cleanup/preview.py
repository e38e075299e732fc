"""What policies in force come to for one repository or a few, without a plan on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from indexer.cleanup.evaluation import Outcome, at_one_instant, evaluate_policy, look_at_world, owned
from indexer.common.errors import CallerError
from indexer.policies.rules import Policies
from indexer.policies.serialize import as_json
from indexer.policies.verdicts import Verdict
from indexer.store.pool import Connection

MOST = 400_000
"""Tags and manifests that are evaluated for one request. More is for ``reconciler cleanup plan``."""


@dataclass(slots=True, kw_only=True)
class Preview:
    """What policies come to. ``verdicts`` are those that were asked for, as they are shown."""

    as_of: datetime
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0
    """Verdicts in all."""


async def preview(
    connection: Connection,
    policies: Policies,
    *,
    now: datetime,
    repositories: Iterable[str] | None = None,
    policy_ids: Iterable[str] | None = None,
    wanted: Callable[[Verdict], bool] = lambda _: True,
    skip: int = 0,
    limit: int = 1000,
) -> Preview:
    """Evaluate policies over some repositories, or all; raise ``CallerError`` (422) where that is too much.

    A policy with a budget weighs all of its repositories, so it is evaluated over all of them.
    """
    found = Preview(as_of=now)
    names = None if repositories is None else frozenset(repositories)

    def take(verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if (names is not None and verdict.repository not in names) or not wanted(verdict):
                continue
            if skip <= found.number < skip + limit:
                found.verdicts.append(as_json(verdict))
            found.number += 1

    async with at_one_instant(connection):
        world = await look_at_world(connection, now=now)
        with_budget = any(policy.budget is not None for policy in policies.cleanup)
        parts = await owned(
            connection, policies, policy_ids=policy_ids, repositories=None if with_budget else names
        )
        if names is not None and with_budget:
            parts = [
                (policy, rows if policy.budget is not None else [row for row in rows if row.name in names])
                for policy, rows in parts
                if any(row.name in names for row in rows)
            ]
        size = sum(row.tag_count + row.manifest_count for _, rows in parts for row in rows)
        if size > MOST:
            raise CallerError(
                f"{size} tags and manifests are too many for one request: name a repository or a policy, or use "
                "`reconciler cleanup plan`",
                status=422,
                code="too_many",
            )
        for policy, rows in parts:
            if names is not None and not rows:
                continue
            found.outcomes.append(
                await evaluate_policy(connection, policy, rows, policies=policies, world=world, take=take)
            )
    return found
