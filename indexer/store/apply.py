"""The one door through which the inventory changes: evidence in, one transaction out.

Both kinds of evidence take the same way: lock the repositories, load what is on record, let ``inventory``
decide, write state, history, audit and due work together. The order of locks is the same for everyone:
repositories by id, then unread manifests and blobs by digest; so writers wait for each other but never in a
circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    BlobHeard,
    Change,
    Due,
    DueKind,
    Entry,
    Finding,
    ManifestChanged,
    Pulled,
    TagChanged,
    TagsOfDigestDue,
)
from indexer.inventory.events import Event, EventAction
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.inventory.records import ManifestKey, ManifestRecord, TagKey, TagRecord, TimeSource
from indexer.inventory.seen import Judgement, TagObservation, agrees, as_deletion, see
from indexer.inventory.told import Known, tell
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.kinds import Kind
from indexer.oci.media_types import is_index
from indexer.oci.reference import RepositoryName
from indexer.store import audit, contents, drift, due, events, history, manifests, repositories, tags
from indexer.store.due import DueKey
from indexer.store.identifiers import event_key
from indexer.store.instants import FOR_EVER, NEVER
from indexer.store.lookups import Facet, Lookups, Span
from indexer.store.pool import Connection, Pool, connection
from indexer.store.repositories import Counted

FIRST_LOOK_DELAY = timedelta(milliseconds=150)
"""A registry announces a push before it writes the tag's link: p99 23 ms on a local disk, more on object stores."""

MEASURE_DELAY = timedelta(seconds=1)
"""Sizes of a repository are recomputed this long after its manifests changed, once for all changes since."""


class Stored(Enum):
    """What became of a look."""

    CONFIRMED = "confirmed"
    CHANGED = "changed"
    DOUBTED = "doubted"
    OVERTAKEN = "overtaken"
    """News arrived while the look was under way; look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """An observation, and the revision the record had before it was made (0: nothing was on record).

    ``first_walk``: the repository was never compared before. ``absent_at``: when it was, last.
    """

    observation: TagObservation
    revision: int
    first_walk: bool = False
    absent_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a batch of events came to: those that were new, and how many were not."""

    fresh: Sequence[Event]
    repeated: int

    @property
    def applied(self) -> int:
        """How many events were new."""
        return len(self.fresh)


async def prepare(pool: Pool, lookups: Lookups, batch: Sequence[Event]) -> None:
    """Commit the words a batch uses before the transaction that uses them: see ``lookups``."""
    heard = repositories.earliest((event.repository, event.occurred_at) for event in batch)
    if heard:
        async with connection(pool) as held:
            await repositories.add_repositories(held, heard=heard)
    await lookups.refresh()
    await lookups.actors(event.actor for event in batch if event.actor)
    await lookups.clients(event.request for event in batch)
    await lookups.instances(event.instance for event in batch)
    await lookups.facets(Facet(media_type=e.media_type, kind=_told_kind(e.media_type)) for e in batch)


async def tell_all(
    held: Connection, lookups: Lookups, batch: Sequence[Event], *, now: datetime, pulls_apart: bool = True
) -> Told:
    """Apply events in their order, in the caller's transaction. :func:`prepare` must have been called.

    ``pulls_apart``: entries of pulls are kept beside the log, which takes them in later, coalesced.
    """
    fresh = await _drop_repeated(held, batch, now=now)
    if not fresh:
        return Told(fresh=(), repeated=len(batch))
    writing = await _begin(held, lookups, {event.repository for event in fresh})
    await _load_for_events(writing, fresh)
    changes = [change for event in fresh for change in tell(writing.known, event)]
    await _write(writing, changes, now=now, run_id=None, pulls_apart=pulls_apart)
    causes = {key: event for key, event in writing.known.causes.items() if key not in writing.loaded.causes}
    if causes:
        await events.add_causes(held, causes=causes, repository_ids=writing.repository_ids, at=now)
    await _count_events(writing, fresh)
    return Told(fresh=fresh, repeated=len(batch) - len(fresh))


async def see_all(
    held: Connection,
    lookups: Lookups,
    looks: Sequence[Look],
    *,
    source: AuditSource,
    now: datetime,
    run_id: int | None = None,
) -> list[Stored]:
    """Store looks, each only if its tag's revision is what it was before the look; one per tag.

    In the caller's transaction. The repositories must be on record.
    """
    dummies = await manifests.find_dummies(held)
    looks = [replace(look, observation=as_deletion(look.observation, dummies)) for look in looks]
    observations = [look.observation for look in looks]
    writing = await _begin(held, lookups, {observation.repository for observation in observations})
    await _load_for_looks(writing, observations)
    stored: list[Stored] = []
    changes: list[Change] = []
    for look in looks:
        key = (look.observation.repository, look.observation.tag)
        record = writing.known.tags.get(key)
        if (record.revision if record is not None else 0) != look.revision:
            stored.append(Stored.OVERTAKEN)
            continue
        seen = see(
            record,
            writing.known.histories.get(key, ()),
            look.observation,
            source=source,
            first_walk=look.first_walk,
            absent_at=look.absent_at,
        )
        changes += seen.changes
        stored.append(_STORED[seen.judgement])
    await _write(writing, changes, now=now, run_id=run_id)
    return stored


async def apply_changes(
    held: Connection,
    lookups: Lookups,
    changes: Sequence[Change],
    *,
    repository: RepositoryName,
    now: datetime,
    run_id: int | None = None,
) -> None:
    """Write changes of one repository that need no record but the one they carry; in the caller's transaction."""
    writing = await _begin(held, lookups, {repository})
    keys = [(c.after.repository, c.after.digest) for c in changes if isinstance(c, ManifestChanged)]
    writing.known.manifests = await manifests.find_held_manifests(
        held, keys=keys, repository_ids=writing.repository_ids
    )
    _remember_loaded(writing)
    await _write(writing, changes, now=now, run_id=run_id)


_STORED = {
    Judgement.CONFIRMED: Stored.CONFIRMED,
    Judgement.CHANGED: Stored.CHANGED,
    Judgement.DOUBTED: Stored.DOUBTED,
}


@dataclass(slots=True, kw_only=True)
class _Writing:
    """One transaction's view: the connection, the locked repositories, what was loaded and what is known now."""

    connection: Connection
    lookups: Lookups
    repository_ids: dict[RepositoryName, int]
    known: Known = field(default_factory=Known)
    loaded: Known = field(default_factory=Known)


async def _begin(held: Connection, lookups: Lookups, names: Iterable[RepositoryName]) -> _Writing:
    ids = await repositories.lock_repositories(held, names=names)
    return _Writing(connection=held, lookups=lookups, repository_ids=ids)


async def _drop_repeated(held: Connection, batch: Sequence[Event], *, now: datetime) -> list[Event]:
    by_key = {event_key(event.id): event for event in reversed(batch)}
    new = await events.remember_events(held, keys=by_key, at=now) if by_key else set()
    fresh = []
    for event in batch:
        key = event_key(event.id)
        if key in new:
            new.discard(key)
            fresh.append(event)
    return fresh


async def _load_for_events(writing: _Writing, fresh: Sequence[Event]) -> None:
    tagged = repositories_tags(fresh)
    writing.known.tags = await tags.find_tags(
        writing.connection, keys=sorted(tagged), repository_ids=writing.repository_ids
    )
    writing.known.histories = await history.find_history(
        writing.connection, since=tagged, repository_ids=writing.repository_ids
    )
    held = {(event.repository, event.digest) for event in fresh if event.digest and not event.is_blob}
    writing.known.manifests = await manifests.find_held_manifests(
        writing.connection, keys=sorted(held), repository_ids=writing.repository_ids
    )
    deleted = {
        event.digest
        for event in fresh
        if event.digest and event.action in (EventAction.DELETE, EventAction.MOUNT) and event.tag is None
    }
    writing.known.blobs = (
        set(await manifests.find_blobs(writing.connection, digests=deleted)) if deleted else set()
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
    _remember_loaded(writing)


def repositories_tags(fresh: Sequence[Event]) -> dict[TagKey, datetime]:
    """Return the tags that events name, each with the earliest instant they speak of."""
    earliest: dict[TagKey, datetime] = {}
    for event in fresh:
        if event.tag is not None and not (event.ours and event.action is EventAction.PULL):
            key = (event.repository, event.tag)
            if key not in earliest or event.occurred_at < earliest[key]:
                earliest[key] = event.occurred_at
    return earliest


async def _load_for_looks(writing: _Writing, observations: Sequence[TagObservation]) -> None:
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
    found: list[ManifestKey] = [(o.repository, o.digest) for o in differing if o.digest is not None]
    writing.known.manifests = await manifests.find_held_manifests(
        writing.connection, keys=found, repository_ids=ids
    )
    _remember_loaded(writing)


def _remember_loaded(writing: _Writing) -> None:
    writing.loaded = Known(
        tags=dict(writing.known.tags),
        histories=dict(writing.known.histories),
        manifests=dict(writing.known.manifests),
        blobs=set(writing.known.blobs),
        causes=dict(writing.known.causes),
    )


@dataclass(slots=True, kw_only=True)
class _Sorted:
    """Changes by what they change, each noun's last state only; entries and findings in their order."""

    tags: dict[TagKey, TagChanged] = field(default_factory=dict)
    held: dict[ManifestKey, ManifestRecord] = field(default_factory=dict)
    heard: dict[Digest, manifests.Heard] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    pulls: list[Pulled] = field(default_factory=list)
    dues: list[Due] = field(default_factory=list)
    doubtful: list[TagsOfDigestDue] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def _sort(changes: Iterable[Change], loaded: Known) -> _Sorted:  # noqa: C901 - one case per kind of change
    by = _Sorted()
    for change in changes:
        match change:
            case TagChanged():
                by.tags[change.after.key] = change
            case ManifestChanged():
                key = (change.after.repository, change.after.digest)
                by.held[key] = _held(by.held.get(key) or loaded.manifests.get(key), change)
                if change.media_type or change.size_bytes:
                    by.heard[change.after.digest] = manifests.Heard(
                        media_type=change.media_type, size_bytes=change.size_bytes
                    )
            case BlobHeard():
                by.blobs[change.digest] = max(change.size_bytes, by.blobs.get(change.digest, 0))
            case Pulled():
                by.pulls.append(change)
            case Due():
                by.dues.append(change)
            case TagsOfDigestDue():
                by.doubtful.append(change)
            case Entry():
                by.entries.append(change)
            case Finding():
                by.findings.append(change)
    return by


def _held(before: ManifestRecord | None, change: ManifestChanged) -> ManifestRecord:
    """Weigh a look, which carries no record, against the one on record.

    Held already: it is still there. Deleted after the look: it stays deleted. Told changes were decided on the
    record itself.
    """
    after = change.after
    if change.before is not None or before is None:
        return after
    if before.present:
        return replace(before, as_of=max(before.as_of, after.as_of))
    return before if before.as_of > after.as_of else after


async def _write(
    writing: _Writing,
    changes: Sequence[Change],
    *,
    now: datetime,
    run_id: int | None,
    pulls_apart: bool = False,
) -> None:
    by = _sort(changes, writing.loaded)
    manifest_rows = await _write_content(writing, by)
    manifest_ids = {digest: row.id for digest, row in manifest_rows.items()}
    actor_ids = await writing.lookups.actors(_actors(by))
    counted: dict[int, Counted] = {}
    await _write_held(writing, by, counted, manifest_ids, actor_ids)
    await _write_tags(writing, by, counted, manifest_ids, actor_ids)
    await _write_pulls(writing, by, counted)
    if by.entries:
        await _write_entries(writing, by, manifest_ids, actor_ids, counted, pulls_apart=pulls_apart)
    await _write_due(writing, by, manifest_rows, now=now)
    if counted:
        await repositories.count_repositories(
            writing.connection, counted=counted, never=NEVER, for_ever=FOR_EVER
        )
    if by.findings:
        await drift.add_findings(
            writing.connection, findings=by.findings, run_id=run_id, repository_ids=writing.repository_ids
        )


def _actors(by: _Sorted) -> set[str]:
    names = {change.after.pushed_by for change in by.tags.values()}
    names |= {part.actor for change in by.tags.values() for part in change.history}
    names |= {record.pushed_by for record in by.held.values()}
    names |= {entry.event.actor for entry in by.entries if entry.event is not None}
    return {name for name in names if name}


async def _write_content(writing: _Writing, by: _Sorted) -> dict[Digest, manifests.ManifestRow]:
    """Add the manifests and blobs that anything written here refers to."""
    wanted: set[Digest] = {digest for _, digest in by.held}
    for change in by.tags.values():
        wanted |= {part.digest for part in change.history}
        if change.after.digest is not None:
            wanted.add(change.after.digest)
    for entry in by.entries:
        if entry.previous_digest is not None:
            wanted.add(entry.previous_digest)
        if entry.digest is not None:
            if entry.action in audit.BLOB_ACTIONS:
                by.blobs.setdefault(entry.digest, 0)
            else:
                wanted.add(entry.digest)
    if not wanted:
        return {}
    facets = {
        digest: Facet(media_type=heard.media_type, kind=_told_kind(heard.media_type))
        for digest in wanted
        for heard in [by.heard.get(digest, manifests.Heard())]
    }
    facet_ids = await writing.lookups.facets(facets.values())
    return await manifests.add_manifests(
        writing.connection,
        heard={
            digest: (by.heard[digest].size_bytes if digest in by.heard else 0, facet_ids[facet])
            for digest, facet in facets.items()
        },
    )


def _told_kind(media_type: str) -> str:
    """An index is known by its media type; what else a manifest is, only its content tells."""
    return Kind.INDEX if is_index(media_type) else Kind.UNKNOWN


async def _write_held(
    writing: _Writing,
    by: _Sorted,
    counted: dict[int, Counted],
    manifest_ids: dict[Digest, int],
    actor_ids: dict[str, int],
) -> None:
    if not by.held:
        return
    await manifests.hold_manifests(
        writing.connection,
        records=list(by.held.values()),
        repository_ids=writing.repository_ids,
        manifest_ids=manifest_ids,
        actor_ids=actor_ids,
    )
    for key, record in by.held.items():
        before = writing.loaded.manifests.get(key)
        change = int(record.present) - int(before is not None and before.present)
        _counted(writing, counted, record.repository).manifests += change


async def _write_tags(
    writing: _Writing,
    by: _Sorted,
    counted: dict[int, Counted],
    manifest_ids: dict[Digest, int],
    actor_ids: dict[str, int],
) -> None:
    if not by.tags:
        return
    held, ids = writing.connection, writing.repository_ids
    live = [change.after for change in by.tags.values() if change.after.live]
    dead = [change.after for change in by.tags.values() if not change.after.live]
    before = writing.loaded.tags
    buried = [record.key for record in live if record.key in before and not before[record.key].live]
    ended = [record.key for record in dead if record.key in before and before[record.key].live]
    if buried:
        await tags.drop_tombstones(held, keys=buried, repository_ids=ids)
    if ended:
        await tags.drop_tags(held, keys=ended, repository_ids=ids)
    if dead:
        await tags.put_tombstones(held, records=dead, repository_ids=ids)
    if live:
        unknown = Facet(media_type="")
        await tags.put_tags(
            held,
            records=live,
            repository_ids=ids,
            manifest_ids=manifest_ids,
            actor_ids=actor_ids,
            unknown_facet_id=(await writing.lookups.facets([unknown]))[unknown],
        )
        weak = [r.digest for r in live if r.published_source is TimeSource.FIRST_SEEN and r.digest]
        if weak:
            await contents.describe_tags(held, manifest_ids=[manifest_ids[digest] for digest in weak])
    await history.write_history(
        held,
        changed=[
            (key, writing.loaded.histories.get(key, ()), change.history) for key, change in by.tags.items()
        ],
        repository_ids=ids,
        manifest_ids=manifest_ids,
        actor_ids=actor_ids,
    )
    for key, change in by.tags.items():
        _count_tag(_counted(writing, counted, key[0]), before.get(key), change.after)


def _count_tag(row: Counted, before: TagRecord | None, after: TagRecord) -> None:
    row.tags += int(after.live) - int(before is not None and before.live)
    if after.digest is not None and (before is None or before.digest != after.digest):
        row.published_at = max(row.published_at or NEVER, after.published_at)


async def _write_pulls(writing: _Writing, by: _Sorted, counted: dict[int, Counted]) -> None:
    if not by.pulls:
        return
    of_tags: dict[tuple[int, str], tuple[datetime, int]] = {}
    of_manifests: dict[tuple[int, bytes], tuple[datetime, int]] = {}
    for pull in by.pulls:
        repository_id = writing.repository_ids[pull.repository]
        row = _counted(writing, counted, pull.repository)
        row.pulled_at = max(row.pulled_at or NEVER, pull.at)
        if pull.tag is not None:
            latest, count = of_tags.get((repository_id, pull.tag), (pull.at, 0))
            of_tags[repository_id, pull.tag] = (max(latest, pull.at), count + 1)
        if pull.digest is not None:
            packed = digest_to_bytes(pull.digest)
            latest, count = of_manifests.get((repository_id, packed), (pull.at, 0))
            of_manifests[repository_id, packed] = (max(latest, pull.at), count + 1)
    if of_tags:
        await tags.add_pulls(writing.connection, pulls=of_tags)
    if of_manifests:
        await tags.add_manifest_pulls(writing.connection, pulls=of_manifests)


async def _write_entries(
    writing: _Writing,
    by: _Sorted,
    manifest_ids: dict[Digest, int],
    actor_ids: dict[str, int],
    counted: dict[int, Counted],
    *,
    pulls_apart: bool,
) -> None:
    told = [entry.event for entry in by.entries if entry.event is not None]
    blob_ids = await manifests.add_blobs(writing.connection, sizes=by.blobs) if by.blobs else {}
    ids = audit.EntryIds(
        repositories=writing.repository_ids,
        manifests=manifest_ids,
        blobs=blob_ids,
        actors=actor_ids,
        clients=await writing.lookups.clients(event.request for event in told),
        instances=await writing.lookups.instances(event.instance for event in told),
    )
    apart = [e for e in by.entries if pulls_apart and e.action is AuditAction.MANIFEST_PULLED]
    logged = [e for e in by.entries if not (pulls_apart and e.action is AuditAction.MANIFEST_PULLED)]
    if logged:
        await audit.stage_entries(writing.connection, entries=logged, ids=ids)
    if apart:
        await audit.stage_pulls(writing.connection, entries=apart, ids=ids)
    for event in told:
        row = _counted(writing, counted, event.repository)
        row.heard_at = min(row.heard_at or event.occurred_at, event.occurred_at)


async def _write_due(
    writing: _Writing, by: _Sorted, manifest_rows: dict[Digest, manifests.ManifestRow], *, now: datetime
) -> None:
    ids = writing.repository_ids
    looks = {
        DueKey(kind=item.kind, repository_id=ids[item.repository], key=item.key)
        for item in by.dues
        if item.kind is DueKind.VERIFY
    }
    if by.doubtful:
        keys = [(item.repository, item.digest) for item in by.doubtful]
        found = await tags.tags_of_digests(writing.connection, keys=keys, repository_ids=ids)
        looks |= {DueKey(kind=DueKind.VERIFY, repository_id=number, key=tag) for number, tag in found}
    reads = {
        DueKey(kind=DueKind.RESOLVE, repository_id=ids[item.repository], key=item.key)
        for item in by.dues
        if item.kind is DueKind.RESOLVE and not manifest_rows[Digest(item.key)].read
    }
    measures = {
        DueKey(kind=DueKind.MEASURE, repository_id=ids[repository], key="") for repository, _ in by.held
    }
    due_at = dict.fromkeys(looks, now + FIRST_LOOK_DELAY) | dict.fromkeys(reads, now)
    due_at |= dict.fromkeys(measures, now + MEASURE_DELAY)
    await due.make_due_at(writing.connection, due_at=due_at, now=now)


async def _count_events(writing: _Writing, fresh: Sequence[Event]) -> None:
    ids = await writing.lookups.instances(event.instance for event in fresh)
    heard: dict[int, list[Event]] = {}
    for event in fresh:
        heard.setdefault(ids[event.instance], []).append(event)
    spans = {
        number: Span(
            events=len(events),
            first_at=min(event.occurred_at for event in events),
            last_at=max(event.occurred_at for event in events),
            received_at=max(event.received_at for event in events),
        )
        for number, events in heard.items()
    }
    await writing.lookups.count_instance_events(writing.connection, spans=spans)


def _counted(writing: _Writing, counted: dict[int, Counted], repository: RepositoryName) -> Counted:
    return counted.setdefault(writing.repository_ids[repository], Counted())
