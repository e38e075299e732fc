"""One repository under one policy: from its tags' answers to the verdict on every tag and manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter

from indexer.inventory.semver import parse_version, semver_key
from indexer.policies.facts import ManifestFacts, RepositoryFacts, Snapshot, TagFacts
from indexer.policies.families import Families, Live
from indexer.policies.intervals import certainly_later
from indexer.policies.manifest_rules import FOLLOWS, ManifestRules, is_delete, settle
from indexer.policies.protected import protected, silent_sources
from indexer.policies.rules import InUseSource, Policy
from indexer.policies.tag_rules import Answers, TagRules
from indexer.policies.uses import Uses
from indexer.policies.verdicts import Decision, Hit, Reason, Verdict

UNVERIFIED_FOR = timedelta(hours=1)
"""A tag that was not verified for longer holds its repository; until then it holds itself."""

NOTHING_DELETES = Hit(Reason.KEEP_NO_DELETE_RULE)


class RepositoryCase:
    """A repository under a policy. First its tags are judged, then the budget may give some back, then the rest."""

    def __init__(
        self,
        snapshot: Snapshot,
        repository: RepositoryFacts,
        policy: Policy,
        *,
        now: datetime,
        sources: Sequence[InUseSource],
        points: bool,
    ) -> None:
        self.repository = repository
        self.families = Families(repository.manifests, repository.tags)
        self.going: tuple[str, ...] = ()
        """The manifests that go, once the verdicts were asked for."""
        self._policy = policy
        self._now = now
        self._uses = Uses(
            repository.pulls, self.families, policy.use, coverage=snapshot.coverage, now=now, points=points
        )
        guarded = protected(snapshot, repository, self.families, now)
        self._tag_rules = TagRules(
            policy,
            repository,
            families=self.families,
            uses=self._uses,
            guarded=guarded,
            now=now,
            points=points,
        )
        self._manifest_rules = ManifestRules(
            policy,
            repository,
            families=self.families,
            uses=self._uses,
            guarded=guarded,
            previous=self._tag_rules.previous,
            now=now,
            points=points,
        )
        self._holds = self._not_known(silent_sources(sources, snapshot.in_use, repository.name, now))
        self._answers = self._tag_rules.answers()
        self._held: dict[str, Hit] = {}
        self._given_back: dict[str | None, tuple[Hit]] = {}
        if policy.brake.never_empty:
            self._keep_newest()
        for answers in self._answers.values():
            hold = self._hold_of(answers.tag) if answers.deleted else None
            if hold is not None:
                self._held[answers.tag.name] = hold

    @property
    def rules_that_choose(self) -> frozenset[str]:
        """The ids of the rules that choose a tag here."""
        return self._tag_rules.rules_that_choose

    def nearly_versions(self) -> Iterator[str]:
        """Yield the tags that look like versions and are none of three numbers."""
        for name in self._answers:
            if "." in name and semver_key(name) and parse_version(name) is None:
                yield name

    def nominated(self) -> Iterator[tuple[str, str, datetime]]:
        """Yield the tags that would go, with their digest and when they were used or pushed last."""
        for name, answers in self._answers.items():
            digest = answers.tag.digest
            if self._goes(answers) and digest is not None and answers.use is not None:
                yield name, digest, max(answers.use.at.latest, answers.tag.pushed.latest)

    def give_back(self, tag: str, budget_bytes: int) -> None:
        """Let a nominated tag stay: the budget holds without it."""
        answers = self._answers[tag]
        rule = None if answers.delete is None else answers.delete.rule
        if rule not in self._given_back:
            self._given_back[rule] = (Hit(Reason.KEEP_BUDGET, rule, detail=(budget_bytes,)),)
        answers.keeps = self._given_back[rule]

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on every tag, and on every manifest that no tag that stays points to."""
        live, going, own = self._settled()
        self.going = tuple(sorted(going)) if self._holds is None else ()
        of_tags = [self._of_tag(each, live) for each in self._answers.values()]  # in the order of names
        carriers = [tag for tag in self.repository.tags if tag.name in self.families.carriers]
        if carriers:
            of_tags += [self._of_carrier(tag, live, going) for tag in carriers]
            of_tags.sort(key=lambda each: each.tag or "")
        pointed_to = {each.digest for each in of_tags if each.decision is not Decision.DELETE}
        of_manifests = [
            self._of_manifest(manifest, live, going, own)
            for digest, manifest in self.families.manifests.items()  # in the order of digests
            if digest not in pointed_to
        ]
        return of_manifests + of_tags

    # --- tags --------------------------------------------------------------------------------------------

    def _goes(self, answers: Answers) -> bool:
        return answers.deleted and answers.tag.name not in self._held

    def _keep_newest(self) -> None:
        """Keep the newest tag, and every other that may be it, where none would be left."""
        every = list(self._answers.values())
        if not every or not all(each.deleted for each in every):
            return
        latest = max((each.tag.pushed for each in every), key=lambda at: at.earliest)
        for each in every:
            if not certainly_later(latest, each.tag.pushed):
                each.keeps = (Hit(Reason.KEEP_NEVER_EMPTY),)

    def _not_known(self, silent: Sequence[str]) -> Hit | None:
        """Return what holds every deletion of the repository, if anything does."""
        if self.repository.incomplete is not None:
            return Hit(Reason.HOLD_INCOMPLETE, detail=(self.repository.incomplete,))
        if silent:
            names = ", ".join(silent)
            return Hit(
                Reason.HOLD_INCOMPLETE, detail=(f"what is in use is not known: {names} does not report",)
            )
        unreadable = [f"tag {each.name}" for each in self.repository.tags if each.digest is None]
        unreadable += [each.digest for each in self.families.manifests.values() if not each.readable]
        unreadable += [
            f"tag {each.name}"
            for each in self.repository.tags
            if each.digest is not None and each.digest not in self.families.manifests
        ]
        if unreadable:
            return Hit(Reason.HOLD_UNREADABLE, detail=(min(unreadable),))
        waiting = [each for each in self.repository.tags if self._unverified(each, UNVERIFIED_FOR)]
        if waiting:
            return Hit(Reason.HOLD_UNVERIFIED, detail=(min(each.name for each in waiting),))
        return None

    def _hold_of(self, tag: TagFacts) -> Hit | None:
        if self._holds is not None:
            return self._holds
        return (
            Hit(Reason.HOLD_UNVERIFIED, detail=(tag.name,)) if self._unverified(tag, timedelta(0)) else None
        )

    def _unverified(self, tag: TagFacts, period: timedelta) -> bool:
        return tag.unverified_since is not None and self._now - tag.unverified_since >= period

    def _of_tag(self, answers: Answers, live: Mapping[str, Live]) -> Verdict:
        tag = answers.tag
        if not answers.deleted:
            hits = answers.keeps or (answers.waits or NOTHING_DELETES,)
            return self._verdict(tag, Decision.KEEP, hits, expires_at=self._expires(answers), answers=answers)
        assert answers.delete is not None  # noqa: S101 - deleted says so
        if tag.name in self._held:
            return self._verdict(tag, Decision.HOLD, [self._held[tag.name], answers.delete], answers=answers)
        due = self._now + self._policy.undo.pending
        why = answers.delete
        hit = Hit(why.reason, why.rule, why.until, (*why.detail, live.get(tag.digest or "")))
        return self._verdict(tag, Decision.DELETE, [hit], expires_at=due, answers=answers)

    def _expires(self, answers: Answers) -> datetime | None:
        """Return the earliest instant at which a tag that stays would go if nothing changed."""
        due = answers.delete or answers.waits
        if due is None or due.until is None:
            return None
        expires = max(self._now, due.until)
        for hit in answers.keeps:
            if hit.until is None:
                return None
            expires = max(expires, hit.until)
        return expires

    def _of_carrier(self, tag: TagFacts, live: Mapping[str, Live], going: Mapping[str, Hit]) -> Verdict:
        own = self._carrier_own(tag)
        if own is not None and not is_delete(own):
            return self._verdict(tag, Decision.KEEP, [own], expires_at=own.until)
        subject = self.families.carriers[tag.name]
        if subject is not None and subject in live:
            return self._verdict(tag, Decision.KEEP, [Hit(Reason.LIVE_REFERRER_OF, detail=(subject,))])
        hit = own or going.get(subject or "") or NOTHING_DELETES
        if not is_delete(hit):
            return self._verdict(tag, Decision.KEEP, [hit])
        hold = self._hold_of(tag)
        if hold is not None:
            return self._verdict(tag, Decision.HOLD, [hold, hit])
        return self._verdict(tag, Decision.DELETE, [hit], expires_at=self._now + self._policy.undo.pending)

    def _carrier_own(self, tag: TagFacts) -> Hit | None:
        """Return what a carrier says for itself; None: its subject, which is here, decides."""
        for hit in (*self._tag_rules.guards(tag), *self._tag_rules.grace(tag)):
            return hit
        if self.families.carriers[tag.name] is not None:
            return None
        return self._manifest_rules.orphaned(self._manifest_rules.gone_since(None, tag.pushed))

    # --- manifests ---------------------------------------------------------------------------------------

    def _settled(self) -> tuple[dict[str, Live], dict[str, Hit], dict[str, Hit]]:
        """Return which manifests stay, which go and why, and what those that no tag needs say of themselves."""
        live: dict[str, Live] = {}
        self.families.spread(live, sorted(self._roots(), key=itemgetter(0)))
        own = self._own(live)
        going = dict(settle(self.families, live, own))
        return live, going, own

    def _roots(self) -> Iterator[tuple[str, Live]]:
        """Yield the manifests that stay before any other is asked."""
        for answers in self._answers.values():
            if not self._goes(answers) and answers.tag.digest is not None:
                yield answers.tag.digest, Live(Reason.LIVE_TAGGED, answers.tag.name)
        carriers = (tag for tag in self.repository.tags if tag.name in self.families.carriers)
        for tag in sorted(carriers, key=attrgetter("name")):
            if tag.digest is None:
                continue
            own = self._carrier_own(tag)
            if (own is not None and not is_delete(own)) or self._hold_of(tag) is not None:
                yield tag.digest, Live(Reason.LIVE_TAGGED, tag.name)
                subject = self.families.carriers[tag.name]
                if subject is not None:
                    yield subject, Live(Reason.LIVE_SUBJECT_OF, tag.digest)
        doubted = {tag.name for tag in self.repository.tags if tag.unverified_since is not None}
        for digest, manifest in self.families.manifests.items():
            hit = self._manifest_rules.guards(digest)
            if hit is not None:
                yield digest, Live(hit.reason)
            elif not doubted.isdisjoint(manifest.was_tagged):  # the tag may still point here
                yield digest, Live(Reason.HOLD_UNVERIFIED, min(doubted & set(manifest.was_tagged)))

    def _own(self, live: Mapping[str, Live]) -> dict[str, Hit]:
        """Return what each manifest that is not needed says for itself."""
        found = {}
        unlinked_at = self._now + self._policy.undo.pending + self._policy.undo.unlink_after
        for digest, manifest in self.families.manifests.items():
            if digest in live:
                continue
            tags = self.families.tags_of.get(digest, ())
            ordinary = [hit for tag in tags if tag in self._answers and (hit := self._answers[tag].delete)]
            going = ordinary[0] if ordinary else self._with_carriers(tags)
            if going is not None and is_delete(going):
                going = going._replace(until=unlinked_at)
            found[digest] = self._manifest_rules.own(manifest, going, tags)
        return found

    def _with_carriers(self, tags: Sequence[str]) -> Hit | None:
        """Return why a manifest goes that only carriers point to, none of which stays for itself; None without tags."""
        facts = {each.name: each for each in self.repository.tags if each.name in tags}
        hits = [self._carrier_own(facts[tag]) for tag in tags]
        return next((hit for hit in hits if hit is not None), FOLLOWS) if hits else None

    def _of_manifest(
        self,
        manifest: ManifestFacts,
        live: Mapping[str, Live],
        going: Mapping[str, Hit],
        own: Mapping[str, Hit],
    ) -> Verdict:
        digest = manifest.digest
        why = going.get(digest)
        if why is not None:
            hits = [why] if self._holds is None else [self._holds, why]
            decision = Decision.DELETE if self._holds is None else Decision.HOLD
            return self._verdict(
                manifest, decision, hits, expires_at=why.until if self._holds is None else None
            )
        need = live[digest]
        hit = own.get(digest) or self._manifest_rules.guards(digest) or Hit(need.reason, detail=(need.other,))
        if need.reason != hit.reason:  # something else needed it first
            hit = Hit(need.reason, detail=(need.other,))
        held = need.reason == Reason.HOLD_UNVERIFIED
        expires = self._manifest_rules.expires_at(manifest, hit)
        return self._verdict(manifest, Decision.HOLD if held else Decision.KEEP, [hit], expires_at=expires)

    def _verdict(
        self,
        facts: TagFacts | ManifestFacts,
        decision: Decision,
        hits: Sequence[Hit],
        *,
        expires_at: datetime | None = None,
        answers: Answers | None = None,
    ) -> Verdict:
        is_tag = isinstance(facts, TagFacts)
        use = answers.use if answers is not None else None
        if not is_tag and facts.digest is not None:
            use = self._uses.of_manifest(facts.digest)
        return Verdict(
            policy=self._policy.id,
            repository=self.repository.name,
            tag=facts.name if isinstance(facts, TagFacts) else None,
            digest=facts.digest,
            decision=decision,
            hit=hits[0],
            also=tuple(hits[1:]),
            expires_at=expires_at,
            all_tags=self.families.tags_of.get(facts.digest or "", ()) if is_tag else (),
            facts=facts,
            use=use,
            alarms=answers.alarms if answers is not None else (),
        )
