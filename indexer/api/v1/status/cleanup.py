"""Cleanup: how policies stand, what is planned, and who reports what is in use."""

from __future__ import annotations

from indexer.api.models import Shown
from indexer.api.v1.cleanup import PlannedShown, PolicyShown, SourceShown


class CleanupState(Shown):
    """What the next cleanup run would do; see ``/api/v1/cleanup/policies``."""

    policies: list[PolicyShown]
    planned: PlannedShown
    in_use: list[SourceShown]
