"""How an audit entry is shown: one dict for the API and NDJSON, one flat row for CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from indexer.common.rfc3339 import format_time
from indexer.common.spreadsheets import safe_cell
from indexer.oci.digest import digest_from_bytes
from indexer.store.identifiers import event_text

COLUMNS = (
    "position",
    "id",
    "occurred_at",
    "recorded_at",
    "occurred_not_before",
    "action",
    "repository",
    "tag",
    "digest",
    "previous_digest",
    "media_type",
    "actor",
    "request_id",
    "request_address",
    "request_host",
    "request_method",
    "request_user_agent",
    "registry_address",
    "registry_instance_id",
    "source",
    "event_id",
    "detail",
)
"""Of the CSV form."""

PROOF_COLUMNS = ("actor_commitment", "client_commitment", "actor_salt", "client_salt", "leaf_hash")
"""Of the CSV form, behind the others where a proof is asked for."""

_OWN_MEMBERS = ("event_id", "request_id", "media_type")
"""What the stored detail holds and an entry shows as a member of its own."""


def show_entry(row: Any) -> dict[str, Any]:
    """Return an entry as it is shown.

    ``position`` is None while the entry is not sealed. ``occurred_between`` is set where the instant is only
    known to lie between two. Ids that are no UUIDs are stored as derived ones, their text in the detail.
    """
    detail = dict(row["detail"] or {})
    packed = row["manifest_digest"] or row["blob_digest"]
    previous = row["previous_digest"]
    own = {name: detail.pop(name, None) for name in _OWN_MEMBERS}
    not_before = format_time(row["not_before"])
    occurred_at = format_time(row["occurred_at"])
    return {
        "position": row["position"],
        "id": row["id"],
        "occurred_at": occurred_at,
        "recorded_at": format_time(row["recorded_at"]),
        "action": row["action"],
        "repository": row["repository"],
        "tag": row["tag"],
        "digest": None if packed is None else digest_from_bytes(packed),
        "previous_digest": None if previous is None else digest_from_bytes(previous),
        "media_type": own["media_type"] or row["media_type"] or None,
        "actor": None if row["actor"] is None else {"name": row["actor"]},
        "request": _request(row, own["request_id"]),
        "registry": _registry(row),
        "source": row["source"],
        "event_id": own["event_id"] or event_text(row["event_key"]),
        "occurred_between": None if not_before is None else [not_before, occurred_at],
        "detail": detail,
    }


def show_proven(row: Any) -> dict[str, Any]:
    """Return a sealed entry with what its leaf says in place of people, and the salts of what was not erased."""
    salts = {"actor": row["actor_salt"], "client": row["client_salt"]}
    return show_entry(row) | {
        "commitments": show_commitments(actor=row["actor_commitment"], client=row["client_commitment"]),
        "salts": {name: salt.hex() for name, salt in salts.items() if salt is not None},
    }


def show_commitments(*, actor: bytes | None, client: bytes | None) -> dict[str, str]:
    """Return what an entry says in place of who and from where."""
    named = {"actor": actor, "client": client}
    return {name: value.hex() for name, value in named.items() if value is not None}


def flatten(entry: Mapping[str, Any]) -> list[str]:
    """Return a shown entry as the values of ``COLUMNS``, and of ``PROOF_COLUMNS`` where it has them.

    What is not known is empty. What a spreadsheet would run is marked as text: clients choose much of this.
    """
    request = entry["request"] or {}
    registry = entry["registry"] or {}
    between = entry["occurred_between"]
    values: tuple[Any, ...] = (
        entry["position"],
        entry["id"],
        entry["occurred_at"],
        entry["recorded_at"],
        between[0] if between else None,
        entry["action"],
        entry["repository"],
        entry["tag"],
        entry["digest"],
        entry["previous_digest"],
        entry["media_type"],
        entry["actor"]["name"] if entry["actor"] else None,
        request.get("id"),
        request.get("address"),
        request.get("host"),
        request.get("method"),
        request.get("user_agent"),
        registry.get("address"),
        registry.get("instance_id"),
        entry["source"],
        entry["event_id"],
        orjson.dumps(entry["detail"]).decode() if entry["detail"] else None,
    )
    cells = ["" if value is None else safe_cell(str(value)) for value in values]
    if "commitments" in entry:  # hashes of ours, to be compared letter by letter
        cells += ["" if value is None else str(value) for value in _flatten_proof(entry)]
    return cells


def _flatten_proof(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    commitments, salts = entry["commitments"], entry["salts"]
    return (
        commitments.get("actor"),
        commitments.get("client"),
        salts.get("actor"),
        salts.get("client"),
        entry["leaf_hash"],
    )


def _request(row: Any, request_id: str | None) -> dict[str, Any] | None:
    if row["address"] is None:
        return None
    port = row["client_port"]
    return {
        "id": request_id or event_text(row["request_key"]),
        "address": row["address"] or None,
        "port": port,
        "host": row["host"] or None,
        "method": row["method"] or None,
        "user_agent": row["user_agent"] or None,
    }


def _registry(row: Any) -> dict[str, Any] | None:
    if row["instance"] is None:
        return None
    return {"address": row["registry_address"] or None, "instance_id": row["instance"] or None}
