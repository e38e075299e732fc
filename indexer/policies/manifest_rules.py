"""What becomes of manifests: those that something needs stay, and of the others each is asked for itself.

1. Needed: the manifests of tags that stay, what is in use or on hold, what tags pointed to before and a rule keeps;
   with all that these refer to and that is attached to them.
2. Of the rest, those that stay for a reason of their own (grace, a tag they once had and ``untagged`` says nothing of)
   are needed, too, with theirs.
3. What is left goes: for its last tag's rule, by ``untagged``, as an orphan, or with those it belongs to.

A manifest that never had a tag belongs to its indexes and its subject, and goes when all of them do. One that had a tag
of its own goes only if ``untagged`` says so, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from indexer.policies.facts import ManifestFacts, RepositoryFacts
from indexer.policies.families import Families, Live
from indexer.policies.intervals import Between, certain_from, certainly_ago, possibly_within
from indexer.policies.protected import Protected
from indexer.policies.rules import KeepUntagged, Policy, Untagged
from indexer.policies.uses import LastUse, Uses
from indexer.policies.verdicts import Hit, Reason

FOLLOWS = Hit("follows")
"""It has no say of its own: what it belongs to decides."""

_WAITS = frozenset(
    {Reason.KEEP_NOT_DUE, Reason.KEEP_UNKNOWN_TIME, Reason.KEEP_UNKNOWN_COVERAGE, Reason.GRACE_UNDO}
)


class ManifestRules:
    """The rules of a policy about manifests, for one repository."""

    def __init__(
        self,
        policy: Policy,
        repository: RepositoryFacts,
        *,
        families: Families,
        uses: Uses,
        guarded: Protected,
        previous: Mapping[str, Hit],
        now: datetime,
        points: bool,
    ) -> None:
        self._policy = policy
        self._gone = repository.gone
        self._families = families
        self._uses = uses
        self._guarded = guarded
        self._previous = previous
        self._now = now
        self._points = points

    def guards(self, digest: str) -> Hit | None:
        """Return why a manifest stays whatever refers to it: in use, on hold, or kept for what pointed to it."""
        if not self._guarded.anything and not self._previous:
            return None
        sources = self._guarded.in_use.get(digest)
        if sources:
            return Hit(Reason.PROTECT_IN_USE, detail=sources)
        hold = self._guarded.hold_of(None, digest)
        if hold is not None:
            return Hit(Reason.PROTECT_HOLD, None, hold.until, (hold.owner, hold.reason))
        previous = self._previous.get(digest)
        return (
            None
            if previous is None
            else Hit(Reason.LIVE_HISTORY, previous.rule, previous.until, previous.detail)
        )

    def own(self, manifest: ManifestFacts, going: Hit | None, tags: Sequence[str] = ()) -> Hit:
        """Return what a manifest that nothing needs says for itself: a reason to stay, one to go, or ``FOLLOWS``.

        The ``until`` of a reason to go is when it goes, if it is planned now.

        ``going``: why its last tag goes, where one does; ``tags``: those that it loses then.
        """
        pushed, grace = self._at(manifest.pushed), self._policy.grace.pushed
        if possibly_within(pushed, grace, self._now):
            return Hit(Reason.GRACE_PUSHED, None, certain_from(pushed, grace), (pushed, grace))
        restored, period = manifest.restored_at, self._policy.grace.restored
        if restored is not None and self._now - restored < period:
            return Hit(Reason.GRACE_RESTORED, None, restored + period, (restored, period))
        return self._beyond_grace(manifest, pushed, going, tags)

    def expires_at(self, manifest: ManifestFacts, hit: Hit) -> datetime | None:
        """Return the earliest instant at which an untagged manifest would go that stays for ``hit``; else None."""
        if hit.reason in _WAITS:
            return hit.until
        if hit.reason not in (Reason.GRACE_PUSHED, Reason.GRACE_RESTORED) or hit.until is None:
            return None
        after = self._beyond_grace(manifest, self._at(manifest.pushed), None, ())
        if is_delete(after):
            return hit.until
        return max(hit.until, after.until) if after.reason in _WAITS and after.until is not None else None

    def _beyond_grace(
        self, manifest: ManifestFacts, pushed: Between, going: Hit | None, tags: Sequence[str]
    ) -> Hit:
        if going is not None:
            return self._exceptions(manifest, pushed, tags) or going
        if manifest.deleted_by is not None and manifest.untagged is not None:
            exception = self._exceptions(manifest, pushed)
            return exception or self._unlink(manifest, manifest.deleted_by, self._at(manifest.untagged))
        orphan = self._orphan(manifest)
        if orphan is not None and (not is_delete(orphan) or not manifest.was_tagged):
            return orphan
        if not manifest.was_tagged and orphan is None and self._families.followed(manifest.digest):
            return FOLLOWS
        return self._untagged(manifest)

    def orphaned(self, since: Between) -> Hit:
        """Return what becomes of something attached to a subject that is not here; ``since`` at the earliest."""
        older = self._policy.orphans
        if older is None:
            return Hit(Reason.KEEP_NO_DELETE_RULE)
        if certainly_ago(since, older, self._now):
            return Hit(Reason.DELETE_ORPHAN_REFERRER, None, self._planned_at, (older, None))
        return Hit(Reason.KEEP_NOT_DUE, "orphans", certain_from(since, older), (older, None))

    def gone_since(self, subject: str | None, pushed: Between) -> Between:
        """Return since when something is an orphan: since its subject went, or since it came if that is later."""
        gone = self._gone.get(subject or "")
        pushed = self._at(pushed)
        return pushed if gone is None else max(pushed, self._at(gone), key=lambda each: each.latest)

    def _orphan(self, manifest: ManifestFacts) -> Hit | None:
        """Return what is said of a referrer whose subject is not here; None of any other manifest."""
        if manifest.subject is None or manifest.subject in self._families.manifests:
            return None
        return self.orphaned(self.gone_since(manifest.subject, manifest.pushed))

    def _unlink(self, manifest: ManifestFacts, rule: str, untagged: Between) -> Hit:
        """Return what becomes of a manifest whose last tag cleanup deleted: it waits, and use brings it back."""
        wait = self._policy.undo.unlink_after
        if not certainly_ago(untagged, wait, self._now):
            return Hit(Reason.GRACE_UNDO, rule, certain_from(untagged, wait), (untagged, wait))
        use = self._uses.of_manifest(manifest.digest)
        if possibly_within(use.at, wait, self._now):
            until = certain_from(use.at, wait) if use.ends else None
            return Hit(Reason.KEEP_PULLED, rule, until, (use, wait))
        return Hit(f"delete.{rule}", rule, self._now, (None, None))

    def _untagged(self, manifest: ManifestFacts) -> Hit:
        rules = self._policy.untagged
        if rules is None:
            return Hit(Reason.KEEP_NO_DELETE_RULE)
        pushed = self._at(manifest.pushed)
        exception = self._exceptions(manifest, pushed)
        return exception or self._due(rules, manifest, pushed, self._uses.of_manifest(manifest.digest))

    def _due(self, rules: Untagged, manifest: ManifestFacts, pushed: Between, use: LastUse) -> Hit:
        """Return whether an untagged manifest goes, or from when on."""
        untagged = pushed if manifest.untagged is None else self._at(manifest.untagged)
        clocks = [(untagged, rules.untagged), (pushed, rules.pushed)]
        times = [(at, period) for at, period in clocks if period is not None]
        detail = (rules.untagged, rules.unused)
        due = max(certain_from(at, period) for at, period in times)
        weak = all(at.earliest + period <= self._now for at, period in times)
        known = True
        if rules.unused is not None:
            used = max(use.at, pushed, key=lambda each: each.latest)
            unused_from = certain_from(used, rules.unused)
            known = use.ends or unused_from <= self._now
            seen = max(pushed.earliest, use.at.earliest)
            if due <= self._now < unused_from and seen + rules.unused <= self._now:
                return Hit(Reason.KEEP_UNKNOWN_COVERAGE, "untagged", unused_from if known else None, detail)
            weak = weak and unused_from <= self._now
            due = max(due, unused_from)
        if due <= self._now:
            return Hit(Reason.DELETE_UNTAGGED, None, self._planned_at, detail)
        reason = Reason.KEEP_UNKNOWN_TIME if weak else Reason.KEEP_NOT_DUE
        return Hit(reason, "untagged", due if known else None, detail)

    def _exceptions(self, manifest: ManifestFacts, pushed: Between, tags: Sequence[str] = ()) -> Hit | None:
        """Return the answer of the first exception of ``untagged`` that a manifest is."""
        for kept in () if self._policy.untagged is None else self._policy.untagged.keep:
            hit = self._exception(kept, manifest, pushed, (*manifest.was_tagged, *tags))
            if hit is not None:
                return hit
        return None

    def _exception(
        self, kept: KeepUntagged, manifest: ManifestFacts, pushed: Between, had: Sequence[str]
    ) -> Hit | None:
        """Return the answer of an exception of ``untagged``; every condition must hold."""
        hits = []
        use = self._uses.of_manifest(manifest.digest)
        if kept.was_tagged is not None:
            tags = sorted(tag for tag in had if kept.was_tagged.matches(tag))
            if not tags:
                return None
            hits.append(Hit(Reason.KEEP_WAS_TAGGED, "untagged", detail=(tags[0],)))
        if kept.pulled_within is not None:
            if not possibly_within(use.at, kept.pulled_within, self._now):
                return None
            until = certain_from(use.at, kept.pulled_within) if use.ends else None
            hits.append(Hit(Reason.KEEP_PULLED, "untagged", until, (use, kept.pulled_within)))
        if kept.pushed_within is not None:
            if not possibly_within(pushed, kept.pushed_within, self._now):
                return None
            until = certain_from(pushed, kept.pushed_within)
            hits.append(Hit(Reason.KEEP_PUSHED, "untagged", until, (pushed, kept.pushed_within)))
        ends = [hit.until for hit in hits if hit.until is not None]
        return Hit(hits[0].reason, "untagged", min(ends, default=None), hits[0].detail)

    @property
    def _planned_at(self) -> datetime:
        """When what a plan made now names goes."""
        return self._now + self._policy.undo.pending

    def _at(self, at: Between) -> Between:
        return at.as_point if self._points else at


def is_delete(hit: Hit) -> bool:
    """Tell whether an answer lets something go."""
    return hit.reason.startswith("delete.")


def settle(families: Families, live: dict[str, Live], own: Mapping[str, Hit]) -> Iterator[tuple[str, Hit]]:
    """Add to ``live`` the manifests that stay for themselves, with what they need; then yield what goes, and why.

    ``own`` is what every manifest that is not live says of itself. A name makes circles where a hash cannot: a fallback
    tag may point to an index that has its subject as a child, or to its subject itself. In a circle each goes only with
    another, so nothing lets it go: it stays, with all that it needs.
    """
    staying = [digest for digest in sorted(own) if own[digest] is not FOLLOWS and not is_delete(own[digest])]
    families.spread(live, [(digest, Live(own[digest].reason)) for digest in staying])
    going = {digest: hit for digest, hit in sorted(own.items()) if digest not in live}
    why = {digest: hit for digest, hit in going.items() if hit is not FOLLOWS}
    left = sorted(why)
    for digest in left:  # grows while it is read: from those that decide to those that follow
        for follower in families.family(digest):
            if follower in going and follower not in why:
                why[follower] = why[digest]
                left.append(follower)
    circles = sorted(going.keys() - why.keys())
    families.spread(live, [(digest, Live(Reason.KEEP_NO_DELETE_RULE)) for digest in circles])
    yield from sorted((digest, hit) for digest, hit in why.items() if digest not in live)
