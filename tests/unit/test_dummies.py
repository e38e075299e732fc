from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from indexer.ingest.envelope import decode
from indexer.inventory.apply_event import apply_event
from indexer.inventory.apply_tag_observation import apply_tag_observation
from indexer.inventory.changes import AuditAction, AuditSource, Entry, ManifestChanged
from indexer.inventory.dummies import DUMMIES, MOST_BYTES, is_dummy_content
from indexer.inventory.known import Known
from indexer.inventory.observations import ObservationVerdict, TagObservation, TagState
from indexer.inventory.precedence import DUMMY_DELETION_WINDOW
from indexer.oci.digest import Digest, digest_of
from indexer.oci.manifest import parse_manifest
from indexer.oci.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_MANIFEST
from indexer.oci.reference import RepositoryName, TagName
from tests.simulators.events import RequestInfo, Version
from tests.simulators.state import RegistryState

REPOSITORY = RepositoryName("group/project")
GITLAB = RequestInfo(user_agent="GitLab/18.10.0", actor="")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = b'{\n  "config": {\n  }\n}'


def dummy_of(config: bytes, *, layout: int | None = 2) -> bytes:
    """What GitLab pushes, by the contract's section 4.3."""
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "size": len(config), "digest": digest_of(config)},
    }
    return json.dumps(document, indent=layout).encode()


DUMMY = dummy_of(CONFIG)


class World:
    """A registry whose events are kept, and what is on record of those that were told."""

    def __init__(self, version: Version = Version.V3) -> None:
        self.now = BEGIN
        self.registry = RegistryState(version=version, clock=self.tick)
        self.events: list[dict[str, Any]] = []
        self.registry.listeners.append(self.events.append)
        self.known = Known()
        self.entries: list[Entry] = []
        self.held: list[ManifestChanged] = []

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=20)
        return self.now

    def push(self, tag: str, content: bytes) -> None:
        self.registry.push(REPOSITORY, content, media_type=OCI_MANIFEST, tag=tag)

    def delete_as_gitlab(self, *tags: str, dummy: bytes = DUMMY, config: bytes = CONFIG) -> None:
        self.registry.push_blob(REPOSITORY, config, request=GITLAB)
        for tag in tags:
            self.registry.push(REPOSITORY, dummy, media_type=DOCKER_MANIFEST, tag=tag, request=GITLAB)
        self.registry.delete_manifest(REPOSITORY, digest_of(dummy), request=GITLAB)

    def apply_event(self, events: list[dict[str, Any]] | None = None) -> None:
        """Tell the events so far, or these; each batch forgets what only the batch knew."""
        for event in self.events if events is None else events:
            self.known.dummies = set(DUMMIES)
            (decoded,) = decode(
                json.dumps({"events": [event]}).encode(), content_encoding="", received_at=self.now
            ).events
            changes = apply_event(self.known, decoded)
            self.entries += [change for change in changes if isinstance(change, Entry)]
            self.held += [change for change in changes if isinstance(change, ManifestChanged)]
        if events is None:
            self.events.clear()

    def actions(self, tag: str) -> list[AuditAction]:
        return [entry.action for entry in self.entries if entry.tag == tag]

    def live(self) -> set[str]:
        return {record.name for record in self.known.tags.values() if record.live}


def test_dummies__the_digest_of_the_contract() -> None:
    """The digests are computed as GitLab's JSON library writes; the one that was measured is among them."""
    measured = Digest("sha256:7bdb5df100f9b601290cb6d72fbeb5b3aa73f4908fe1d8075b00df013c79c43c")
    assert digest_of(CONFIG) == "sha256:4435000728ee66e6a80e55637fc22725c256b61de344a2ecdeaac6bdb36e8bc3"
    assert measured in DUMMIES
    assert digest_of(DUMMY) == measured
    assert len(DUMMY) <= MOST_BYTES


@pytest.mark.parametrize("version", Version)
def test_dummy_delete__is_one_deletion(version: Version) -> None:
    """Five events about one tag are one entry of its deletion, by whom and from what; nothing is held."""
    world = World(version)
    world.push("v1", b"one")
    world.push("v2", b"one")
    world.apply_event()
    world.held.clear()
    world.delete_as_gitlab("v1")
    world.apply_event()
    assert world.live() == {"v2"}
    assert world.actions("v1") == [AuditAction.TAG_CREATED, AuditAction.TAG_DELETED]
    entry = world.entries[-1]
    assert (entry.tag, entry.digest, entry.detail["dummy_manifest"]) == (
        "v1",
        digest_of(b"one"),
        digest_of(DUMMY),
    )
    assert entry.event is not None
    assert entry.event.request.user_agent == "GitLab/18.10.0"
    assert [e.action for e in world.entries if e.action.endswith(".deleted")] == [AuditAction.TAG_DELETED]
    assert world.held == []


def test_dummy_delete__of_many_tags() -> None:
    """One deletion each, however many tags one dummy takes along."""
    world = World()
    for number in range(5):
        world.push(f"v{number}", b"%d" % number)
    world.delete_as_gitlab("v0", "v1", "v2")
    world.apply_event()
    assert world.live() == {"v3", "v4"}
    for tag in ("v0", "v1", "v2"):
        assert world.actions(tag) == [AuditAction.TAG_CREATED, AuditAction.TAG_DELETED]


def test_dummy_delete__ends_the_history_at_the_push() -> None:
    """The tag's last interval ends with the dummy's push; the dummy has none."""
    world = World()
    world.push("v1", b"one")
    world.delete_as_gitlab("v1")
    pushed_at = next(
        event["timestamp"] for event in world.events if event["target"]["digest"] == digest_of(DUMMY)
    )
    world.apply_event()
    (interval,) = world.known.histories[REPOSITORY, TagName("v1")]
    assert interval.digest == digest_of(b"one")
    assert interval.valid_to == datetime.fromisoformat(pushed_at)


def test_dummy_delete__then_pushed_again() -> None:
    """A tag that is pushed after such a deletion is new, and a later deletion counts again."""
    world = World()
    world.push("v1", b"one")
    world.delete_as_gitlab("v1")
    world.push("v1", b"two")
    world.apply_event()
    record = world.known.tags[REPOSITORY, TagName("v1")]
    assert (record.live, record.alive_since, record.deleted_by_dummy) == (True, record.published_at, False)
    world.registry.delete_tag(REPOSITORY, "v1")
    world.apply_event()
    created, deleted = AuditAction.TAG_CREATED, AuditAction.TAG_DELETED
    assert world.actions("v1") == [created, deleted, created, deleted]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_dummy_delete__told_in_any_order(order: tuple[int, ...]) -> None:
    """The push, the delete of the dummy and the tag's own delete are one deletion in whatever order they come."""
    world = World()
    world.push("v1", b"one")
    world.apply_event()
    world.delete_as_gitlab("v1")
    events = [event for event in world.events if event["target"]["mediaType"] != "application/octet-stream"]
    world.apply_event([events[at] for at in order])
    assert world.live() == set()
    assert world.actions("v1") == [AuditAction.TAG_CREATED, AuditAction.TAG_DELETED]


def test_dummy_delete__of_a_tag_nobody_knew() -> None:
    """A tag whose push was lost is deleted all the same, once, and nothing is listed."""
    world = World()
    world.delete_as_gitlab("v1")
    world.apply_event()
    assert world.live() == set()
    assert world.actions("v1") == [AuditAction.TAG_DELETED]


def test_dummy_delete__in_another_layout_is_known_by_its_shape() -> None:
    """GitLab's User-Agent and a manifest too small for a layer make a push a deletion, whatever its digest."""
    config = b'{ "config" : {} }'
    dummy = dummy_of(config, layout=1)
    assert digest_of(dummy) not in DUMMIES
    world = World()
    world.push("v1", b"one")
    world.delete_as_gitlab("v1", dummy=dummy, config=config)
    world.apply_event()
    assert world.live() == set()
    assert world.actions("v1") == [AuditAction.TAG_CREATED, AuditAction.TAG_DELETED]
    assert is_dummy_content(parse_manifest(dummy, DOCKER_MANIFEST), config)


@pytest.mark.parametrize(
    ("user_agent", "size", "media_type"),
    [
        ("docker/27.0 GitLab/1", 200, DOCKER_MANIFEST),
        ("GitLab/18.0", 528, DOCKER_MANIFEST),
        ("GitLab/18.0", 200, OCI_MANIFEST),
    ],
)
def test_push__of_something_else_is_a_push(user_agent: str, size: int, media_type: str) -> None:
    """Another client, a larger manifest or another type is no dummy."""
    world = World()
    request = RequestInfo(user_agent=user_agent)
    world.registry.push(REPOSITORY, b"x" * size, media_type=media_type, tag="v1", request=request)
    world.apply_event()
    assert world.live() == {"v1"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CONFIG, True),
        (b'{"config":{}}', True),
        (b"{}", False),
        (b'{"config":{"Env":[]}}', False),
        (b"\xff", False),
    ],
)
def test_content__an_image_of_nothing(config: bytes, expected: bool) -> None:
    """A dummy has no layers and a config that says nothing; any other config makes it an image."""
    assert is_dummy_content(parse_manifest(dummy_of(config), DOCKER_MANIFEST), config) is expected


@pytest.mark.parametrize(
    ("seconds", "waited", "verdict"),
    [
        (10, False, ObservationVerdict.INCONCLUSIVE),
        (-600, False, ObservationVerdict.INCONCLUSIVE),
        (-600, True, ObservationVerdict.CHANGED),
        (DUMMY_DELETION_WINDOW.total_seconds(), False, ObservationVerdict.CHANGED),
    ],
)
def test_dummy_delete__under_way_is_no_broken_tag(
    seconds: float, waited: bool, verdict: ObservationVerdict
) -> None:
    """2.8 deletes the dummy first, then its tags in turn: listed and unreadable, a tag waits for its turn.

    If that lasts, whatever the clock says, the deletion was cut short, and the tag is broken.
    """
    world = World()
    world.push("v1", b"one")
    world.delete_as_gitlab("v1")
    world.apply_event([event for event in world.events if event["action"] == "push"])
    key = REPOSITORY, TagName("v1")
    record = world.known.tags[key]
    assert record.last_event_at is not None
    at = record.last_event_at + timedelta(seconds=seconds)
    observation = TagObservation(
        repository=REPOSITORY, tag=key[1], outcome=TagState.BROKEN, observed_at=at, as_of=at
    )
    result = apply_tag_observation(
        record,
        world.known.histories[key],
        observation,
        manifest=None,
        source=AuditSource.VERIFY,
        waited=waited,
    )
    assert result.verdict is verdict
