"""Which deletions a reconcile believes at once."""

from __future__ import annotations

import pytest

from reconciler.drift.decide import HANDFUL, Losses, brake


@pytest.mark.parametrize(
    ("on_record", "vanished", "missing", "pulled"),
    [
        (0, 0, 0, False),
        (1000, 100, 0, False),
        (1000, 101, 0, True),
        (1000, 0, 100, False),
        (1000, 0, 101, True),
        (1000, 100, 100, False),
        (20, 0, HANDFUL, False),
        (20, 0, HANDFUL + 1, True),
        (20, 2, 0, False),
        (20, 3, 0, True),
        (5, 1, 0, True),
        (5, 0, 5, False),
    ],
    ids=[
        "nothing",
        "the share of vanished",
        "more of it",
        "the share of missing",
        "more of that",
        "the share of both",
        "a handful is missing",
        "more than a handful",
        "a few vanished",
        "no handful of vanished",
        "a small repository vanished",
        "everything of a few",
    ],
)
def test_brake(on_record: int, vanished: int, missing: int, pulled: bool) -> None:
    """A repository that is gone counts by its share alone; a handful that is missing elsewhere is always believed."""
    losses = Losses(resource="tags", on_record=on_record, vanished=vanished, missing=missing)
    found = brake(losses, share=0.1)
    assert pulled is (found is not None)
    if found is not None:
        assert f"{vanished if vanished > on_record / 10 else missing} of {on_record} tags" in found.reason


def test_brake__of_a_share_that_believes_everything() -> None:
    """An operator may turn it off."""
    losses = Losses(resource="manifests", on_record=50, vanished=50, missing=0)
    assert brake(losses, share=1.0) is None
    assert brake(losses, share=0.0) is not None
