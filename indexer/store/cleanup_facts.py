"""What is on record of repositories, as policies are evaluated with it (``policies.facts``): times as intervals.

- An event's instant is exact. A time of the storage is the latest it can be; so is the first observation, which has a
  beginning where an observation before it did not see the tag. What an image says of its creation is never used.
- A manifest was pushed at its event, or before it was first observed.
- Pulls are known since the registry announced the first. Gaps are intervals in which events may have been lost, what
  waits to be applied, and the time since the receiver last reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from indexer.inventory.records import TimeSource
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.policies.facts import Coverage, Gap, ManifestFacts, Past, Pull, RepositoryFacts, TagFacts
from indexer.policies.intervals import LONG_AGO, Between
from indexer.policies.rules import Policy
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("cleanup_facts")

RECEIVER_REPORTS_WITHIN = timedelta(minutes=2)
APPLIED_WITHIN = timedelta(minutes=1)
"""What waits for longer may be pulls that nobody knows of yet."""

DELETED_WITHIN = timedelta(minutes=1)
"""How much later than we recorded our deletion of a tag it may have ended by the registry's clock."""

_STRUCTURE = ("manifests", "layers", "subject", "config", "document")
"""Parts of a manifest that say what it refers to."""

_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRow:
    """A repository: how much is in it, and when the last complete comparison of it began (None: never)."""

    id: int
    name: str
    tag_count: int
    manifest_count: int
    last_reconciled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What holds for the whole registry. ``position``: of the log. ``suspected_at``: events may be lost before it.

    ``dropped_until``: nobody knows who pulled before it, as its entries have left the log; None: none have.
    """

    coverage: Coverage
    position: int
    suspected_at: datetime | None
    dropped_until: datetime | None = None

    def coverage_for(self, wanted: Wanted) -> Coverage:
        """Return the coverage for a policy: for one that asks who pulled, pulls that left the log are missed."""
        if wanted.pulls_since is None or self.dropped_until is None:
            return self.coverage
        gap = Gap(LONG_AGO, self.dropped_until, "the log does not have who pulled before")
        return replace(self.coverage, gaps=[*self.coverage.gaps, gap])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which facts a policy asks for; the others are not read.

    ``pulls_since``: pulls by whom, since when; None: only when anybody pulled last.
    """

    configs: bool = False
    annotations: tuple[str, ...] = ()
    history: bool = False
    by_tag: bool = False
    pulls_since: datetime | None = None


def wanted_by(policy: Policy, *, in_use: bool, now: datetime) -> Wanted:
    """Return what a policy asks for; ``in_use``: some source reported something."""
    use = policy.use
    ignores = bool(use.ignored_actors or use.ignored_addresses)
    return Wanted(
        configs=in_use,
        annotations=tuple(sorted({rule.annotation for rule in policy.delete if rule.annotation is not None})),
        history=bool(policy.previous),
        by_tag=not use.digest_pulls_count_for_tags,
        pulls_since=now - longest_period(policy) if ignores else None,
    )


def longest_period(policy: Policy) -> timedelta:
    """Return the longest period for which a policy asks about pulls."""
    untagged = policy.untagged
    periods = [
        policy.undo.unlink_after,
        *(rule.pulled_within for rule in policy.keep),
        *(rule.unused for rule in policy.delete),
        *(() if untagged is None else (untagged.unused, *(each.pulled_within for each in untagged.keep))),
    ]
    return max((each for each in periods if each is not None), default=timedelta(0)) + timedelta(days=1)


async def list_repositories(
    connection: Connection, *, names: Iterable[str] | None = None
) -> list[RepositoryRow]:
    """Return every repository that has a tag or a manifest, or those of some names, in the order of names."""
    wanted = None if names is None else list(names)
    return [RepositoryRow(**dict(row)) for row in await connection.fetch(SQL["repositories"], wanted)]


async def known(connection: Connection, *, now: datetime) -> Known:
    """Return what is known of the whole registry: since when pulls are, and where some may be missing."""
    row = await connection.fetchrow(SQL["coverage"])
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row; tells mypy
    gaps = [
        Gap(each["from_at"], each["to_at"], each["because"] or "events may have been lost")
        for each in await connection.fetch(SQL["gaps"])
    ]
    receiver_at, waiting_since = row["receiver_at"], row["waiting_since"]
    if receiver_at is not None and now - receiver_at > RECEIVER_REPORTS_WITHIN:
        gaps.append(Gap(receiver_at, None, "no process of ours takes deliveries"))
    if waiting_since is not None and now - waiting_since > APPLIED_WITHIN:
        gaps.append(Gap(waiting_since, None, "deliveries wait to be applied"))
    since = row["announced_since"]
    return Known(
        coverage=Coverage(
            pulls_since=None if since is None else max(since, row["first_event_at"] or since), gaps=gaps
        ),
        position=row["position"],
        suspected_at=row["suspected_at"],
        dropped_until=row["dropped_until"],
    )


async def load_facts(
    connection: Connection,
    *,
    repositories: Sequence[RepositoryRow],
    wanted: Wanted,
    suspected_at: datetime | None,
) -> list[RepositoryFacts]:
    """Return the facts of some repositories, in their order. Their manifests have no ``blobs``; see ``add_blobs``."""
    ids = [each.id for each in repositories]
    parts = {number: _Parts() for number in ids}
    for row in await connection.fetch(SQL["manifests"], ids, wanted.configs, list(wanted.annotations)):
        parts[row["repository_id"]].add_manifest(row)
    for row in await connection.fetch(SQL["children"], ids):
        parts[row["repository_id"]].add_children(row)
    for row in await connection.fetch(SQL["ended"], ids):
        parts[row["repository_id"]].add_ended(row)
    for row in await connection.fetch(SQL["restored"], ids):
        parts[row["repository_id"]].restored[row["tag"]] = row["restored_at"]
    for row in await connection.fetch(SQL["restored_manifests"], ids):
        restored = parts[row["repository_id"]].restored_manifests
        restored[digest_from_bytes(row["digest"])] = row["restored_at"]
    for row in await connection.fetch(SQL["tags"], ids):
        parts[row["repository_id"]].add_tag(row)
    for row in await connection.fetch(SQL["gone"], ids):
        at = row["deleted_at"]
        parts[row["repository_id"]].gone[digest_from_bytes(row["digest"])] = Between(at, at)
    for row in await connection.fetch(SQL["deleted_by"], ids):
        parts[row["repository_id"]].deleted[digest_from_bytes(row["digest"]), row["tag"]] = (
            row["ended_at"],
            row["rule"] or row["policy"],
        )
    await _load_pulls(connection, ids, parts, wanted)
    return [
        parts[each.id].facts(each.name, _incomplete(each, suspected_at), with_history=wanted.history)
        for each in repositories
    ]


async def _load_pulls(
    connection: Connection, ids: Sequence[int], parts: Mapping[int, _Parts], wanted: Wanted
) -> None:
    if wanted.by_tag:
        for row in await connection.fetch(SQL["tag_uses"], ids):
            parts[row["repository_id"]].tag_uses[row["name"]] = row["used_at"]
    if wanted.pulls_since is not None:
        for row in await connection.fetch(SQL["pulls"], ids, wanted.pulls_since):
            parts[row["repository_id"]].add_pull(row)


def _incomplete(repository: RepositoryRow, suspected_at: datetime | None) -> str | None:
    compared = repository.last_reconciled_at
    if compared is None:
        return "it was never compared in full with the registry: run `reconciler once`"
    if suspected_at is not None and compared < suspected_at:
        return "events may have been lost since it was last compared with the registry"
    return None


@dataclass(slots=True)
class _Parts:
    """The rows of one repository, by the ids of manifests, while its facts are put together."""

    manifests: dict[int, Any] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    children: dict[int, tuple[str, ...]] = field(default_factory=dict)
    tags: list[TagFacts] = field(default_factory=list)
    tagged: set[int] = field(default_factory=set)
    names_of: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    bared: dict[int, Between] = field(default_factory=dict)
    before: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    history: dict[str, list[Past]] = field(default_factory=lambda: defaultdict(list))
    restored: dict[str, datetime] = field(default_factory=dict)
    restored_manifests: dict[str, datetime] = field(default_factory=dict)
    gone: dict[str, Between] = field(default_factory=dict)
    bared_of: dict[int, str] = field(default_factory=dict)
    deleted: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)
    tag_uses: dict[str, datetime] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    seen: dict[str, datetime] = field(default_factory=dict)

    def add_manifest(self, row: Any) -> None:
        """Take up a manifest."""
        self.manifests[row["id"]] = row
        self.digests[row["id"]] = digest_from_bytes(row["digest"])

    def add_children(self, row: Any) -> None:
        """Take up the children of an index, as far as they are here."""
        here = (self.digests[child] for child in row["children"] if child in self.digests)
        self.children[row["manifest_id"]] = tuple(dict.fromkeys(here))

    def add_ended(self, row: Any) -> None:
        """Take up what a tag pointed to before."""
        name, manifest, ended_at = row["name"], row["manifest_id"], row["valid_to"]
        if name not in self.before or self.before[name][0] < ended_at:
            self.before[name] = (ended_at, manifest)
        if manifest not in self.manifests:
            return
        ended = _ended(row)
        self.names_of[manifest].append(name)
        known = self.bared.get(manifest)
        if known is None or known.latest < ended.latest:
            self.bared[manifest], self.bared_of[manifest] = ended, name
        self.history[name].append(Past(self.digests[manifest], ended))

    def add_tag(self, row: Any) -> None:
        """Take up a tag."""
        name, manifest = row["name"], row["manifest_id"]
        published, source = row["published_at"], row["published_source"]
        if source == "event":
            since = Between(published, published)
        elif source == "storage":
            since = Between(row["not_before"] or LONG_AGO, published, TimeSource.STORAGE)
        else:
            since = Between(row["not_before"] or LONG_AGO, row["first_seen_at"], TimeSource.FIRST_SEEN)
        pushed = since
        named = row["last_event_at"]
        if named is not None and named > since.latest:  # pushed again, at the same digest
            pushed = Between(named, named)
        before = self.before.get(name)
        if manifest is not None:
            self.tagged.add(manifest)
        self.tags.append(
            TagFacts(
                name=name,
                digest=None if manifest is None or row["broken"] else self.digests.get(manifest),
                pushed=pushed,
                moved=since if before is not None and before[1] != manifest else None,
                restored_at=self.restored.get(name),
                unverified_since=(None if row["verified_at"] is not None else named or row["first_seen_at"]),
            )
        )

    def add_pull(self, row: Any) -> None:
        """Take up who pulled."""
        digest = self.digests.get(row["manifest_id"])
        if digest is None:
            return
        at = row["last_at"]
        self.pulls.append(Pull(digest, at, row["times"], row["tag"], row["actor"], row["address"] or None))
        if digest not in self.seen or self.seen[digest] < at:
            self.seen[digest] = at

    def facts(self, name: str, incomplete: str | None, *, with_history: bool) -> RepositoryFacts:
        """Return all of it."""
        for manifest, row in self.manifests.items():
            used_at, digest = row["used_at"], self.digests[manifest]
            # A use that no entry tells of is nobody's that a policy may ignore.
            if used_at is not None and (digest not in self.seen or self.seen[digest] < used_at):
                self.pulls.append(Pull(digest, used_at, max(row["pull_count"], 1)))
        for tag in self.tags:
            used_at = self.tag_uses.get(tag.name)
            if used_at is not None and tag.digest:
                self.pulls.append(Pull(tag.digest, used_at, tag=tag.name))
        return RepositoryFacts(
            name=name,
            tags=self.tags,
            manifests=[self._manifest(number, row) for number, row in self.manifests.items()],
            pulls=self.pulls,
            history=self.history if with_history else {},
            gone=self.gone,
            incomplete=incomplete,
        )

    def _deleted_by(self, manifest: int) -> str | None:
        """Return the rule that deleted the last tag of a manifest; None: somebody else deleted or moved it."""
        found = self.deleted.get((self.digests[manifest], self.bared_of.get(manifest, "")))
        if found is None or self.bared[manifest].earliest > found[0] + DELETED_WITHIN:
            return None
        return found[1]

    def _manifest(self, number: int, row: Any) -> ManifestFacts:
        at, digest = row["pushed_at"], self.digests[number]
        subject, config = row["subject_digest"], row["config_digest"]
        tagged = number in self.tagged
        return ManifestFacts(
            digest=digest,
            pushed=Between(at, at) if row["by_event"] else Between(LONG_AGO, at, TimeSource.FIRST_SEEN),
            size_bytes=row["size_bytes"],
            children=self.children.get(number, ()),
            subject=None if subject is None else digest_from_bytes(subject),
            config=None if config is None else digest_from_bytes(config),
            untagged=None if tagged else self.bared.get(number),
            was_tagged=tuple(sorted(self.names_of[number])) if number in self.names_of else (),
            deleted_by=None if tagged else self._deleted_by(number),
            restored_at=self.restored_manifests.get(digest),
            annotations=row["annotations"] or _NOTHING,
            readable=row["content"] == "read"
            or (row["content"] == "partly-read" and not any(map(is_structure, row["unread"] or ()))),
        )


def is_structure(part: str) -> bool:
    """Tell whether a part that could not be read says what a manifest refers to."""
    return part.startswith(_STRUCTURE)


def _ended(row: Any) -> Between:
    at = row["valid_to"]
    source = TimeSource(row["to_source"]) if row["to_source"] else TimeSource.FIRST_SEEN
    if source is TimeSource.EVENT and row["to_not_before"] is None:
        return Between(at, at)
    return Between(row["to_not_before"] or LONG_AGO, at, source)


async def add_blobs(
    connection: Connection, *, manifests: Iterable[ManifestFacts]
) -> dict[str, tuple[tuple[str, int], ...]]:
    """Return config and layers, with their sizes, of each of some manifests."""
    found: dict[str, dict[str, int]] = {each.digest: {} for each in manifests}
    packed = [digest_to_bytes(Digest(digest)) for digest in found]
    for start in range(0, len(packed), 10_000):
        for row in await connection.fetch(SQL["blobs"], packed[start : start + 10_000]):
            blobs = found[digest_from_bytes(row["digest"])]
            blobs[digest_from_bytes(row["blob"])] = row["size_bytes"]
    return {digest: tuple(blobs.items()) for digest, blobs in found.items()}


async def owners_of_blobs(connection: Connection, *, blobs: Iterable[str]) -> dict[str, int]:
    """Return how many manifests of the whole registry hold each of some blobs; one in two repositories counts twice."""
    packed = [digest_to_bytes(Digest(digest)) for digest in blobs]
    found: dict[str, int] = defaultdict(int)
    for name in ("owners", "config_owners"):
        for row in await connection.fetch(SQL[name], packed):
            found[digest_from_bytes(row["digest"])] += row["holders"]
    return dict(found)
