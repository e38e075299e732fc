"""What a client did, as a table: which HEAD and GET together are a pull of which tag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.inventory.apply_event import apply_event
from indexer.inventory.changes import Checked, Entry, Pulled
from indexer.inventory.events import Event, EventAction, RequestInfo
from indexer.inventory.known import Known
from indexer.inventory.pulls import WINDOW, Attribution, Checks, PullKey, WaitingCheck, attribute
from indexer.oci.digest import Digest
from indexer.oci.media_types import OCI_MANIFEST
from indexer.oci.reference import RepositoryName, TagName

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
REPOSITORY = RepositoryName("team/app")
A, B = (Digest("sha256:" + letter * 64) for letter in "ab")
LATE = WINDOW.total_seconds() + 1


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def asks(words: str) -> list[Event]:
    """Read ``SECONDS METHOD TAG DIGEST [CLIENT]``, one request each, separated by commas; ``-``: by digest."""
    events = []
    for number, text in enumerate(filter(None, (part.strip() for part in words.split(",")))):
        seconds, method, tag, digest, *client = text.split()
        events.append(
            Event(
                id=f"{number}",
                occurred_at=at(float(seconds)),
                received_at=at(float(seconds)),
                action=EventAction.PULL,
                repository=REPOSITORY,
                tag=None if tag == "-" else TagName(tag),
                digest={"A": A, "B": B}[digest],
                media_type=OCI_MANIFEST,
                actor="node",
                request=RequestInfo(
                    method=method, address=client[0] if client else "10.0.0.1", user_agent="containerd/2"
                ),
            )
        )
    return events


TABLE = {
    "1 HEAD v1 A, 2 GET - A": {"1": "v1"},
    "2 GET - A, 1 HEAD v1 A": {"0": "v1"},  # told in the wrong order
    "1 HEAD v1 A": {},
    "1 GET - A": {},
    "1 GET v1 A": {},
    "1 HEAD v1 A, 2 GET v1 A": {},  # says itself what it pulls
    "1 HEAD v1 A, 2 GET - B": {},
    "1 HEAD v1 A, 2 GET - A 10.0.0.2": {},
    "1 HEAD - A, 2 GET - A": {},
    f"0 HEAD v1 A, {LATE} GET - A": {},
    "1 HEAD v1 A, 2 GET - A, 3 GET - A": {"1": "v1"},  # one check, one pull
    "1 HEAD v1 A, 2 HEAD v2 A, 3 GET - A": {"2": "v2"},
    "1 HEAD v1 A, 2 HEAD v2 A, 3 GET - A, 4 GET - A": {"2": "v2", "3": "v1"},
    "1 HEAD v1 A, 2 GET - A, 3 HEAD v1 A, 4 GET - A": {"1": "v1", "3": "v1"},
    "1 HEAD v1 A, 1 HEAD v1 A, 2 GET - A, 2 GET - A": {"2": "v1", "3": "v1"},  # two nodes behind one address
    "3 HEAD v1 A, 2 GET - A": {"1": "v1"},  # two registry processes, whose clocks differ
    "30 HEAD v1 A, 2 GET - A": {},
    "1 head v1 A, 2 GET - A": {"1": "v1"},
    "0 HEAD v1 A, 1 GET - A, 7200 HEAD v1 A, 7201 GET - A": {"1": "v1", "3": "v1"},  # hours in one batch
}


@pytest.mark.parametrize(("words", "expected"), TABLE.items())
def test_attribute__tags_of_gets(words: str, expected: dict[str, str]) -> None:
    """A GET by digest is a pull of the tag that the same client checked shortly before, each check once."""
    assert expected == attribute(asks(words), {}).tags


@pytest.mark.parametrize("words", TABLE)
def test_attribute__is_the_same_in_batches_of_one(words: str) -> None:
    """However requests are cut into batches, in the order of their times, the same come to be pulls of tags."""
    whole = attribute(asks(words), {}).tags
    waiting: dict[tuple[PullKey, TagName], WaitingCheck] = {}
    tags: dict[str, TagName] = {}
    for event in sorted(asks(words), key=lambda each: each.occurred_at):
        found = attribute([event], waiting)
        tags |= found.tags
        for key, left in found.waiting.items():
            waiting.pop(key, None)
            if left is not None:
                waiting[key] = left
    if words != "3 HEAD v1 A, 2 GET - A":  # what is told only later cannot be waited for
        assert whole.keys() == tags.keys()


def waits(checks: int, seconds: float, since: float | None = None) -> Checks:
    key = PullKey(REPOSITORY, A, "10.0.0.1", "containerd/2", "node")
    return {
        (key, TagName("v1")): WaitingCheck(
            checks=checks, oldest_at=at(seconds if since is None else since), newest_at=at(seconds)
        )
    }


@pytest.mark.parametrize(
    ("before", "words", "tags", "left"),
    [
        (waits(1, 1), "2 GET - A", 1, None),
        (waits(3, 1), "2 GET - A", 1, waits(2, 1)),
        (waits(3, 1), "2 GET - A, 2 GET - A, 3 GET - A, 3 GET - A", 3, None),
        (waits(3, 1), "2 HEAD v1 A", 0, waits(4, 2, 1)),
        (waits(3, 1), "2 HEAD v1 A, 3 GET - A", 1, waits(3, 1)),
        (waits(3, 61, 1), "2 GET - A, 32 GET - A, 62 GET - A", 3, None),  # the GETs are told of late
        (waits(3, 61, 1), "2 GET - A", 1, waits(2, 61, 1)),
        (waits(3, 1), f"{LATE + 1} HEAD v1 A", 0, waits(1, LATE + 1)),  # the older ones: too old for any GET
        (waits(2**40, 1), "2 GET - A", 1, waits(2**40 - 1, 1)),
    ],
)
def test_attribute__what_waits(before: Checks, words: str, tags: int, left: Checks | None) -> None:
    """What no GET took waits on, counted, and is forgotten once no GET could take it."""
    found = attribute(asks(words), before)
    assert tags == len(found.tags)
    assert (left or dict.fromkeys(before)) == found.waiting


def test_attribute__our_own_requests_and_blobs_are_nobodys() -> None:
    """They neither wait nor take what waits."""
    ours = Event(
        id="1",
        occurred_at=at(1),
        received_at=at(1),
        action=EventAction.PULL,
        repository=REPOSITORY,
        digest=A,
        media_type="application/octet-stream",
    )
    assert Attribution() == attribute([ours], {})


def told(words: str) -> list[tuple[str, str | None]]:
    events = asks(words)
    known = Known(pulled_tags=attribute(events, {}).tags)
    changes = [change for event in events for change in apply_event(known, event)]
    counted: list[tuple[str, str | None]] = []
    for change in changes:
        if isinstance(change, Pulled | Checked):
            counted.append((type(change).__name__, change.tag))
        elif (
            isinstance(change, Entry)
            and change.action.startswith("manifest.")
            and "pushed" not in change.action
        ):
            counted.append((change.action, change.tag))
    return counted


def test_tell__head_and_get_are_one_pull_and_one_check() -> None:
    """HEAD of a tag and GET of its digest: a check, and one pull of the tag, in counts and log."""
    assert told("1 HEAD v1 A, 2 GET - A") == [
        ("Checked", "v1"), ("manifest.checked", "v1"), ("Pulled", "v1"), ("manifest.pulled", "v1"),
    ]  # fmt: skip


def test_tell__head_alone_is_no_pull() -> None:
    """Whoever has the image asks by HEAD only; nothing was pulled."""
    assert told("1 HEAD v1 A, 2 HEAD - A") == [
        ("Checked", "v1"), ("manifest.checked", "v1"), ("Checked", None), ("manifest.checked", None),
    ]  # fmt: skip


def test_tell__get_of_a_digest_alone_is_a_pull_of_no_tag() -> None:
    """As it was."""
    assert told("1 GET - A, 2 GET v1 A") == [
        ("Pulled", None), ("manifest.pulled", None), ("Pulled", "v1"), ("manifest.pulled", "v1"),
    ]  # fmt: skip
