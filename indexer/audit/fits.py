"""Which shown entries a filter leaves: what ``store.listing.audit`` asks the database, of entries already read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indexer.rfc3339 import parse_time
from indexer.store.listing.audit import AuditFilter


def fits(entry: Mapping[str, Any], wanted: AuditFilter) -> bool:
    """Tell whether an entry, as ``audit.present`` shows it, is one that the filter leaves."""
    actor = entry["actor"]
    request = entry["request"]
    plain = (
        (wanted.repository, entry["repository"]),
        (wanted.tag, entry["tag"]),
        (wanted.digest, entry["digest"]),
        (wanted.action, entry["action"]),
        (wanted.actor, actor["name"] if actor else None),
        (wanted.source, entry["source"]),
        (wanted.address, request["address"] if request else None),
    )
    if any(asked is not None and asked != found for asked, found in plain):
        return False
    if wanted.prefix is not None and not (entry["repository"] or "").startswith(wanted.prefix):
        return False
    if wanted.after_time is None and wanted.before_time is None:
        return True
    at = parse_time(entry["occurred_at"])
    return (wanted.after_time is None or at > wanted.after_time) and (
        wanted.before_time is None or at < wanted.before_time
    )
