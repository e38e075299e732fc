"""``indexer audit list``: the newest entries of the audit log, as ``/api/v1/audit`` has them."""

from __future__ import annotations

from indexer.commands.asking.verbs import audit_list

__all__ = ["audit_list"]
