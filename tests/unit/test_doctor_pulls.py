"""The doctor says whether pulls are announced, and what it costs if not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexer.common.errors import (
    RegistryUnavailable,
)
from indexer.store.traits import TraitState
from reconciler.doctor.facts import (
    Failure,
    Instance,
)
from reconciler.doctor.pulls import ignores_pulls, judge_pulls
from reconciler.doctor.report import Link, LinkOutcome
from tests.fixtures.examined import CONFIGURATION, NOW, TOKEN, endpoint, instance


def shown(*, holds: bool, because: str = "none of ours") -> TraitState:
    return TraitState(holds=holds, because=because, changed_at=NOW, observed_at=NOW)


@pytest.mark.parametrize(
    ("fact", "ignored", "outcome", "said"),
    [
        pytest.param(shown(holds=True), False, LinkOutcome.OK, "announced: the last", id="announced"),
        pytest.param(
            shown(holds=False), False, LinkOutcome.WARNING, "not announced: none of ours", id="passed over"
        ),
        pytest.param(None, False, LinkOutcome.WARNING, "none was announced yet", id="not known"),
        pytest.param(None, True, LinkOutcome.WARNING, "by the registry's configuration", id="ignored"),
        pytest.param(
            shown(holds=True), True, LinkOutcome.WARNING, "by the registry's configuration", id="ignored now"
        ),
    ],
)
def test_pulls__announced_or_what_it_costs(
    fact: TraitState | None, ignored: bool, outcome: LinkOutcome, said: str
) -> None:
    """Where pulls are not announced, or not known to be, the line says what that costs and what to do."""
    check = judge_pulls(fact, ignored=ignored)
    assert (Link.PULLS, outcome) == (check.link, check.outcome)
    assert said in check.found
    costs = "every tag shows as never pulled" in check.found
    assert costs is (outcome is LinkOutcome.WARNING)
    assert [True] * len(check.causes) == ["connect-a-registry.md" in cause.remedy for cause in check.causes]
    assert bool(check.causes) is costs


@pytest.mark.parametrize(
    ("instances", "ignored"),
    [
        pytest.param([instance(endpoint())], True, id="ignored"),
        pytest.param(
            [instance(endpoint(configuration=replace(CONFIGURATION, ignored_actions=frozenset())))],
            False,
            id="not ignored",
        ),
        pytest.param(
            [instance(endpoint(configuration=replace(CONFIGURATION, ignored_media_types=frozenset())))],
            False,
            id="without effect up to 3.0",
        ),
        pytest.param([instance(endpoint(configuration=None))], False, id="counters alone"),
        pytest.param(
            [Instance(address="http://debug", reading=Failure.of(RegistryUnavailable("away")))],
            False,
            id="away",
        ),
        pytest.param([], False, id="no address"),
    ],
)
def test_pulls__left_out_by_configuration(instances: list[Instance], ignored: bool) -> None:
    """That pulls are left out is read from the configuration of our endpoint, where it is seen and has an effect."""
    assert ignored is ignores_pulls(instances, token=TOKEN)
