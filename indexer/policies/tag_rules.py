"""What a policy's rules say of the tags of a repository: protect, grace, keep, delete, in this order.

Every rule is asked, not only until one answers: a verdict lists all that keep a tag, and knows until when they do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, TypeVar

from indexer.policies import newest as counting
from indexer.policies.facts import RepositoryFacts, TagFacts
from indexer.policies.families import Families, carried
from indexer.policies.grammar import parse_period
from indexer.policies.intervals import LONG_AGO, Between, certain_from, certainly_later, possibly_within
from indexer.policies.protected import FOR_EVER, Protected
from indexer.policies.rules import (
    By,
    Delete,
    Keep,
    Policy,
    Previous,
    ProtectHeld,
    ProtectInUse,
    ProtectTags,
    Rule,
)
from indexer.policies.selectors import ALL_TAGS
from indexer.policies.uses import LastUse, Uses
from indexer.policies.verdicts import Hit, Reason

R = TypeVar("R", bound=Rule)


@dataclass(slots=True)
class Answers:
    """What the rules say of a tag. ``delete``: the first rule that deletes it; ``waits``: if none, why not yet."""

    tag: TagFacts
    use: LastUse | None
    keeps: tuple[Hit, ...] = ()
    delete: Hit | None = None
    waits: Hit | None = None
    alarms: tuple[str, ...] = ()

    @property
    def deleted(self) -> bool:
        """Tell whether it goes."""
        return not self.keeps and self.delete is not None


class TagRules:
    """The rules of a policy that are about one repository."""

    def __init__(
        self,
        policy: Policy,
        repository: RepositoryFacts,
        *,
        families: Families,
        uses: Uses,
        guarded: Protected,
        now: datetime,
        points: bool,
    ) -> None:
        self._policy = policy
        self._families = families
        self._uses = uses
        self._guarded = guarded
        self._now = now
        self._points = points
        ordinary = [tag for tag in repository.tags if tag.name not in families.carriers]
        self._tags = sorted(ordinary, key=attrgetter("name"))
        self._answered: dict[tuple[Reason, str, tuple[Any, ...]], Hit] = {}
        self._deletes = {rule.id: f"delete.{rule.id}" for rule in policy.delete}
        self._grace_from = now - policy.grace.pushed
        self._names = frozenset(tag.name for tag in self._tags)
        self._in_use = [
            each for each in _here(policy.protect, repository.name) if isinstance(each, ProtectInUse)
        ]
        self._holds = [
            each for each in _here(policy.protect, repository.name) if isinstance(each, ProtectHeld)
        ]
        by_tags = [each for each in _here(policy.protect, repository.name) if isinstance(each, ProtectTags)]
        self._protect = [(rule, self._choose(rule)) for rule in by_tags]
        self._keep = [(rule, self._choose(rule)) for rule in _here(policy.keep, repository.name)]
        self._delete = [(rule, self._choose(rule)) for rule in _here(policy.delete, repository.name)]
        self.previous = self._previous(_here(policy.previous, repository.name), repository)
        """Digests that tags pointed to before and that stay, with the answer that says so."""
        every = (*self._protect, *self._keep, *self._delete)
        self.rules_that_choose = frozenset(rule.id for rule, chosen in every if chosen)
        """The ids of the rules that choose a tag here."""

    def answers(self) -> Mapping[str, Answers]:
        """Return what is said of every ordinary tag, in the order of names."""
        found = {tag.name: Answers(tag, self._use_of(tag)) for tag in self._tags}
        plain = [(rule, chosen) for rule, chosen in self._keep if not _among_deletable(rule)]
        keep = [(rule, chosen, self._newest(rule, chosen, self._tags)) for rule, chosen in plain]
        for each in found.values():
            self._ask(each, keep)
        for rule, chosen in self._keep:
            if _among_deletable(rule):
                deletable = [each.tag for each in found.values() if each.deleted and each.tag.name in chosen]
                kept = self._newest(rule, chosen, deletable)
                for tag in deletable:
                    answer = self._kept(rule, found[tag.name], kept)
                    if answer is not None:
                        found[tag.name].keeps = (answer,)
        return found

    def grace(self, tag: TagFacts) -> Iterator[Hit]:
        """Yield what happened to a tag so lately that nothing may go."""
        grace = self._policy.grace
        clocks = [
            (Reason.GRACE_PUSHED, self._at(tag.pushed), grace.pushed),
            (Reason.GRACE_MOVED, None if tag.moved is None else self._at(tag.moved), grace.moved),
        ]
        for reason, at, period in clocks:
            if at is not None and possibly_within(at, period, self._now):
                yield Hit(reason, until=certain_from(at, period), detail=(at, period))
        if tag.restored_at is not None and self._now - tag.restored_at < grace.restored:
            until = tag.restored_at + grace.restored
            yield Hit(Reason.GRACE_RESTORED, until=until, detail=(tag.restored_at, grace.restored))

    def guards(self, tag: TagFacts) -> Iterator[Hit]:
        """Yield what protects a tag although no rule need say so: it is in use, or on hold."""
        sources = self._guarded.in_use.get(tag.digest or "")
        if sources:
            named = [each.id for each in self._in_use if each.sources is None or each.sources & set(sources)]
            yield Hit(Reason.PROTECT_IN_USE, named[0] if named else None, detail=sources)
        hold = self._guarded.hold_of(tag.name, tag.digest)
        if hold is not None:
            named = [each.id for each in self._holds]
            yield Hit(Reason.PROTECT_HOLD, named[0] if named else None, hold.until, (hold.owner, hold.reason))

    def _ask(
        self, answers: Answers, keep: Sequence[tuple[Keep, Collection[str], Mapping[str, counting.Kept]]]
    ) -> None:
        tag = answers.tag
        hits = [self._shared(*reason) for reason in self._protects(answers)]
        if self._guarded.anything:
            hits += self.guards(tag)
        if tag.pushed.latest > self._grace_from or tag.moved is not None or tag.restored_at is not None:
            hits += self.grace(tag)
        for rule, chosen, newest in keep:
            if tag.name in chosen and (hit := self._kept(rule, answers, newest)) is not None:
                hits.append(hit)
        previous = self.previous.get(tag.digest or "")
        if previous is not None:
            hits.append(previous)
        answers.keeps = tuple(hits)
        if any(hit.until is None for hit in hits):
            return  # it stays whatever time it is: no rule of delete need be asked
        for delete, chosen in self._delete:
            if answers.delete is None and tag.name in chosen:
                self._ask_delete(delete, answers)

    def _protects(self, answers: Answers) -> Iterator[tuple[Reason, str]]:
        tag = answers.tag
        for rule, chosen in self._protect:
            if tag.name in chosen:
                yield Reason.PROTECT_IMMUTABLE if rule.immutable else Reason.PROTECT_NAME, rule.id
                if rule.immutable and tag.moved is not None:
                    answers.alarms = ("immutable_moved",)

    def _shared(self, reason: Reason, rule: str, detail: tuple[Any, ...] = ()) -> Hit:
        """Return an answer that many tags share, one object for all of them."""
        key = reason, rule, detail
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = Hit(reason, rule, detail=detail)
        return found

    def _kept(self, rule: Keep, answers: Answers, newest: Mapping[str, counting.Kept]) -> Hit | None:
        """Return the answer of a rule of keep about a tag that it chooses; every condition must hold."""
        tag, use = answers.tag, answers.use
        hits = []
        if rule.newest is not None:
            kept = newest.get(tag.name)
            if kept is None:
                return None
            by_version = rule.newest.by is By.SEMVER
            reason = Reason.KEEP_SEMVER if by_version else Reason.KEEP_NEWEST
            detail = (rule.newest.count, rule.newest.by, kept.group, kept.uncertain)
            hits.append(self._shared(reason, rule.id, detail))
        if rule.pulled_within is not None:
            if use is None or not possibly_within(use.at, rule.pulled_within, self._now):
                return None
            until = certain_from(use.at, rule.pulled_within) if use.ends else None
            hits.append(Hit(Reason.KEEP_PULLED, rule.id, until, (use, rule.pulled_within)))
        if rule.pushed_within is not None:
            at = self._at(tag.pushed)
            if not possibly_within(at, rule.pushed_within, self._now):
                return None
            until = certain_from(at, rule.pushed_within)
            hits.append(Hit(Reason.KEEP_PUSHED, rule.id, until, (at, rule.pushed_within)))
        if not hits:
            return self._shared(Reason.KEEP_NAME, rule.id)
        if len(hits) == 1:
            return hits[0]
        ends = [hit.until for hit in hits if hit.until is not None]
        return Hit(hits[0].reason, rule.id, min(ends, default=None), hits[0].detail)

    def _ask_delete(self, rule: Delete, answers: Answers) -> None:
        """Note that a rule that chooses a tag deletes it, or from when on it will, and what that waits for."""
        pushed, use, now = self._at(answers.tag.pushed), answers.use, self._now
        due = at_best = LONG_AGO  # with the latest instants that are possible, and with the earliest
        known, reason = True, Reason.KEEP_UNKNOWN_TIME
        age = rule.older
        if rule.annotation is not None:
            lifetime = self._lifetime(answers.tag, rule.annotation)
            if lifetime is None:
                return
            age = lifetime if age is None else max(age, lifetime)
        if age is not None:
            due, at_best = pushed.latest + age, pushed.earliest + age
        if rule.unused is not None:
            if use is None:
                return
            unused = max(use.at.latest, pushed.latest) + rule.unused
            at_best = max(at_best, max(use.at.earliest, pushed.earliest) + rule.unused)
            known = use.ends or unused <= now
            if unused > now >= max(due, pushed.latest + rule.unused):
                reason = Reason.KEEP_UNKNOWN_COVERAGE
            due = max(due, unused)
        if due <= now:
            code = Reason.DELETE_TTL if rule.annotation is not None else self._deletes[rule.id]
            answers.delete = Hit(code, rule.id, due, (rule.older, rule.unused))
            answers.waits = None
            return
        if at_best > now:
            reason = Reason.KEEP_NOT_DUE
        waits = Hit(reason, rule.id, due if known else None, (rule.older, rule.unused))
        if answers.waits is None or _sooner(waits, answers.waits):
            answers.waits = waits

    def _lifetime(self, tag: TagFacts, key: str) -> timedelta | None:
        manifest = self._families.manifests.get(tag.digest or "")
        try:
            return parse_period(manifest.annotations[key]) if manifest is not None else None
        except (KeyError, ValueError):  # not said, or nothing that is a period: it does not go for it
            return None

    def _newest(
        self, rule: Keep, chosen: Collection[str], among: Sequence[TagFacts]
    ) -> Mapping[str, counting.Kept]:
        if rule.newest is None:
            return {}
        asked = [tag for tag in among if tag.name in chosen]
        counted = asked
        if rule.newest.among is not None:
            counted = [tag for tag in self._tags if rule.newest.among.matches(tag.name)]
        return counting.newest(rule, rule.newest, asked, counted, self._clock(rule.newest.by))

    def _clock(self, by: By) -> counting.Clock:
        if by is By.PULLED:
            return lambda tag: Between(LONG_AGO, self._now) if (use := self._use_of(tag)) is None else use.at
        return lambda tag: self._at(tag.pushed)

    def _previous(self, rules: Sequence[Previous], repository: RepositoryFacts) -> Mapping[str, Hit]:
        """Return the digests that stay since tags pointed to them before."""
        found: dict[str, Hit] = {}
        for rule in rules:
            for name in sorted(repository.history):
                if carried(name) is not None or not rule.tags.matches(name):
                    continue
                for digest, until in self._before(rule, name, repository):
                    hit = Hit(Reason.KEEP_PREVIOUS, rule.id, until, (rule.count, name))
                    if digest not in found or _sooner(found[digest], hit):
                        found[digest] = hit
        return found

    def _before(
        self, rule: Previous, name: str, repository: RepositoryFacts
    ) -> Iterator[tuple[str, datetime | None]]:
        """Yield the digests that a tag pointed to last, each once: those after which not so many certainly came."""
        now_at = {tag.digest for tag in repository.tags if tag.name == name}
        ended: dict[str, Between] = {}
        for past in repository.history[name]:
            if past.digest not in now_at:
                at = self._at(past.ended)
                ended[past.digest] = _later(ended.get(past.digest, at), at)
        for digest, at in ended.items():
            later = sum(certainly_later(other, at) for each, other in ended.items() if each != digest)
            recent = rule.within is None or possibly_within(at, rule.within, self._now)
            if later < rule.count and recent:
                yield digest, None if rule.within is None else certain_from(at, rule.within)

    def _choose(self, rule: Rule) -> Collection[str]:
        """Return the tags that a rule chooses."""
        if rule.tags is ALL_TAGS:
            return self._names
        return frozenset(tag.name for tag in self._tags if rule.tags.matches(tag.name))

    def _use_of(self, tag: TagFacts) -> LastUse | None:
        return None if tag.digest is None else self._uses.of_tag(tag.name, tag.digest)

    def _at(self, at: Between) -> Between:
        return at.as_point if self._points else at


def _here(rules: Sequence[R], repository: str) -> list[R]:
    return [rule for rule in rules if rule.repositories.matches(repository)]


def _among_deletable(rule: Keep) -> bool:
    return rule.newest is not None and rule.newest.among_deletable


def _later(one: Between, other: Between) -> Between:
    """Return when the later of two happened."""
    return Between(max(one.earliest, other.earliest), max(one.latest, other.latest), one.source)


def _sooner(one: Hit, other: Hit) -> bool:
    return (one.until or FOR_EVER) < (other.until or FOR_EVER)
