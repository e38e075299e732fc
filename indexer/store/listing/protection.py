"""What keeps tags from cleanup, as lists show it: a rule of the policies in force, a hold, or what is in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from indexer.policies.problems import PoliciesRefused
from indexer.policies.rules import Policies, ProtectTags, owner_of
from indexer.store import policies_in_force
from indexer.store.listing.page_query import Row
from indexer.store.listing.statement import NOTHING, Condition
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_protection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One reason. ``by``: the policy, the owner of the hold, or the source. ``until``: as text; None: for ever."""

    kind: Literal["rule", "hold", "in_use"]
    by: str
    rule: str | None = None
    until: str | None = None


TagKey = tuple[int, str]
"""The repository's id, and the tag's name."""


async def protections(connection: Connection, rows: Sequence[Row]) -> Mapping[TagKey, list[Protection]]:
    """Return what protects each of some rows of tags."""
    if not rows:
        return {}
    keys: list[TagKey] = [(row["repository_id"], row["name"]) for row in rows]
    ids, names = zip(*keys, strict=True)
    found: dict[TagKey, list[Protection]] = defaultdict(list)
    policies = await _policies(connection)
    if policies is not None and policies.cleanup:
        rows_of = await connection.fetch(SQL["repository_names"], sorted(set(ids)))
        repositories = {row["id"]: row["name"] for row in rows_of}
        for key in keys:
            found[key] += _by_rules(policies, repositories[key[0]], key[1])
    digests = [row["digest"] for row in rows]
    for row in await connection.fetch(SQL["protecting"], ids, names, digests):
        kind: Literal["hold", "in_use"] = "hold" if row["kind"] == "hold" else "in_use"
        found[keys[row["number"] - 1]].append(Protection(kind=kind, by=row["by"], until=row["until"]))
    return found


def _by_rules(policies: Policies, repository: str, tag: str) -> Iterator[Protection]:
    policy = owner_of(repository, policies.cleanup)
    for rule in () if policy is None else policy.protect:
        if policy is None or not isinstance(rule, ProtectTags):
            continue
        if rule.repositories.matches(repository) and rule.tags.matches(tag):
            yield Protection(kind="rule", by=policy.id, rule=rule.id)


async def _policies(connection: Connection) -> Policies | None:
    file = await policies_in_force.in_force(connection)
    if file is None:
        return None
    try:
        return file.policies()
    except PoliciesRefused:  # written by a newer program
        return None


async def in_use_condition(connection: Connection, *, in_use: bool) -> Condition:
    """Return the condition that a tag's manifest is, or is not, in use as some source reported it."""
    rows = await connection.fetch(SQL["in_use"])
    everywhere = [number for row in rows if row["repository_id"] is None for number in row["manifests"]]
    some = [
        (row["repository_id"], number)
        for row in rows
        if row["repository_id"] is not None
        for number in row["manifests"]
    ]
    if not everywhere and not some:
        return NOTHING if in_use else Condition("true")
    text = (
        "coalesce(t.manifest_id = ANY ({}::bigint[]) OR (t.repository_id, t.manifest_id) IN "
        "(SELECT * FROM unnest({}::integer[], {}::bigint[])), false)"
    )
    values = (everywhere, [number for number, _ in some], [number for _, number in some])
    return Condition(text if in_use else f"NOT {text}", values)
