"""The theorem, attacked on the pure core.

For any sequence of pushes, retags and deletes, with notifications lost, doubled, delayed and reordered, with
skewed clocks and stale looks: once the registry is quiet, the tags that news spoke of looked at again and one
walk done, the inventory equals the registry; and a tag's intervals never overlap.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from indexer.ingest.envelope import decode
from indexer.inventory import history
from indexer.inventory.changes import AuditSource, Entry
from indexer.inventory.records import TagRecord
from indexer.inventory.seen import Judgement, Outcome, TagObservation, see
from indexer.inventory.told import Known, tell
from indexer.oci.digest import Digest, digest_of
from indexer.oci.media_types import OCI_MANIFEST
from indexer.oci.reference import RepositoryName, TagName
from tests.fixtures.selection import examples
from tests.simulators.events import Version
from tests.simulators.state import RegistryState

REPOSITORY = RepositoryName("team/app")
TAGS = [TagName(name) for name in ("latest", "v1", "v2")]
CONTENTS = [b'{"schemaVersion": 2, "n": %d}' % number for number in range(4)]
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
QUIET = timedelta(seconds=30)

tags = st.sampled_from(TAGS)
contents = st.sampled_from(CONTENTS)


class InventoryMachine(RuleBasedStateMachine):
    """A registry, the events on their way, the looks on their way, and what is on record."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.skew = timedelta(0)
        self.registry = RegistryState(version=Version.V3, clock=lambda: self.now + self.skew)
        self.registry.listeners.append(self.on_event)
        self.pending: list[dict[str, Any]] = []
        self.delivered: list[dict[str, Any]] = []
        self.links: list[tuple[TagName, Digest]] = []
        self.looks: list[tuple[TagObservation, int]] = []
        self.known = Known()
        self.seen_ids: set[str] = set()
        self.entries: list[Entry] = []

    def on_event(self, event: dict[str, Any]) -> None:
        self.pending.append(event)

    # --- the registry and its clients --------------------------------------------------------------------

    @rule(tag=tags, content=contents)
    def push(self, tag: TagName, content: bytes) -> None:
        self.registry.push(REPOSITORY, content, media_type=OCI_MANIFEST, tag=tag)

    @rule(tag=tags, content=contents)
    def begin_push(self, tag: TagName, content: bytes) -> None:
        """The event is out, the tag's link is not written yet."""
        digest = self.registry.push(REPOSITORY, content, media_type=OCI_MANIFEST, tag=tag, link=False)
        self.links.append((tag, digest))

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def end_push(self, data: st.DataObject) -> None:
        """Links are written in any order; one may point to a manifest that was deleted meanwhile."""
        tag, digest = self.links.pop(data.draw(st.integers(0, len(self.links) - 1)))
        self.registry.write_link(REPOSITORY, tag, digest)

    @rule(content=contents)
    def delete_by_digest(self, content: bytes) -> None:
        self.registry.delete_manifest(REPOSITORY, digest_of(content))

    @rule(tag=tags)
    def delete_by_tag(self, tag: TagName) -> None:
        self.registry.delete_tag(REPOSITORY, tag)

    @rule(tag=tags)
    def edit_storage(self, tag: TagName) -> None:
        if REPOSITORY in self.registry.repositories:
            self.registry.remove_silently(REPOSITORY, tag=tag)

    @rule(content=contents)
    def collect_garbage(self, content: bytes) -> None:
        """A manifest disappears without an event; its tags dangle."""
        if REPOSITORY in self.registry.repositories:
            self.registry.repositories[REPOSITORY].manifests.pop(digest_of(content), None)

    @rule()
    def restart_registry(self) -> None:
        """Whatever is queued is lost."""
        self.pending.clear()
        self.registry.restart()

    # --- time --------------------------------------------------------------------------------------------

    @rule(milliseconds=st.sampled_from([1, 20, 300, 1500, 4000, 9000]))
    def wait(self, milliseconds: int) -> None:
        self.now += timedelta(milliseconds=milliseconds)

    @rule(seconds=st.sampled_from([-3.0, -0.4, 0.0, 0.4, 3.0, 600.0]))
    def another_replica(self, seconds: float) -> None:
        """The next requests reach a replica whose clock differs."""
        self.skew = timedelta(seconds=seconds)

    # --- notifications -----------------------------------------------------------------------------------

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.take(self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1))))

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        self.take(data.draw(st.sampled_from(self.delivered)))

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))

    def take(self, event: dict[str, Any]) -> None:
        """What the ingest worker does: decode, drop what was applied before, tell."""
        decoded = decode(json.dumps({"events": [event]}).encode(), content_encoding="", received_at=self.now)
        assert not decoded.refused
        for each in decoded.events:
            if each.id in self.seen_ids:
                continue
            self.seen_ids.add(each.id)
            changes = tell(self.known, each)
            self.entries += [change for change in changes if isinstance(change, Entry)]
        self.delivered.append(event)

    # --- looks -------------------------------------------------------------------------------------------

    @rule(tag=tags)
    def look(self, tag: TagName) -> None:
        """A look is made now and stored later, if nothing changed in between."""
        self.looks.append((self.observe(tag), self.revision(tag)))

    @precondition(lambda self: self.looks)
    @rule(data=st.data())
    def store_look(self, data: st.DataObject) -> None:
        observation, revision = self.looks.pop(data.draw(st.integers(0, len(self.looks) - 1)))
        self.store(observation, revision)

    def observe(self, tag: TagName) -> TagObservation:
        digest = self.registry.link_of(REPOSITORY, tag)
        if digest is None:
            outcome = Outcome.ABSENT
        elif self.registry.manifest(REPOSITORY, digest) is None:
            outcome = Outcome.BROKEN
        else:
            outcome = Outcome.POINTS
        return TagObservation(
            repository=REPOSITORY,
            tag=tag,
            outcome=outcome,
            looked_at=self.now,
            as_of=min(self.now, self.registry.clock().replace(microsecond=0)),
            digest=digest if outcome is Outcome.POINTS else None,
        )

    def store(self, observation: TagObservation, revision: int) -> Judgement | None:
        key = (REPOSITORY, observation.tag)
        if self.revision(observation.tag) != revision:
            return None
        seen = see(
            self.known.tags.get(key),
            self.known.histories.get(key, ()),
            observation,
            source=AuditSource.VERIFY,
        )
        for change in seen.changes:
            self.known.fold(change)
        return seen.judgement

    def revision(self, tag: TagName) -> int:
        record = self.known.tags.get((REPOSITORY, tag))
        return 0 if record is None else record.revision

    # --- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def intervals_never_overlap(self) -> None:
        for timeline in self.known.histories.values():
            assert not history.overlaps(timeline)

    @invariant()
    def the_open_interval_is_what_is_on_record(self) -> None:
        for key, record in self.known.tags.items():
            opened = history.open_interval(self.known.histories.get(key, ()))
            assert (opened.digest if opened is not None else None) == record.digest, (key, record)

    @invariant()
    def every_change_is_in_the_log_once(self) -> None:
        told = [(entry.event.id, entry.action.split(".")[0]) for entry in self.entries if entry.event]
        assert len(told) == len(set(told))

    def teardown(self) -> None:
        """The registry falls quiet; looks are repeated until they settle; one walk is done."""
        for tag, digest in self.links:
            self.registry.write_link(REPOSITORY, tag, digest)
        for event in list(self.pending):
            self.take(event)
        self.now += QUIET
        for tag in TAGS:
            looks = [self.store(self.observe(tag), self.revision(tag)) for _ in range(2)]
            assert looks[-1] is Judgement.CONFIRMED
        stored = self.registry.repositories.get(REPOSITORY)
        links = dict(stored.tags) if stored is not None else {}
        for tag in TAGS:
            self.compare(self.known.tags.get((REPOSITORY, tag)), links.get(tag))
        self.intervals_never_overlap()
        self.the_open_interval_is_what_is_on_record()

    def compare(self, record: TagRecord | None, link: Digest | None) -> None:
        if link is None:
            assert record is None or not record.live
            return
        assert record is not None
        assert record.live
        readable = self.registry.manifest(REPOSITORY, link) is not None
        assert record.broken is not readable
        if readable:
            assert record.digest == link


InventoryMachine.TestCase.settings = settings(
    max_examples=examples(150), stateful_step_count=40, deadline=None
)
TestInventoryMachine = InventoryMachine.TestCase
