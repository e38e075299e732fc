"""Why one tag stays or goes: its verdict with every rule that says so, and what it rests on, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from indexer.cleanup.preview import Preview, preview
from indexer.policies.rules import Policies, owner_of
from indexer.policies.verdicts import Verdict
from indexer.policies.words import text_of
from indexer.store.pool import Connection


async def explain(
    connection: Connection, policies: Policies, *, repository: str, tag: str, now: datetime
) -> dict[str, Any]:
    """Return the verdict on a tag as a JSON object; ``verdict`` is None where no policy has it, or it is not here."""
    owner = owner_of(repository, policies.cleanup)
    found: Preview | None = None
    others: list[str] = []

    def wanted(verdict: Verdict) -> bool:
        if verdict.tag != tag:
            return False
        others.extend(text_of(verdict._replace(hit=hit)) for hit in verdict.also)
        return True

    if owner is not None:
        found = await preview(
            connection, policies, now=now, repositories=[repository], policy_ids=[owner.id], wanted=wanted
        )
    verdict = found.verdicts[0] if found is not None and found.verdicts else None
    return {
        "repository": repository,
        "tag": tag,
        "policy": None if owner is None else owner.id,
        "mode": None if owner is None else owner.mode,
        "verdict": verdict,
        "others": others,
        "brake": [] if found is None else [limit.text for each in found.outcomes for limit in each.brake],
    }


def explain_lines(found: dict[str, Any]) -> list[str]:
    """Return the same in words."""
    name = f"{found['repository']}:{found['tag']}"
    if found["policy"] is None:
        return [f"{name}: no policy has the repository; nothing in it is deleted"]
    verdict = found["verdict"]
    if verdict is None:
        return [f"{name}: there is no such tag on record"]
    lines = [
        f"{name}: {verdict['decision']} ({verdict['reason']}), by policy {found['policy']} ({found['mode']})"
    ]
    lines.append(f"  {verdict['text']}")
    lines += [f"  also: {text}" for text in found["others"]]
    if verdict["expires_at"] is not None:
        lines.append(f"  goes at the earliest: {verdict['expires_at']}")
    if verdict["siblings"]:
        lines.append(f"  other tags of its digest: {', '.join(verdict['siblings'])}")
    for each in verdict["evidence"]:
        said = ", ".join(
            f"{key} {value}" for key, value in each.items() if key != "what" and value not in (None, [])
        )
        lines.append(f"  {each['what']}: {said}")
    return lines
