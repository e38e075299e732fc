"""Whether the registry announces pulls to us, and what it costs where it does not. Pure.

What the registry does is on record as a trait: our own requests show it (reconciler/pulls/announced.py). What it is
configured to do is newer than that, where the debug address tells it.
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
    "delete nothing because it shows as never pulled; to know what is pulled, take `pull` out of the endpoint's "
    "ignore.actions and restart the registry (docs/how-to/connect-a-registry.md says what each costs)"
)


def judge_pulls(shown: TraitState | None, *, ignored: bool) -> Check:
    """Judge what was found of the registry; ``ignored``: a process of it is configured to leave pulls out."""
    if ignored:
        cause = Cause("the endpoint's ignore block names pull", REMEDY)
        return warning(Link.PULLS, f"not announced, as the registry is configured: {COST}", cause)
    if shown is None:
        cause = Cause(
            "nothing was pulled since the indexer runs, or the endpoint's ignore block names pull", REMEDY
        )
        return warning(Link.PULLS, f"none was announced yet; as long as that is so {COST}", cause)
    if not shown.holds:
        cause = Cause("the endpoint's ignore block names pull", REMEDY)
        return warning(Link.PULLS, f"not announced: {shown.because}. So {COST}", cause)
    return ok(Link.PULLS, f"announced: the last that was noted came at {format_time(shown.observed_at)}")


def ignores_pulls(instances: Sequence[Instance], *, token: str | None) -> bool:
    """Tell whether a process of the registry is configured to leave pulls out, as far as can be seen.

    Up to 3.0 ignored actions have no effect unless a media type is ignored, too: then its events tell.
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
