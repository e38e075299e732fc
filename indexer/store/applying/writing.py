"""Changes into rows: manifests and blobs first, then what refers to them, history, log, work items and counters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from indexer.inventory.changes import Change, WorkKind, WorkRequested
from indexer.inventory.records import TagRecord, TimeSource
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.kinds import Kind
from indexer.oci.media_types import is_index
from indexer.oci.reference import RepositoryName
from indexer.store import audit, drift, history, manifest_contents, manifests, repositories, tags, work_items
from indexer.store.applying.by_kind import ChangesByKind, by_kind
from indexer.store.applying.loading import Writing
from indexer.store.instants import FOR_EVER, NEVER
from indexer.store.lookups import Facet
from indexer.store.repositories import Counted
from indexer.store.work_items import WorkKey


async def write(
    writing: Writing,
    changes: Sequence[Change],
    *,
    now: datetime,
    run_id: int | None,
    pulls_apart: bool = False,
) -> None:
    """Write changes, in the transaction that loaded the records they were decided on."""
    by = by_kind(changes)
    manifest_rows = await _add_contents(writing, by)
    manifest_ids = {digest: row.id for digest, row in manifest_rows.items()}
    actor_ids = await writing.lookups.actors(_actors(by))
    counted: dict[int, Counted] = {}
    await _write_manifests(writing, by, counted, manifest_ids, actor_ids)
    await _write_tags(writing, by, counted, manifest_ids, actor_ids)
    await _write_pulls(writing, by, counted)
    if by.entries:
        await _write_entries(writing, by, manifest_ids, actor_ids, counted, pulls_apart=pulls_apart)
    await _write_work(writing, by, manifest_rows, now=now)
    if counted:
        await repositories.count_repositories(
            writing.connection, counted=counted, never=NEVER, for_ever=FOR_EVER
        )
    if by.findings:
        await drift.add_findings(
            writing.connection, findings=by.findings, run_id=run_id, repository_ids=writing.repository_ids
        )


def _actors(by: ChangesByKind) -> set[str]:
    names = {change.after.pushed_by for change in by.tags.values()}
    names |= {part.actor for change in by.tags.values() for part in change.history}
    names |= {record.pushed_by for record in by.manifests.values()}
    names |= {entry.event.actor for entry in by.entries if entry.event is not None}
    return {name for name in names if name}


async def _add_contents(writing: Writing, by: ChangesByKind) -> dict[Digest, manifests.ManifestRow]:
    """Add the manifests and blobs that anything written here refers to."""
    wanted: set[Digest] = {digest for _, digest in by.manifests}
    wanted |= {
        Digest(item.key) for item in by.work if item.kind is WorkKind.RESOLVE and not item.even_if_read
    }
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
        digest: Facet(media_type=announced.media_type, kind=announced_kind(announced.media_type))
        for digest in wanted
        for announced in [by.announced.get(digest, manifests.Announced())]
    }
    facet_ids = await writing.lookups.facets(facets.values())
    return await manifests.add_manifests(
        writing.connection,
        announced={
            digest: (by.announced[digest].size_bytes if digest in by.announced else 0, facet_ids[facet])
            for digest, facet in facets.items()
        },
    )


def announced_kind(media_type: str) -> str:
    """Return the kind as far as a media type shows it: an index. For any other kind the content must be read."""
    return Kind.INDEX if is_index(media_type) else Kind.UNKNOWN


async def _write_manifests(
    writing: Writing,
    by: ChangesByKind,
    counted: dict[int, Counted],
    manifest_ids: dict[Digest, int],
    actor_ids: dict[str, int],
) -> None:
    if not by.manifests:
        return
    written = await manifests.put_repository_manifests(
        writing.connection,
        records=list(by.manifests.values()),
        repository_ids=writing.repository_ids,
        manifest_ids=manifest_ids,
        actor_ids=actor_ids,
    )
    for key, record in by.manifests.items():
        if (writing.repository_ids[record.repository], manifest_ids[record.digest]) not in written:
            continue
        before = writing.loaded.manifests.get(key)
        change = int(record.present) - int(before is not None and before.present)
        _counted(writing, counted, record.repository).manifests += change


async def _write_tags(
    writing: Writing,
    by: ChangesByKind,
    counted: dict[int, Counted],
    manifest_ids: dict[Digest, int],
    actor_ids: dict[str, int],
) -> None:
    if not by.tags:
        return
    held, ids = writing.connection, writing.repository_ids
    live = [change.after for change in by.tags.values() if change.after.live]
    deleted = [change.after for change in by.tags.values() if not change.after.live]
    before = writing.loaded.tags
    revived = [record.key for record in live if record.key in before and not before[record.key].live]
    ended = [record.key for record in deleted if record.key in before and before[record.key].live]
    if revived:
        await tags.drop_tombstones(held, keys=revived, repository_ids=ids)
    if ended:
        await tags.drop_tags(held, keys=ended, repository_ids=ids)
    if deleted:
        await tags.put_tombstones(held, records=deleted, repository_ids=ids)
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
    await history.write_history(
        held,
        changed=[
            (key, writing.loaded.histories.get(key, ()), change.history) for key, change in by.tags.items()
        ],
        repository_ids=ids,
        manifest_ids=manifest_ids,
        actor_ids=actor_ids,
    )
    # After the history: the image's creation time is used only where the history does not say that the tag is younger.
    weak = [r.digest for r in live if r.published_source is TimeSource.FIRST_SEEN and r.digest]
    if weak:
        await manifest_contents.describe_tags(held, manifest_ids=[manifest_ids[digest] for digest in weak])
    for key, change in by.tags.items():
        row = _counted(writing, counted, key[0])
        _count_tag(row, before.get(key), change.after)
        # A tag that was pushed and deleted in one batch was published all the same.
        for interval in change.history:
            row.published_at = max(row.published_at or NEVER, interval.valid_from)


def _count_tag(row: Counted, before: TagRecord | None, after: TagRecord) -> None:
    row.tags += int(after.live) - int(before is not None and before.live)
    if after.digest is not None and (before is None or before.digest != after.digest):
        row.published_at = max(row.published_at or NEVER, after.published_at)


async def _write_pulls(writing: Writing, by: ChangesByKind, counted: dict[int, Counted]) -> None:
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
    checked = await _write_checks(writing, by, counted)
    if of_manifests or checked:
        await tags.add_manifest_pulls(writing.connection, pulls=of_manifests, checks=checked)


async def _write_checks(
    writing: Writing, by: ChangesByKind, counted: dict[int, Counted]
) -> dict[tuple[int, bytes], datetime]:
    """Write when tags and repositories were last checked; return the same of manifests."""
    of_tags: dict[tuple[int, str], datetime] = {}
    of_manifests: dict[tuple[int, bytes], datetime] = {}
    for check in by.checks:
        repository_id = writing.repository_ids[check.repository]
        row = _counted(writing, counted, check.repository)
        row.checked_at = max(row.checked_at or NEVER, check.at)
        if check.tag is not None:
            of_tag = (repository_id, check.tag)
            of_tags[of_tag] = max(of_tags.get(of_tag, check.at), check.at)
        of_manifest = (repository_id, digest_to_bytes(check.digest))
        of_manifests[of_manifest] = max(of_manifests.get(of_manifest, check.at), check.at)
    if of_tags:
        await tags.add_checks(writing.connection, checks=of_tags)
    return of_manifests


async def _write_entries(
    writing: Writing,
    by: ChangesByKind,
    manifest_ids: dict[Digest, int],
    actor_ids: dict[str, int],
    counted: dict[int, Counted],
    *,
    pulls_apart: bool,
) -> None:
    events = [entry.event for entry in by.entries if entry.event is not None]
    blob_ids = await manifests.add_blobs(writing.connection, sizes=by.blobs) if by.blobs else {}
    ids = audit.EntryIds(
        repositories=writing.repository_ids,
        manifests=manifest_ids,
        blobs=blob_ids,
        actors=actor_ids,
        clients=await writing.lookups.clients(event.request for event in events),
        instances=await writing.lookups.instances(event.instance for event in events),
    )
    apart = [e for e in by.entries if pulls_apart and e.action in audit.PULL_ACTIONS]
    logged = [e for e in by.entries if not (pulls_apart and e.action in audit.PULL_ACTIONS)]
    if logged:
        await audit.stage_entries(writing.connection, entries=logged, ids=ids)
    if apart:
        await audit.stage_pulls(writing.connection, entries=apart, ids=ids)
    for event in events:
        row = _counted(writing, counted, event.repository)
        row.announced_at = min(row.announced_at or event.occurred_at, event.occurred_at)


async def _write_work(
    writing: Writing, by: ChangesByKind, manifest_rows: dict[Digest, manifests.ManifestRow], *, now: datetime
) -> None:
    ids = writing.repository_ids
    verifications = {
        WorkKey(kind=item.kind, repository_id=ids[item.repository], key=item.key)
        for item in by.work
        if item.kind is WorkKind.VERIFY
    }
    if by.digests_to_verify:
        keys = [(item.repository, item.digest) for item in by.digests_to_verify]
        found = await tags.tags_of_digests(writing.connection, keys=keys, repository_ids=ids)
        verifications |= {
            WorkKey(kind=WorkKind.VERIFY, repository_id=number, key=tag) for number, tag in found
        }
    wanted = [
        (
            WorkKey(kind=WorkKind.RESOLVE, repository_id=ids[item.repository], key=item.key),
            item.unless_waiting,
        )
        for item in by.work
        if item.kind is WorkKind.RESOLVE and _is_to_be_read(item, manifest_rows)
    ]
    reads = {key for key, unless_waiting in wanted if not unless_waiting}
    missing = {key for key, unless_waiting in wanted if unless_waiting} - reads
    measures = {
        WorkKey(kind=WorkKind.MEASURE, repository_id=ids[repository], key="")
        for repository, _ in by.manifests
    }
    due_at = dict.fromkeys(verifications, now + work_items.FIRST_OBSERVATION_DELAY) | dict.fromkeys(
        reads, now
    )
    due_at |= dict.fromkeys(measures, now + work_items.MEASURE_DELAY)
    await work_items.enqueue_at(writing.connection, due_at=due_at, now=now)
    await work_items.enqueue_once(writing.connection, keys=missing, now=now)


def _counted(writing: Writing, counted: dict[int, Counted], repository: RepositoryName) -> Counted:
    return counted.setdefault(writing.repository_ids[repository], Counted())


def _is_to_be_read(item: WorkRequested, rows: dict[Digest, manifests.ManifestRow]) -> bool:
    """Tell whether to read a manifest: a pushed one unless it was read in full, a confirmed one unless it was read."""
    if item.even_if_read:
        return True
    row = rows[Digest(item.key)]
    return not row.read if item.unless_waiting else row.content != "read"
