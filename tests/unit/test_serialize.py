"""How an audit entry is shown as a row of a table."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.audit.serialize import COLUMNS, PROOF_COLUMNS, flatten

ENTRY: dict[str, Any] = {
    "position": 1, "id": 2, "occurred_at": "2026-01-01T00:00:00Z", "recorded_at": "2026-01-01T00:00:00Z",
    "action": "tag.created", "repository": "team/app", "tag": "v1", "digest": None, "previous_digest": None,
    "media_type": "application/x", "actor": {"name": "alice"},
    "request": {"id": "i", "address": "192.0.2.1", "port": 1, "host": "h", "method": "PUT", "user_agent": "u"},
    "registry": {"address": "r", "instance_id": "n"}, "source": "notification", "event_id": "e",
    "occurred_between": None, "detail": {},
}  # fmt: skip
CHOSEN = {
    "tag": ("tag",),
    "media_type": ("media_type",),
    "actor": ("actor", "name"),
    "request_id": ("request", "id"),
    "request_address": ("request", "address"),
    "request_host": ("request", "host"),
    "request_method": ("request", "method"),
    "request_user_agent": ("request", "user_agent"),
    "registry_address": ("registry", "address"),
    "registry_instance_id": ("registry", "instance_id"),
    "event_id": ("event_id",),
}
"""Columns whose text somebody else chooses, and where it stands in an entry."""


@pytest.mark.parametrize("column", CHOSEN)
def test_flatten__runs_nothing_in_a_spreadsheet(column: str) -> None:
    """Whatever text a client or a registry chooses, it is marked as text where it would be a formula."""
    outer, *inner = CHOSEN[column]
    formula = '=HYPERLINK("http://192.0.2.9")'
    value: Any = {**ENTRY[outer], inner[0]: formula} if inner else formula
    row = dict(zip(COLUMNS, flatten(ENTRY | {outer: value}), strict=True))
    assert f"'{formula}" == row[column]


def test_flatten__hashes_are_not_touched() -> None:
    """A hash may begin with a plus, and is compared letter by letter."""
    proven = ENTRY | {"commitments": {"actor": "ab"}, "salts": {"actor": "cd"}, "leaf_hash": "+AbC="}
    row = dict(zip(COLUMNS + PROOF_COLUMNS, flatten(proven), strict=True))
    assert ("ab", "", "cd", "", "+AbC=") == tuple(row[name] for name in PROOF_COLUMNS)
