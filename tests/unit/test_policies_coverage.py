"""When pulls may have been missed, and so from when on it counts that there was none."""

from __future__ import annotations

from datetime import timedelta

import pytest

from indexer.policies.facts import Coverage, Gap
from tests.fixtures.cleanup import NOW

DAY = timedelta(days=1)
LASTS = Gap(NOW - DAY, None, "ignored")
ENDED = Gap(NOW - 3 * DAY, NOW - 2 * DAY, "a restart")
AHEAD = Gap(NOW - DAY, NOW + DAY, "a restart, by a clock that is ahead")
ALWAYS = NOW - 99 * DAY


@pytest.mark.parametrize(
    ("coverage", "latest", "until"),
    [
        (Coverage(pulls_since=ALWAYS), ALWAYS, ALWAYS),
        (Coverage(pulls_since=ALWAYS, gaps=[ENDED]), ENDED.to_at, ENDED.to_at),
        (Coverage(pulls_since=ALWAYS, gaps=[ENDED, LASTS]), None, NOW),
        (Coverage(pulls_since=ALWAYS, gaps=[LASTS, AHEAD]), None, AHEAD.to_at),
        (Coverage(pulls_since=None), None, NOW),
        (Coverage(pulls_since=None, gaps=[ENDED]), None, NOW),
        (Coverage(pulls_since=None, gaps=[AHEAD]), None, AHEAD.to_at),
    ],
)
def test_gap__that_lasts_is_the_latest(coverage: Coverage, latest: object, until: object) -> None:
    """While one lasts no date can be named at which a tag goes, whatever the clocks of others say."""
    assert (latest, until) == (coverage.latest_gap.to_at, coverage.unknown_until(NOW))
