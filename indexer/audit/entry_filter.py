"""Which shown entries a filter leaves: what ``store.listing.audit`` asks the database, of entries already read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from indexer.common.rfc3339 import parse_time
from indexer.store.listing.audit import AuditFilter


def fits(entry: Mapping[str, Any], wanted: AuditFilter) -> bool:
    """Tell whether an entry, as ``audit.present`` shows it, is one that the filter leaves."""
    actor = entry["actor"]
    request = entry["request"]
    plain = (
        (wanted.tag, entry["tag"]),
        (wanted.digest, entry["digest"]),
        (wanted.actor, actor["name"] if actor else None),
        (wanted.address, request["address"] if request else None),
    )
    several: tuple[tuple[Collection[str], str | None], ...] = (
        (wanted.repositories, entry["repository"]),
        (wanted.actions, entry["action"]),
        (wanted.sources, entry["source"]),
    )
    if any(asked is not None and asked != found for asked, found in plain):
        return False
    if any(asked and found not in asked for asked, found in several):
        return False
    if wanted.prefix is not None and not (entry["repository"] or "").startswith(wanted.prefix):
        return False
    if wanted.occurred_after is None and wanted.occurred_before is None:
        return True
    at = parse_time(entry["occurred_at"])
    return (wanted.occurred_after is None or at > wanted.occurred_after) and (
        wanted.occurred_before is None or at < wanted.occurred_before
    )
