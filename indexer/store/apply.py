"""The only way to change the inventory: evidence in, one transaction out.

Events and observations take the same steps: lock the repositories, load what is on record, let ``inventory`` decide,
write state, history, audit entries and work items together. Everyone locks in the same order, so that writers wait for
each other but never in a circle: repositories by id, then manifests that are not read and blobs, by digest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from indexer.inventory.apply_event import apply_event
from indexer.inventory.apply_manifest_observation import apply_manifest_observation
from indexer.inventory.apply_storage import (
    ManifestFound,
    TagFound,
    TagResult,
    apply_found_manifest,
    apply_found_tag,
)
from indexer.inventory.apply_tag_observation import apply_tag_observation, as_deletion
from indexer.inventory.changes import AuditSource, Change, ManifestChanged
from indexer.inventory.events import Event
from indexer.inventory.observations import ManifestObservation, ObservationVerdict, TagObservation
from indexer.inventory.pulls import attribute, pull_key_of
from indexer.inventory.records import ManifestKey, ManifestRecord
from indexer.oci.reference import RepositoryName
from indexer.store import (
    events,
    manifests,
    own_requests,
    repositories,
    tag_actions,
    unmatched_checks,
    write_notices,
)
from indexer.store.applying.loading import (
    Writing,
    begin,
    load_for_events,
    load_for_found,
    load_for_observations,
    remember_loaded,
)
from indexer.store.applying.writing import announced_kind, write
from indexer.store.identifiers import event_key
from indexer.store.lookups import Facet, Lookups, Span
from indexer.store.pool import Connection


class Stored(Enum):
    """What an observation came to."""

    CONFIRMED = "confirmed"
    CHANGED = "changed"
    INCONCLUSIVE = "inconclusive"
    OVERTAKEN = "overtaken"
    """An event was applied while the registry was asked. Observe again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRevision:
    """An observation, and the revision that the record had before it was made (0: nothing was on record).

    ``first_reconcile``: the repository was never compared before. ``absent_at``: when it was last compared completely.
    ``waited`` and ``verified_before``: see ``apply_tag_observation``.
    """

    observation: TagObservation
    revision: int
    first_reconcile: bool = False
    absent_at: datetime | None = None
    waited: bool = False
    verified_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEvents:
    """The events of a batch that were new, and how many were not."""

    fresh: Sequence[Event]
    repeated: int

    @property
    def applied(self) -> int:
        """How many events were new."""
        return len(self.fresh)


async def prepare(lookups: Lookups, batch: Sequence[Event]) -> None:
    """Commit the lookup rows and repositories of a batch, before the transaction that uses them (see ``lookups``)."""
    await lookups.repositories(
        repositories.earliest((event.repository, event.occurred_at) for event in batch)
    )
    await lookups.refresh()
    await lookups.actors(event.actor for event in batch if event.actor)
    await lookups.clients(event.request for event in batch)
    await lookups.instances(event.instance for event in batch if not event.imported)
    imported = [event for event in batch if event.imported]
    if imported:
        announced_at = min(event.occurred_at for event in imported)
        await lookups.instances((event.instance for event in imported), announced_at=announced_at)
    await lookups.facets(Facet(media_type=e.media_type, kind=announced_kind(e.media_type)) for e in batch)


async def apply_events(
    held: Connection, lookups: Lookups, batch: Sequence[Event], *, now: datetime, pulls_apart: bool = True
) -> AppliedEvents:
    """Apply events in their order, in the caller's transaction. :func:`prepare` must have been called.

    ``pulls_apart``: entries of pulls are kept beside the log, which takes them in later, coalesced.
    """
    fresh = await _drop_repeated(held, await own_requests.recognise(held, batch, now=now), now=now)
    if not fresh:
        return AppliedEvents(fresh=(), repeated=len(batch))
    fresh = await tag_actions.recognise(held, fresh)
    writing = await begin(held, lookups, {event.repository for event in fresh})
    await load_for_events(writing, fresh)
    await _attribute_pulls(writing, fresh, now=now)
    changes = [change for event in fresh for change in apply_event(writing.known, event)]
    await write(writing, changes, now=now, run_id=None, pulls_apart=pulls_apart)
    await write_notices.end_notices(held, fresh)
    await tag_actions.note_events(held, lookups, fresh, now=now)
    causes = {key: event for key, event in writing.known.causes.items() if key not in writing.loaded.causes}
    if causes:
        await events.add_causes(held, causes=causes, repository_ids=writing.repository_ids, at=now)
    await _count_events(writing, [event for event in fresh if not event.imported])
    return AppliedEvents(fresh=fresh, repeated=len(batch) - len(fresh))


async def apply_tag_observations(
    held: Connection,
    lookups: Lookups,
    observed: Sequence[ObservedRevision],
    *,
    source: AuditSource,
    now: datetime,
    run_id: int | None = None,
) -> list[Stored]:
    """Store observations, one per tag, each only if its tag still has the revision it had before.

    In the caller's transaction. The repositories must be on record.
    """
    dummies = await manifests.find_dummies(held)
    observed = [replace(each, observation=as_deletion(each.observation, dummies)) for each in observed]
    observations = [each.observation for each in observed]
    writing = await begin(held, lookups, {observation.repository for observation in observations})
    await load_for_observations(writing, observations)
    stored: list[Stored] = []
    changes: list[Change] = []
    for each in observed:
        key = (each.observation.repository, each.observation.tag)
        record = writing.known.tags.get(key)
        if (record.revision if record is not None else 0) != each.revision:
            stored.append(Stored.OVERTAKEN)
            continue
        result = apply_tag_observation(
            record,
            writing.known.histories.get(key, ()),
            each.observation,
            manifest=_manifest_of(writing, each.observation),
            source=source,
            first_reconcile=each.first_reconcile,
            absent_at=each.absent_at,
            waited=each.waited,
            verified_before=each.verified_before,
        )
        for change in result.changes:
            writing.known.fold(change)  # two tags of one manifest record it once
        changes += result.changes
        stored.append(_STORED[result.verdict])
    await write(writing, changes, now=now, run_id=run_id)
    return stored


def _manifest_of(writing: Writing, observation: TagObservation) -> ManifestRecord | None:
    if observation.digest is None:
        return None
    return writing.known.manifests.get((observation.repository, observation.digest))


async def apply_manifest_observations(
    held: Connection,
    lookups: Lookups,
    observations: Sequence[ManifestObservation],
    *,
    source: AuditSource,
    now: datetime,
    run_id: int | None = None,
    waited: Container[ManifestKey] = (),
) -> list[Stored]:
    """Store observations, one per manifest, each against the record as it is once its repository is locked.

    In the caller's transaction. The repositories must be on record. ``waited``: those that were observed again and
    again (``apply_manifest_observation``).
    """
    writing = await begin(held, lookups, {observation.repository for observation in observations})
    keys = [(observation.repository, observation.digest) for observation in observations]
    writing.known.manifests = await manifests.find_repository_manifests(
        held, keys=keys, repository_ids=writing.repository_ids
    )
    remember_loaded(writing)
    stored: list[Stored] = []
    changes: list[Change] = []
    confirmed: list[ManifestObservation] = []
    for key, observation in zip(keys, observations, strict=True):
        record = writing.known.manifests.get(key)
        result = apply_manifest_observation(record, observation, source=source, waited=key in waited)
        changes += result.changes
        stored.append(_STORED[result.verdict])
        if result.verdict is ObservationVerdict.CONFIRMED:
            confirmed.append(observation)
    await write(writing, changes, now=now, run_id=run_id)
    await manifests.confirm_repository_manifests(
        held, observations=confirmed, repository_ids=writing.repository_ids
    )
    return stored


async def apply_found_manifests(
    held: Connection, lookups: Lookups, found: Sequence[ManifestFound], *, now: datetime
) -> int:
    """Store manifests that lie in the storage; return how many were not on record.

    In the caller's transaction. The repositories must be on record.
    """
    writing = await begin(held, lookups, {each.repository for each in found})
    writing.known.manifests = await manifests.find_repository_manifests(
        held,
        keys=[(each.repository, each.digest) for each in found],
        repository_ids=writing.repository_ids,
    )
    remember_loaded(writing)
    dummies = await manifests.find_dummies(held)
    changes = [
        change
        for each in found
        if each.digest not in dummies
        for change in apply_found_manifest(writing.known.manifests.get((each.repository, each.digest)), each)
    ]
    await write(writing, changes, now=now, run_id=None)
    return sum(isinstance(change, ManifestChanged) for change in changes)


async def apply_found_tags(
    held: Connection, lookups: Lookups, found: Sequence[TagFound], *, now: datetime
) -> list[TagResult | None]:
    """Store tags that lie in the storage; return what each came to. None: the repository does not have its manifest.

    In the caller's transaction. The repositories must be on record. What a tag had before is left out where the
    manifest is not on record anywhere.
    """
    writing = await begin(held, lookups, {each.repository for each in found})
    await load_for_found(writing, found)
    results: list[TagResult | None] = []
    changes: list[Change] = []
    for each in found:
        manifest = writing.known.manifests.get((each.repository, each.digest))
        if manifest is None or not manifest.present or each.digest in writing.known.dummies:
            results.append(None)
            continue
        key = (each.repository, each.tag)
        result = apply_found_tag(
            writing.known.tags.get(key),
            writing.known.histories.get(key, ()),
            each,
            absent_at=writing.reconciled.get(each.repository),
        )
        changes += result.changes
        results.append(result)
    await write(writing, changes, now=now, run_id=None)
    return results


async def apply_changes(
    held: Connection,
    lookups: Lookups,
    changes: Sequence[Change],
    *,
    repositories: Iterable[RepositoryName],
    now: datetime,
    run_id: int | None = None,
) -> None:
    """Write changes that are decided already and carry their records; in the caller's transaction."""
    writing = await begin(held, lookups, set(repositories))
    keys = [(c.after.repository, c.after.digest) for c in changes if isinstance(c, ManifestChanged)]
    writing.known.manifests = await manifests.find_repository_manifests(
        held, keys=keys, repository_ids=writing.repository_ids
    )
    remember_loaded(writing)
    await write(writing, changes, now=now, run_id=run_id)


_STORED = {
    ObservationVerdict.CONFIRMED: Stored.CONFIRMED,
    ObservationVerdict.CHANGED: Stored.CHANGED,
    ObservationVerdict.INCONCLUSIVE: Stored.INCONCLUSIVE,
}


async def _drop_repeated(held: Connection, batch: Sequence[Event], *, now: datetime) -> list[Event]:
    """Return the events whose ids are new, and those of our own, which are known by their signatures."""
    others = [event for event in batch if not event.ours]
    until = {event_key(event.id): None if event.imported else now for event in reversed(others)}
    new = await events.remember_events(held, keys=until) if until else set()
    fresh = []
    for event in batch:
        key = event_key(event.id)
        if event.ours:
            fresh.append(event)
        elif key in new:
            new.discard(key)
            fresh.append(event)
    return fresh


async def _attribute_pulls(writing: Writing, fresh: Sequence[Event], *, now: datetime) -> None:
    """Find the tags that GETs by digest are pulls of, and store the checks that still wait."""
    wanted = {key for event in fresh if (key := pull_key_of(event)) is not None}
    if not wanted:
        return
    checks = await unmatched_checks.find_checks(writing.connection, keys=wanted)
    found = attribute(fresh, checks)
    writing.known.pulled_tags = found.tags
    await unmatched_checks.put_checks(writing.connection, waiting=found.waiting, at=now)


async def _count_events(writing: Writing, fresh: Sequence[Event]) -> None:
    ids = await writing.lookups.instances(event.instance for event in fresh)
    announced: dict[int, list[Event]] = {}
    for event in fresh:
        announced.setdefault(ids[event.instance], []).append(event)
    spans = {
        number: Span(
            events=len(events),
            first_at=min(event.occurred_at for event in events),
            last_at=max(event.occurred_at for event in events),
            received_at=max(event.received_at for event in events),
        )
        for number, events in announced.items()
    }
    await writing.lookups.count_instance_events(writing.connection, spans=spans)
