"""What is in use or on hold in a repository: protected, whatever a policy says.

What a source reported is protected as long as nothing newer is known, silent or not. A digest protects its manifest,
the indexes that refer to it, its children, and the manifest whose config it is: a runtime may report any of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexer.policies.facts import Hold, InUseReport, RepositoryFacts, Snapshot
from indexer.policies.families import Families
from indexer.policies.rules import InUseSource

FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Protected:
    """Digests in use, with the sources that say so; holds on digests, tags, and the whole repository."""

    in_use: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: dict[str, Hold] = field(default_factory=dict)
    held_tags: dict[str, Hold] = field(default_factory=dict)
    whole: Hold | None = None

    @property
    def anything(self) -> bool:
        """Tell whether anything is in use or on hold."""
        return bool(self.in_use or self.held or self.held_tags or self.whole)

    def hold_of(self, tag: str | None, digest: str | None) -> Hold | None:
        """Return the hold on a tag or digest, if there is one: the one that lasts longest."""
        found = [self.whole, self.held_tags.get(tag or ""), self.held.get(digest or "")]
        return _longest(hold for hold in found if hold is not None)


def protected(
    snapshot: Snapshot, repository: RepositoryFacts, families: Families, now: datetime
) -> Protected:
    """Return what is in use or on hold in a repository; holds that are over are left out."""
    sources: dict[str, set[str]] = defaultdict(set)
    for report in snapshot.in_use:
        for digest in _named(report, repository, families):
            for each in _with_relatives(digest, families):
                sources[each].add(report.source)
    held: dict[str, Hold] = {}
    held_tags: dict[str, Hold] = {}
    whole: Hold | None = None
    for hold in sorted(snapshot.holds, key=lambda each: (each.owner, each.reason)):
        if hold.repository not in (None, repository.name) or (hold.until is not None and hold.until <= now):
            continue
        if hold.digest is not None:
            for each in _with_relatives(hold.digest, families):
                held[each] = _longer(held.get(each), hold)
        elif hold.tag is not None:
            held_tags[hold.tag] = _longer(held_tags.get(hold.tag), hold)
        else:
            whole = _longer(whole, hold)
    return Protected(
        {digest: tuple(sorted(names)) for digest, names in sorted(sources.items())}, held, held_tags, whole
    )


def silent_sources(
    sources: Sequence[InUseSource], reports: Sequence[InUseReport], repository: str, now: datetime
) -> tuple[str, ...]:
    """Return the sources that must report about a repository and do not: they never did, or their set ran out."""
    speaking = {report.source for report in reports if report.valid_until > now}
    return tuple(
        sorted(each.id for each in sources if each.id not in speaking and each.scope.matches(repository))
    )


def _named(report: InUseReport, repository: RepositoryFacts, families: Families) -> Iterable[str]:
    """Return the digests of a repository's manifests that a report names, by digest, by config or by tag."""
    here = {name for where, name in report.images if where == repository.name}
    wanted = report.digests | here
    if not wanted:
        return []
    by_tag = [tag.digest for tag in repository.tags if tag.name in here and tag.digest is not None]
    manifests = families.manifests.values()
    return [*by_tag, *(each.digest for each in manifests if each.digest in wanted or each.config in wanted)]


def _with_relatives(digest: str, families: Families) -> Iterable[str]:
    return (digest, *families.descendants(digest), *families.ancestors(digest))


def _longer(one: Hold | None, other: Hold) -> Hold:
    return other if one is None else _longest([one, other]) or other


def _longest(holds: Iterable[Hold]) -> Hold | None:
    """Return the hold that ends last; one that never ends, first of all."""
    return max(holds, key=lambda hold: hold.until or FOR_EVER, default=None)
