"""The demo's checks notice every lie that a row could tell."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo import checks
from demo.ledger import Ledger, Pushed
from demo.story import WEB
from tools.sample_images import artifact, multi_platform, oci_image

OLD = oci_image("old")
NEW = multi_platform("new")
SBOM = artifact("sbom", artifact_type="application/spdx+json", subject=NEW)
Rows = list[dict[str, Any]]


def told() -> Ledger:
    """A short story: a tag, another that moves, a referrer, a pull, and something unheard of."""
    ledger = Ledger()
    ledger.pushed(Pushed(WEB, "1.0", OLD, "image", "ci", second(1)))
    ledger.pushed(Pushed(WEB, "latest", OLD, "image", "ci", second(2)))
    ledger.pushed(Pushed(WEB, "1.2.0", NEW, "index", "ci", second(3)))
    ledger.pushed(Pushed(WEB, "1.2.0.sbom", SBOM, "sbom", "ci", second(4), "application/spdx+json"))
    ledger.pushed(Pushed(WEB, "latest", NEW, "index", "alice", second(5)))
    ledger.pulled(WEB, "latest", "alice")
    ledger.pushed_unheard(Pushed(WEB, "found", OLD, "image", None, second(6)))
    return ledger


def second(number: int) -> tuple[datetime, datetime]:
    """The first half of a second."""
    began = datetime(2026, 5, 1, 10, 0, number, tzinfo=UTC)
    return began, began + timedelta(milliseconds=500)


def tag_rows(ledger: Ledger) -> Rows:
    rows = []
    for (repository, name), pushed in reversed(ledger.tags.items()):
        image = pushed.image
        of_image = pushed.kind == "image"
        rows.append(
            {
                "repository": repository,
                "name": name,
                "digest": image.digest,
                "media_type": image.media_type,
                "artifact_type": pushed.artifact_type,
                "kind": pushed.kind,
                "size_bytes": image.size_bytes,
                "platforms": {"image": ["linux/amd64"], "index": ["linux/amd64", "linux/arm64"]}.get(
                    pushed.kind, []
                ),
                "config_digest": image.blobs[0].digest if of_image else None,
                "created_at": "2026-01-02T03:04:05.000000Z" if of_image else None,
                "published_at": f"2026-05-01T10:00:0{pushed.between[0].second}.250000Z",
                "published_at_source": "event" if pushed.actor else "first-seen",
                "pushed_by": pushed.actor,
                "pull_count": ledger.pulls[repository, name],
                "verified_at": "2026-05-01T10:00:10.000000Z",
                "broken": False,
                "broken_reason": None,
            }
        )
    return rows


def audit_rows(ledger: Ledger) -> Rows:
    rows = [
        {
            "position": number,
            "action": entry.action,
            "repository": entry.repository,
            "tag": entry.tag,
            "digest": entry.digest,
            "previous_digest": entry.previous_digest,
            "actor": {"name": entry.actor} if entry.actor else None,
            "source": entry.source,
            "event_id": f"event-{number}" if entry.source == "notification" else None,
        }
        for number, entry in enumerate(ledger.entries, start=1)
    ]
    return rows[::-1]


def test_checks__truth() -> None:
    """What is shown as it was done passes."""
    ledger = told()
    assert [] == list(checks._tags(tag_rows(ledger), ledger))
    assert [] == list(checks._audit(audit_rows(ledger), ledger))


@pytest.mark.parametrize("field", [name for name in tag_rows(told())[0] if name != "repository"])
def test_checks__lie_about_a_tag(field: str) -> None:
    """A wrong value in any field of any tag is noticed."""
    ledger = told()
    for number in range(len(ledger.tags)):
        rows = tag_rows(ledger)
        if field in {"config_digest", "created_at"} and rows[number]["kind"] != "image":
            continue
        lies = {"verified_at": None, "published_at": "2026-04-30T10:00:00.000000Z"}
        rows[number][field] = lies.get(field, "a lie")
        assert list(checks._tags(rows, ledger)), (number, field)


def test_checks__tags_missing_invented_or_disordered() -> None:
    """A tag too few, one too many, and two in the wrong order are noticed."""
    ledger = told()
    rows = tag_rows(ledger)
    assert list(checks._tags(rows[1:], ledger))
    assert list(checks._tags([*rows, {**rows[0], "name": "invented"}], ledger))
    assert list(checks._tags([rows[0], rows[2], rows[1], *rows[3:]], ledger))


@pytest.mark.parametrize("field", list(audit_rows(told())[0]))
def test_checks__lie_in_the_log(field: str) -> None:
    """A wrong value in any field of any entry is noticed."""
    ledger = told()
    for number in range(len(ledger.entries)):
        rows = audit_rows(ledger)
        lies: dict[str, Any] = {"position": 99, "actor": {"name": "mallory"}}
        lies["event_id"] = None if rows[number]["event_id"] else "invented"
        rows[number][field] = lies.get(field, "a lie")
        assert list(checks._audit(rows, ledger)), (number, field)


def test_checks__log_incomplete_doubled_or_disordered() -> None:
    """An entry too few, one twice, and two in the wrong order are noticed."""
    ledger = told()
    rows = audit_rows(ledger)
    assert list(checks._audit(rows[:-1], ledger))
    assert list(checks._audit([*rows, copy.copy(rows[0])], ledger))
    swapped = [rows[0], rows[2], rows[1], *rows[3:]]
    assert list(checks._audit(swapped, ledger))


def test_checks__filter_history_and_drift() -> None:
    """Rows that a filter should have left out, intervals with gaps and repairs that were none are noticed."""
    ledger = told()
    arm: Rows = [{"name": "latest"}, {"name": "1.2.0"}]
    assert [] == list(checks._filtered(arm, ledger))
    assert list(checks._filtered(arm[::-1], ledger))
    assert list(checks._filtered([*arm, {"name": "1.0"}], ledger))
    history: Rows = [
        {"digest": NEW.digest, "actor": "alice", "from": "2", "to": None},
        {"digest": OLD.digest, "actor": "ci", "from": "1", "to": "2"},
    ]
    assert [] == list(checks._history(history, ledger))
    assert list(checks._history(history[::-1], ledger))
    assert list(checks._history([history[0], {**history[1], "to": "1.5"}], ledger))
    drift: Rows = [
        {"kind": "tag_missing", "repository": WEB, "tag": "found", "expected": None, "found": OLD.digest,
         "repaired_at": "3"}
    ]  # fmt: skip
    assert [] == list(checks._drift(drift, ledger))
    assert list(checks._drift([], ledger))
    assert list(checks._drift([{**drift[0], "repaired_at": None}], ledger))
    assert list(checks._drift([{**drift[0], "found": NEW.digest}], ledger))
