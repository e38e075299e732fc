"""Judges whether the registry sends events of pulls, and says what it means if it does not. Pure.

Whether it does is on record as a trait, found by our own requests (``reconciler.pulls.announced``). Its configuration,
where the debug address shows it, is newer than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from indexer.common.rfc3339 import format_time
from indexer.store.traits import TraitState
from reconciler.doctor.facts import Instance
from reconciler.doctor.report import Cause, Check, Link, ok, warning
from reconciler.registry.endpoint_counters import DebugReading
from reconciler.registry.our_endpoint import find_ours

COST: Final = "every tag shows as never pulled, and who pulled what is not known"
REMEDY: Final = (
    "delete no tag because it shows as never pulled; to record pulls, remove `pull` from the endpoint's "
    "ignore.actions and restart the registry (docs/how-to/connect-a-registry.md compares the two)"
)


def judge_pulls(shown: TraitState | None, *, ignored: bool) -> Check:
    """Judge the trait on record; ``ignored``: a registry process is configured to send no pull events."""
    if ignored:
        cause = Cause("the endpoint's ignore block names pull", REMEDY)
        return warning(Link.PULLS, f"not announced, by the registry's configuration: {COST}", cause)
    if shown is None:
        cause = Cause(
            "nothing was pulled since the indexer was started, or the endpoint's ignore block names pull",
            REMEDY,
        )
        return warning(Link.PULLS, f"none was announced yet; until then {COST}", cause)
    if not shown.holds:
        cause = Cause("the endpoint's ignore block names pull", REMEDY)
        return warning(Link.PULLS, f"not announced: {shown.because}. So {COST}", cause)
    return ok(Link.PULLS, f"announced: the last one was recorded at {format_time(shown.observed_at)}")


def ignores_pulls(instances: Sequence[Instance], *, token: str | None) -> bool:
    """Return whether a registry process is known to be configured to send no pull events.

    Up to 3.0 ignored actions have no effect unless a media type is ignored, too; then the events decide.
    """
    for instance in instances:
        if not isinstance(instance.reading, DebugReading):
            continue
        ours = find_ours(instance.reading, token=token)
        configuration = None if ours is None else ours.configuration
        if configuration is None or not configuration.ignored_media_types:
            continue
        if "pull" in configuration.ignored_actions:
            return True
    return False
