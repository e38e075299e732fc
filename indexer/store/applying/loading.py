"""What a transaction loads: the locked repositories, and what is on record of everything that evidence names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexer.inventory.apply_storage import TagFound
from indexer.inventory.apply_tag_observation import agrees
from indexer.inventory.events import Event, EventAction
from indexer.inventory.known import Known
from indexer.inventory.observations import TagObservation
from indexer.inventory.precedence import CLOCK_MARGIN, absence
from indexer.inventory.records import ManifestKey, TagKey
from indexer.oci.reference import RepositoryName
from indexer.store import events, history, import_absence, manifests, repositories, tags
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection

BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Writing:
    """A transaction: its connection, its locked repositories, what was loaded, and what is known now."""

    connection: Connection
    lookups: Lookups
    repository_ids: dict[RepositoryName, int]
    known: Known = field(default_factory=Known)
    loaded: Known = field(default_factory=Known)
    reconciled: dict[RepositoryName, datetime] = field(default_factory=dict)
    """When repositories were last compared completely; only where that is asked for (``load_for_found``)."""


async def begin(held: Connection, lookups: Lookups, names: Iterable[RepositoryName]) -> Writing:
    """Lock repositories, before anything else is done to them in this transaction."""
    ids = await repositories.lock_repositories(held, names=names)
    return Writing(connection=held, lookups=lookups, repository_ids=ids)


async def load_for_events(writing: Writing, fresh: Sequence[Event]) -> None:
    """Load what is on record of everything that events name."""
    tagged = tags_of_events(fresh)
    writing.known.tags = await tags.find_tags(
        writing.connection, keys=sorted(tagged), repository_ids=writing.repository_ids
    )
    writing.known.histories = await history.find_history(
        writing.connection, since=tagged, repository_ids=writing.repository_ids
    )
    named = {(event.repository, event.digest) for event in fresh if event.digest and not event.is_blob}
    writing.known.manifests = await manifests.find_repository_manifests(
        writing.connection, keys=sorted(named), repository_ids=writing.repository_ids
    )
    deleted = {
        event.digest
        for event in fresh
        if event.digest and event.action in (EventAction.DELETE, EventAction.MOUNT) and event.tag is None
    }
    writing.known.blobs = (
        await manifests.list_only_blobs(writing.connection, digests=deleted) if deleted else set()
    )
    writing.known.dummies = set(await manifests.find_dummies(writing.connection))
    untagged = {
        (event.repository, event.request.id)
        for event in fresh
        if event.action is EventAction.DELETE and event.tag is not None and event.request.id
    }
    if untagged:
        writing.known.causes = await events.find_causes(
            writing.connection, requests=untagged, repository_ids=writing.repository_ids
        )
    remember_loaded(writing)
    await _find_absences(writing, fresh)


async def _find_absences(writing: Writing, fresh: Sequence[Event]) -> None:
    """Add an absence for tags that are not on record and are known not to have existed at an instant.

    For imported events, and for pulls, which show that a tag exists and not since when. It is not part of what was
    loaded, since it has no row.
    """
    unknown = {
        (event.repository, event.tag)
        for event in fresh
        if (event.imported or (event.action is EventAction.PULL and not event.ours))
        and event.tag is not None
        and (event.repository, event.tag) not in writing.known.tags
    }
    if not unknown:
        return
    reconciled = await import_absence.find_reconciled(
        writing.connection, repository_ids=[writing.repository_ids[repository] for repository, _ in unknown]
    )
    for key in unknown:
        timeline = writing.known.histories.get(key, ())
        ended = timeline[-1].valid_to if timeline else None
        known = [at for at in (reconciled.get(writing.repository_ids[key[0]]), ended) if at is not None]
        if known:
            writing.known.tags[key] = absence(key, max(known))


def tags_of_events(fresh: Sequence[Event]) -> dict[TagKey, datetime]:
    """Return the tags that events name, each with the earliest instant of its events."""
    earliest: dict[TagKey, datetime] = {}
    for event in fresh:
        if event.tag is not None and not (event.ours and event.action is EventAction.PULL):
            key = (event.repository, event.tag)
            if key not in earliest or event.occurred_at < earliest[key]:
                earliest[key] = event.occurred_at
    return earliest


async def load_for_observations(writing: Writing, observations: Sequence[TagObservation]) -> None:
    """Load what is on record of observed tags; the history only of those that differ."""
    ids = writing.repository_ids
    keys = [(observation.repository, observation.tag) for observation in observations]
    writing.known.tags = await tags.find_tags(writing.connection, keys=keys, repository_ids=ids)
    differing = [
        observation
        for observation, key in zip(observations, keys, strict=True)
        if not agrees(writing.known.tags.get(key), observation)
    ]
    if differing:
        since = {}
        for observation in differing:
            key = (observation.repository, observation.tag)
            record = writing.known.tags.get(key)
            # Two pushes that raced lie within the clock margin of each other: both must be loaded.
            since[key] = (record.published_at if record is not None else observation.as_of) - CLOCK_MARGIN
        writing.known.histories = await history.find_history(
            writing.connection, since=since, repository_ids=ids
        )
    found: list[ManifestKey] = [(o.repository, o.digest) for o in observations if o.digest is not None]
    writing.known.manifests = await manifests.find_repository_manifests(
        writing.connection, keys=found, repository_ids=ids
    )
    remember_loaded(writing)


async def load_for_found(writing: Writing, found: Sequence[TagFound]) -> None:
    """Load what is on record of tags that lie in the storage: all of their history, and their manifests."""
    ids = writing.repository_ids
    keys = [(each.repository, each.tag) for each in found]
    writing.known.tags = await tags.find_tags(writing.connection, keys=keys, repository_ids=ids)
    writing.known.histories = await history.find_history(
        writing.connection, since=dict.fromkeys(keys, BEFORE_ALL), repository_ids=ids
    )
    writing.known.manifests = await manifests.find_repository_manifests(
        writing.connection,
        keys=list({(each.repository, each.digest) for each in found}),
        repository_ids=ids,
    )
    writing.known.dummies = set(await manifests.find_dummies(writing.connection))
    names = {number: name for name, number in ids.items()}
    reconciled = await import_absence.find_reconciled(writing.connection, repository_ids=list(names))
    writing.reconciled = {names[number]: at for number, at in reconciled.items()}
    remember_loaded(writing)


def remember_loaded(writing: Writing) -> None:
    """Keep what was loaded beside what is known from now on: rows are written by the difference."""
    writing.loaded = Known(
        tags=dict(writing.known.tags),
        histories=dict(writing.known.histories),
        manifests=dict(writing.known.manifests),
        blobs=set(writing.known.blobs),
        causes=dict(writing.known.causes),
    )
