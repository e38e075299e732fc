"""A verdict as JSON: what ``cleanup plan --json`` and the API show, the evidence included."""

from __future__ import annotations

from typing import Any

from indexer.common.rfc3339 import format_time
from indexer.policies.facts import ManifestFacts, TagFacts
from indexer.policies.intervals import LONG_AGO, Between
from indexer.policies.uses import LastUse
from indexer.policies.verdicts import Verdict
from indexer.policies.words import text_of


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as a JSON object."""
    return {
        "policy": verdict.policy,
        "repository": verdict.repository,
        "tag": verdict.tag,
        "digest": verdict.digest,
        "decision": verdict.decision,
        "reason": verdict.reason,
        "rule": verdict.rule,
        "text": text_of(verdict),
        "evidence": evidence(verdict),
        "expires_at": format_time(verdict.expires_at),
        "siblings": list(verdict.siblings),
        "also": [{"reason": each.reason, "rule": each.rule} for each in verdict.also],
        "alarms": list(verdict.alarms),
    }


def evidence(verdict: Verdict) -> list[dict[str, Any]]:
    """Return what a verdict rests on: instants with their bounds and sources, and pulls left out of account."""
    found = []
    facts = verdict.facts
    if facts is not None:
        found.append(_clock("pushed", facts.pushed))
    if isinstance(facts, TagFacts) and facts.moved is not None:
        found.append(_clock("moved", facts.moved))
    if isinstance(facts, ManifestFacts) and facts.untagged is not None:
        found.append(_clock("untagged", facts.untagged))
    if verdict.use is not None:
        found += _use(verdict.use)
    return found


def _clock(what: str, at: Between) -> dict[str, Any]:
    return {
        "what": what,
        "earliest": None if at.earliest == LONG_AGO else format_time(at.earliest),
        "latest": format_time(at.latest),
        "source": at.source,
    }


def _use(use: LastUse) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "what": "pulled",
            "earliest": format_time(use.seen_at),
            "latest": None if use.at.latest == LONG_AGO else format_time(use.at.latest),
            "missed_until": format_time(use.gap.to_at),
            "because": use.gap.because,
        }
    ]
    if use.ignored is not None:
        found.append(
            {
                "what": "pulls_ignored",
                "times": use.ignored.times,
                "latest": format_time(use.ignored.last_at),
                "by": list(use.ignored.by),
            }
        )
    return found
