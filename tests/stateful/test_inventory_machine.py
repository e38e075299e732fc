"""The theorem, attacked on the pure core.

For any sequence of pushes, retags and deletes, with notifications lost, doubled, delayed and reordered, with
skewed clocks and stale looks: once the registry is quiet, the tags that news spoke of looked at again and one
walk done, the inventory equals the registry, and every tag that can be read has its manifest on record as held; and a
tag's intervals never overlap.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from indexer.ingest.envelope import decode
from indexer.inventory import history
from indexer.inventory.apply_event import apply_event
from indexer.inventory.apply_manifest_observation import apply_manifest_observation
from indexer.inventory.apply_tag_observation import apply_tag_observation
from indexer.inventory.changes import AuditSource, Entry
from indexer.inventory.known import Known
from indexer.inventory.observations import ManifestObservation, ObservationVerdict, TagObservation, TagState
from indexer.inventory.records import ManifestRecord, TagRecord
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
        self.ours = timedelta(0)
        self.registry = RegistryState(version=Version.V3, clock=lambda: self.now + self.skew)
        self.registry.listeners.append(self.on_event)
        self.pending: list[dict[str, Any]] = []
        self.delivered: list[dict[str, Any]] = []
        self.links: list[tuple[TagName, Digest]] = []
        self.observations: list[tuple[TagObservation, int]] = []
        self.answers: list[ManifestObservation] = []
        self.newest: dict[str, dict[str, datetime | None]] = {}
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

    @rule(seconds=st.sampled_from([-60.0, -4.0, 0.0]))
    def our_clock_is_set(self, seconds: float) -> None:
        """Our clock, and ours alone, goes back, or is put right."""
        self.ours = timedelta(seconds=seconds)

    @property
    def clock(self) -> datetime:
        return self.now + self.ours

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
        decoded = decode(
            json.dumps({"events": [event]}).encode(), content_encoding="", received_at=self.clock
        )
        assert not decoded.refused
        for each in decoded.events:
            if each.id in self.seen_ids:
                continue
            self.seen_ids.add(each.id)
            changes = apply_event(self.known, each)
            self.entries += [change for change in changes if isinstance(change, Entry)]
        self.delivered.append(event)

    # --- looks -------------------------------------------------------------------------------------------

    @rule(tag=tags)
    def look(self, tag: TagName) -> None:
        """A look is made now and stored later, if nothing changed in between."""
        self.observations.append((self.observe(tag), self.revision(tag)))

    @precondition(lambda self: self.observations)
    @rule(data=st.data())
    def store_look(self, data: st.DataObject) -> None:
        observation, revision = self.observations.pop(data.draw(st.integers(0, len(self.observations) - 1)))
        self.store(observation, revision)

    @rule(content=contents)
    def ask_for_manifest(self, content: bytes) -> None:
        """A manifest is asked for now and stored later, over whatever is on record then."""
        self.answers.append(self.observe_manifest(digest_of(content)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def store_answer(self, data: st.DataObject) -> None:
        self.store_manifest(self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1))))

    def observe_manifest(self, digest: Digest) -> ManifestObservation:
        return ManifestObservation(
            repository=REPOSITORY,
            digest=digest,
            served=self.registry.manifest(REPOSITORY, digest) is not None,
            observed_at=self.clock,
            as_of=min(self.clock, self.registry.clock().replace(microsecond=0)),
        )

    def store_manifest(self, observation: ManifestObservation, *, waited: bool = False) -> ObservationVerdict:
        key = (REPOSITORY, observation.digest)
        record = self.known.manifests.get(key)
        judged = apply_manifest_observation(record, observation, source=AuditSource.WALK, waited=waited)
        for change in judged.changes:
            self.known.fold(change)
        if judged.verdict is ObservationVerdict.CONFIRMED and record is not None:
            as_of = max(record.as_of, observation.observed_at)
            self.known.manifests[key] = replace(record, as_of=as_of)
        return judged.verdict

    def observe(self, tag: TagName) -> TagObservation:
        digest = self.registry.link_of(REPOSITORY, tag)
        if digest is None:
            outcome = TagState.ABSENT
        elif self.registry.manifest(REPOSITORY, digest) is None:
            outcome = TagState.BROKEN
        else:
            outcome = TagState.POINTS
        return TagObservation(
            repository=REPOSITORY,
            tag=tag,
            outcome=outcome,
            observed_at=self.clock,
            as_of=min(self.clock, self.registry.clock().replace(microsecond=0)),
            digest=digest if outcome is TagState.POINTS else None,
        )

    def store(
        self,
        observation: TagObservation,
        revision: int,
        *,
        waited: bool = False,
        verified_before: datetime | None = None,
    ) -> ObservationVerdict | None:
        key = (REPOSITORY, observation.tag)
        if self.revision(observation.tag) != revision:
            return None
        seen = apply_tag_observation(
            self.known.tags.get(key),
            self.known.histories.get(key, ()),
            observation,
            manifest=self.hold_on(observation.digest),
            source=AuditSource.VERIFY,
            waited=waited,
            verified_before=verified_before,
        )
        for change in seen.changes:
            self.known.fold(change)
        return seen.verdict

    def hold_on(self, digest: Digest | None) -> ManifestRecord | None:
        return None if digest is None else self.known.manifests.get((REPOSITORY, digest))

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
    def evidence_never_goes_back(self) -> None:
        for name, instants in self.instants().items():
            earlier = self.newest.get(name, {})
            for kind, at in instants.items():
                before = earlier.get(kind)
                assert before is None or at is None or at >= before, (name, kind, before, at)
            self.newest[name] = instants

    def instants(self) -> dict[str, dict[str, datetime | None]]:
        """Of every tag and manifest, the instants that only ever grow; one that is not known may become so again."""
        found: dict[str, dict[str, datetime | None]] = {
            tag: {
                "last_event_at": record.last_event_at,
                "last_observed_at": record.last_observed_at,
                "verified_at": record.verified_at,
            }
            for (_, tag), record in self.known.tags.items()
        }
        return found | {
            digest: {"as_of": record.as_of} for (_, digest), record in self.known.manifests.items()
        }

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
            observations = [self.verify(tag) for _ in range(2)]
            assert observations[-1] is ObservationVerdict.CONFIRMED
        for digest in [digest for (_, digest), held in self.known.manifests.items() if held.present]:
            observation = self.observe_manifest(digest)
            assert self.store_manifest(observation, waited=True) is not ObservationVerdict.INCONCLUSIVE
        stored = self.registry.repositories.get(REPOSITORY)
        links = dict(stored.tags) if stored is not None else {}
        for tag in TAGS:
            self.compare(self.known.tags.get((REPOSITORY, tag)), links.get(tag))
        self.intervals_never_overlap()
        self.the_open_interval_is_what_is_on_record()

    def verify(self, tag: TagName) -> ObservationVerdict | None:
        """Look as verification does, once it has waited, and ask for the manifest as resolving does."""
        record = self.known.tags.get((REPOSITORY, tag))
        observation = self.observe(tag)
        judgement = self.store(
            observation,
            self.revision(tag),
            waited=True,
            verified_before=None if record is None else record.verified_at,
        )
        if observation.digest is not None:
            self.store_manifest(self.observe_manifest(observation.digest), waited=True)
        return judgement

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
            held = self.hold_on(link)
            assert held is not None
            assert held.present


InventoryMachine.TestCase.settings = settings(
    max_examples=examples(150), stateful_step_count=40, deadline=None
)
TestInventoryMachine = InventoryMachine.TestCase
