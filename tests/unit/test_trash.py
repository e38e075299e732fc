"""Whether a deletion can be undone, as far as the record says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexer.common.rfc3339 import format_time
from indexer.inventory.trash import Deleted, copy_tag, restorable, trash_repository
from indexer.oci.digest import digest_of
from indexer.oci.reference import RepositoryName, parse_tag_name

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
UNTIL = NOW + timedelta(days=90)
WAS, OTHER = digest_of(b"was"), digest_of(b"other")
DELETED = Deleted(digest=WAS, kept=True, kept_until=UNTIL)
THERE = replace(DELETED, is_there=True, now_at=WAS)
MOVED = replace(DELETED, is_there=True, now_at=OTHER)


@pytest.mark.parametrize(
    ("deleted", "because"),
    [
        (DELETED, None),
        (replace(DELETED, followed=True), None),
        (replace(DELETED, restored_at=NOW), None),  # and deleted again, by somebody else
        (replace(DELETED, gone="a blob is gone"), "a blob is gone"),
        (replace(DELETED, kept=False), "its manifest was not kept"),
        (replace(DELETED, kept_until=NOW), "it was kept until 2026-11-29T12:00:00.000000Z"),
        (replace(DELETED, kept_until=NOW + timedelta(seconds=1)), None),
        (replace(DELETED, under_way=True), "another deletion or restore of this tag is not finished"),
        (THERE, "the tag points there again"),
        (replace(THERE, followed=True), "it is not certain yet that the tag is gone"),
        (replace(THERE, restored_at=NOW), "it was restored at 2026-11-29T12:00:00.000000Z"),
        (replace(THERE, restored_at=NOW, gone="a blob is gone"), "it was restored at 2026-11-29T12:00:00.000000Z"),
        (MOVED, f"the tag points to {OTHER} by now: restoring takes force, and what it points to is lost then"),
        (
            replace(MOVED, now_at=None),
            "the tag is there again: restoring takes force, and what it points to is lost then",
        ),
        (replace(MOVED, gone="a blob is gone"), "a blob is gone"),
        (replace(DELETED, manifest=True), None),
        (replace(DELETED, manifest=True, under_way=True),
         "another deletion or restore of this manifest is not finished"),
        (replace(THERE, manifest=True), "the repository has it again"),
        (replace(THERE, manifest=True, followed=True), "it is not certain yet that the manifest is gone"),
    ],
)  # fmt: skip
def test_restorable__says_what_the_record_knows(deleted: Deleted, because: str | None) -> None:
    """Possible with an end, or not possible with the reason that nothing but time or a person can change."""
    until = format_time(deleted.kept_until) if because is None else None
    by_force = because is not None and "restoring takes force" in because
    shown = restorable(deleted, now=NOW).show()
    assert {
        "possible": because is None,
        "until": until,
        "because": because,
        "by_force": by_force,
        "unless": None,
    } == shown


def test_restorable__once_the_manifest_left_the_repository() -> None:
    """It is still possible, and what ends it is said; where it is not possible, that is all there is to say."""
    left = replace(DELETED, unlinked_at=NOW)
    assert "left the repository at 2026-11-29T12:00:00" in str(restorable(left, now=NOW).unless)
    assert restorable(left, now=NOW).because is None
    assert restorable(replace(left, gone="a blob is gone"), now=NOW).unless is None
    assert restorable(replace(left, copied=True), now=NOW).unless is None, "no collection takes it"


def test_copies__have_names_of_their_own() -> None:
    """A repository below the name, and a tag that no client uses for anything; too long a name is none."""
    assert trash_repository("trash", RepositoryName("team/app")) == "trash/team/app"
    assert trash_repository("trash", RepositoryName("a" * 249)) == "trash/" + "a" * 249
    assert trash_repository("trash", RepositoryName("a" * 250)) is None
    assert parse_tag_name(copy_tag(WAS)) == f"kept-{WAS[7:]}"
    assert copy_tag(WAS) != copy_tag(OTHER)
