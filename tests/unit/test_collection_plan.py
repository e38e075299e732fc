"""A plan says in a few lines what would be deleted and damaged; --json has every digest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from indexer.oci.digest import Digest
from reconciler.collection.hazards import Code, Hazard
from reconciler.collection.plan import SHOWN, CollectionPlan, plan_json, plan_lines

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ONE, TWO = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
PLAN = CollectionPlan(
    source="storage",
    blobs={TWO: 5, ONE: 7},
    manifests=frozenset({("b", TWO), ("a", ONE)}),
    layer_links=frozenset({("a", TWO)}),
    hazards=(Hazard(Code.REFERRER, "Lost.", repository="a", digest=ONE),),
    repositories=2,
    marked=9,
    began_at=NOW,
    ended_at=NOW,
    release="3",
    delete_untagged=True,
    storage={"proven_by": "canary", "text": "a canary was found"},
)


def test_plan_json() -> None:
    """Everything is sorted, with the names that the design fixed."""
    shown = plan_json(PLAN)

    assert shown["blobs"] == [{"digest": ONE, "size_bytes": 7}, {"digest": TWO, "size_bytes": 5}]
    assert shown["manifests"] == [{"repository": "a", "digest": ONE}, {"repository": "b", "digest": TWO}]
    assert shown["layer_links"] == [{"repository": "a", "digest": TWO}]
    assert shown["freed_bytes"] == 12
    assert shown["hazards"] == [{"code": "H4", "repository": "a", "digest": ONE, "text": "Lost."}]
    assert (shown["fails"], shown["release"], shown["delete_untagged"]) == (False, "3", True)
    assert shown["began_at"] == "2026-11-29T00:00:00.000000Z"


def test_plan_lines() -> None:
    """Proof, kind, sum, hazards."""
    assert list(plan_lines(PLAN)) == [
        "a canary was found",
        "garbage-collect of 3.x with --delete-untagged: 2 repositories, 9 manifests and blobs stay",
        "it would delete 2 blobs, 2 manifests and 1 layer links, and free 12 bytes",
        "H4   Lost.",
    ]


def test_plan_lines__nothing() -> None:
    """A plan that deletes nothing says so."""
    empty = frozenset[tuple[str, Digest]]()
    plan = replace(
        PLAN, blobs={}, manifests=empty, layer_links=empty, hazards=(), release="2.8", delete_untagged=False
    )

    assert list(plan_lines(plan))[1:] == [
        "garbage-collect of 2.8 without --delete-untagged: 2 repositories, 9 manifests and blobs stay",
        "it would delete nothing",
    ]
    assert not plan.would_delete


def test_plan_lines__that_fails() -> None:
    """One that fails frees nothing, and may have deleted manifests."""
    lines = list(plan_lines(replace(PLAN, fails=True)))
    assert lines[2] == "it would fail, after it has deleted 2 manifests, and free nothing"


def test_plan_lines__of_a_text() -> None:
    """Without the storage neither option nor release nor every size is known; of many hazards only some are printed."""
    many = tuple(Hazard(Code.REFERRER, f"Lost {number}.") for number in range(SHOWN + 2))
    plan = replace(
        PLAN, release=None, delete_untagged=None, storage=None, blobs={ONE: 7, TWO: None}, hazards=many
    )

    lines = list(plan_lines(plan))

    assert lines[0].startswith("a collection as the dry run says: ")
    assert lines[1].endswith("free 7 bytes and those of 1 whose size is not on record")
    assert lines[-1] == "… and 2 more hazards; --json names all"
