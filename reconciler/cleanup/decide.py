"""Whether one of our own requests undid somebody's push: what to conclude from what was seen afterwards. Pure.

No registry has a conditional delete. So a push may land between our last look at a tag and our request. It cannot be
prevented, but it cannot go unnoticed either (docs/explanation/a-deletion-loses-no-push.md):

- The registry queues the event of a push before it writes the tag, and the event of a deletion after it has removed the
  tag. A process delivers its events in the order of that queue. So once the event of our own request has been applied,
  every push that this process made before it has been, too.
- A push is lost if its event says that it was made after our last look, and the tag is now as our request left it.
- The times of one process are ordered. Those of two may differ by ``CLOCK_MARGIN``. A push of another manifest may have
  written its tag ``LINK_MARGIN`` after its event. Wherever the order is not known, the push wins, and is put back.
- Other processes must have been heard of after our request, by an event or by their counters, before nothing is waited
  for any more. Where that does not come, where a process began after our look, or where events may have been lost, it
  is uncertain, and says so. A push that is announced later is put back all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from indexer.inventory.own_actions import ActionKind, OtherInstance, TagAction, WatchedEvent
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.oci.digest import Digest
from indexer.oci.reference import TagName

LINK_MARGIN: Final = timedelta(seconds=60)
"""How long after a push's event the registry may still be writing its tag; on a local disk at most 36 ms (measured)."""

IN_FLIGHT: Final = timedelta(minutes=2)
"""How long a request without an answer may still be on its way, behind a proxy."""

SILENT_AFTER: Final = timedelta(minutes=1)
"""How long the event of our request, and a sign of every other process, is waited for before it is uncertain."""

UNREAD_FOR: Final = timedelta(minutes=10)
"""How long something that was pushed after a deletion was checked may be unread, until that one is uncertain again."""


@unique
class Verdict(StrEnum):
    """What follows for an action."""

    WAIT = "wait"
    CHECKED = "checked"
    NOT_DONE = "not_done"
    PUT_BACK = "put_back"
    UNCERTAIN = "uncertain"
    FINISH = "finish"
    """A tag still points to a dummy manifest of ours: it must be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the tag is now. ``dangling``: it is listed, and what it points to is gone."""

    digest: Digest | None
    dangling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known after the request. ``processes``: those of the registry that were heard of lately.

    ``put_back_until``: the newest push that was put back already. ``lossy``: why events may have been lost.
    ``deleted_again``: we looked at the tag since to delete it, and that request is on record. This is asked after the
    tag was seen: if that request removed it, it is known, even though its event may not be.
    """

    seen: Seen
    events: Sequence[WatchedEvent]
    processes: Sequence[OtherInstance] = ()
    put_back_until: datetime | None = None
    lossy: str | None = None
    deleted_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What follows, in a word and in a sentence; ``push``: the one to put back."""

    verdict: Verdict
    outcome: str = ""
    note: str = ""
    push: WatchedEvent | None = None


def conclude(action: TagAction, facts: Facts, now: datetime) -> Conclusion:
    """Decide what became of an action for which a request may have been sent."""
    left = None if action.kind is ActionKind.DELETE else action.digest
    announced = announcement(action, facts.events)
    if action.dummy is not None and (facts.seen.digest == action.dummy or facts.seen.dangling):
        return Conclusion(verdict=Verdict.FINISH)
    if facts.seen.digest != left or facts.deleted_again or _is_superseded(action, facts.events, announced):
        return _otherwise(action, facts, announced, now)
    lost = max(lost_pushes(action, facts, announced), key=lambda push: push.at, default=None)
    if lost is not None:
        return Conclusion(
            verdict=Verdict.PUT_BACK,
            outcome="put_back",
            note=f"a push of {lost.digest} is put back",
            push=lost,
        )
    if facts.put_back_until is not None:
        return Conclusion(verdict=Verdict.CHECKED, outcome="put_back", note="a push was put back")
    if announced is None:
        why = "the registry sent no notification of our own request, so a push meanwhile may be unknown, too"
        return _unless_silent(action, now, why)
    return _when_others_are_heard(action, facts, announced, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFacts:
    """What is known after a manifest was deleted by its digest.

    - ``present``: the registry has it. ``gone_tags``: of the tags it was pushed to meanwhile, those that are not there.
    - ``needed``: what was pushed meanwhile and needs it, in a sentence. ``unread``: it is not known yet what something
      refers to that was pushed meanwhile.
    - ``gone_tags`` has none that we deleted since. ``deleted_again``: we looked at the manifest since to delete it, and
      that action finds what it undid itself; a tag that this one undid is no less lost.
    - ``put_back``: of each tag when the newest push was made that was put back already; of '' when the manifest was.
    """

    present: bool
    events: Sequence[WatchedEvent]
    gone_tags: frozenset[str] = frozenset()
    needed: str | None = None
    unread: bool = False
    processes: Sequence[OtherInstance] = ()
    put_back: Mapping[TagName, datetime] = field(default_factory=dict)
    lossy: str | None = None
    deleted_again: bool = False


def conclude_unlink(action: TagAction, facts: ManifestFacts, now: datetime) -> Conclusion:
    """Decide what became of the deletion of a manifest by its digest, for which a request may have been sent.

    The request takes tags along that were pushed to the manifest since our last look, and leaves an index or a referrer
    that was pushed meanwhile without it. Both are put back.
    """
    announced = deletion_announced(facts.events)
    if facts.present and announced is None and action.done_at is None:
        return _not_carried_out(action, now, "the manifest is still there")
    pushed = bool(lost_with_manifest(action, facts, announced))
    needed = None if facts.present or facts.deleted_again else facts.needed
    why = "it was pushed meanwhile" if pushed else needed
    if why is not None:
        note = f"the manifest is put back: {why}"
        return Conclusion(verdict=Verdict.PUT_BACK, outcome="put_back", note=note)
    if facts.put_back:
        return Conclusion(verdict=Verdict.CHECKED, outcome="put_back", note="the manifest was put back")
    if facts.present and any(not each.ours and each.digest is not None for each in facts.events):
        note = "the manifest was pushed again"
        return Conclusion(verdict=Verdict.CHECKED, outcome="pushed_again", note=note)
    return _once_certain(action, facts, announced, now)


def deletion_announced(events: Iterable[WatchedEvent]) -> WatchedEvent | None:
    """Return the event of our own deletion of a manifest."""
    return next((each for each in events if each.announces and each.digest is None), None)


def _not_carried_out(action: TagAction, now: datetime, what: str) -> Conclusion:
    if now < (action.requested_at or now) + IN_FLIGHT:
        return Conclusion(verdict=Verdict.WAIT)
    note = f"the registry did not answer, and {what}"
    return Conclusion(verdict=Verdict.NOT_DONE, outcome="not_done", note=note)


def _once_certain(
    action: TagAction, facts: ManifestFacts, announced: WatchedEvent | None, now: datetime
) -> Conclusion:
    if announced is None:
        why = "the registry sent no notification of our own request, so a push meanwhile may be unknown, too"
        return _unless_silent(action, now, why)
    if facts.unread:
        why = "something was pushed meanwhile, and cannot be read yet"
        if action.ended_at is not None and now < action.ended_at + UNREAD_FOR:
            return Conclusion(verdict=Verdict.WAIT, note=why)
        return _unless_silent(action, now, why)
    gone = Facts(seen=Seen(digest=None), events=facts.events, processes=facts.processes, lossy=facts.lossy)
    return _when_others_are_heard(action, gone, announced, now)


def conclude_put(action: TagAction, facts: ManifestFacts, now: datetime) -> Conclusion:
    """Decide what became of a manifest that was put back, or restored, by its digest."""
    if facts.present:
        return Conclusion(verdict=Verdict.CHECKED, outcome="restored", note="the manifest is back")
    if action.done_at is None:
        return _not_carried_out(action, now, "the manifest is not there")
    return Conclusion(verdict=Verdict.CHECKED, outcome="moved_on", note="the manifest was deleted again")


def lost_with_manifest(
    action: TagAction, facts: ManifestFacts, announced: WatchedEvent | None
) -> list[WatchedEvent]:
    """Return the pushes of a manifest that its deletion may have undone: of its tags, or of itself by digest.

    Where every tag points was asked before. A push by digest leaves no trace that could be asked for: whenever it was
    made, the record had none that is newer than the plan, right before the request. So one that is noted since counts.
    """
    assert action.looked_at is not None  # noqa: S101 - no request is sent before a look
    put_back = {} if _was_late(facts.events, announced) else facts.put_back
    lost = []
    for push in facts.events:
        if push.ours or push.digest is None:
            continue
        if push.tag is not None and push.at < action.looked_at - LINK_MARGIN:
            continue
        if announced is not None and push.at > announced.at + CLOCK_MARGIN:
            continue  # it was there afterwards, and somebody else deleted it
        if put_back if push.tag is None else push.tag in put_back and push.at <= put_back[push.tag]:
            continue
        gone = not facts.present and not facts.deleted_again
        if push.tag in facts.gone_tags if push.tag is not None else gone:
            lost.append(push)
    return lost


def announcement(action: TagAction, events: Iterable[WatchedEvent]) -> WatchedEvent | None:
    """Return the event after which no event of an earlier push of the same process is outstanding.

    Of a deletion that is the tag's own: a dummy manifest's push comes before the tag is gone.
    """
    left = None if action.kind is ActionKind.DELETE else action.digest
    return next((event for event in events if event.announces and event.digest == left), None)


def lost_pushes(action: TagAction, facts: Facts, announced: WatchedEvent | None) -> Iterable[WatchedEvent]:
    """Yield the pushes that our request may have undone, if the tag is as the request left it."""
    assert action.looked_at is not None  # noqa: S101 - no request is sent before a look
    margin = CLOCK_MARGIN if _are_several(facts) else timedelta(0)
    until = None if _was_late(facts.events, announced) else facts.put_back_until
    for push in facts.events:
        if push.ours or push.digest is None or _is_made_good(action, push, until):
            continue
        same = push.digest == action.digest
        if same and action.kind is not ActionKind.DELETE:
            continue  # the tag points there
        # A person saw what the tag points to. A policy did not know of the push, which would have kept the tag.
        if push.at < action.looked_at - (margin if same and action.source == "operator" else LINK_MARGIN):
            continue
        if announced is not None and push.at > announced.at + CLOCK_MARGIN:
            continue  # the tag was there afterwards, and somebody else deleted it
        if any(_undid(event, push) for event in facts.events):
            continue
        yield push


def _is_made_good(action: TagAction, push: WatchedEvent, until: datetime | None) -> bool:
    """Tell whether a push was put back before, or was older than the push that this action puts back."""
    if (
        action.kind is ActionKind.PUT_BACK
        and action.published_at is not None
        and push.at <= action.published_at
    ):
        return True
    return until is not None and push.at <= until


def _is_superseded(action: TagAction, events: Iterable[WatchedEvent], announced: WatchedEvent | None) -> bool:
    """Tell whether we deleted the tag again since: that look saw what was there, and that action is followed itself."""
    if action.kind is not ActionKind.DELETE or announced is None:
        return False
    return any(
        event.ours
        and not event.announces
        and event.digest is None
        and event.at > announced.at + (timedelta(0) if event.instance == announced.instance else CLOCK_MARGIN)
        for event in events
    )


def _was_late(events: Iterable[WatchedEvent], announced: WatchedEvent | None) -> bool:
    """Tell whether our request, without an answer, reached the registry after something was put back already."""
    put_back = [
        event.at for event in events if event.ours and not event.announces and event.digest is not None
    ]
    return announced is not None and bool(put_back) and max(put_back) < announced.at


def _undid(event: WatchedEvent, push: WatchedEvent) -> bool:
    """Tell whether somebody else deleted the tag after a push, by the clock of the process that did both."""
    return not event.ours and event.digest is None and event.instance == push.instance and event.at > push.at


def _are_several(facts: Facts) -> bool:
    return len({*(each.id for each in facts.processes), *(event.instance for event in facts.events)}) > 1


def _otherwise(action: TagAction, facts: Facts, announced: WatchedEvent | None, now: datetime) -> Conclusion:
    """Decide where the tag is not as our request leaves it: it was not carried out, or somebody pushed after it."""
    put_back = facts.put_back_until is not None
    if put_back or (action.kind is ActionKind.DELETE and facts.seen.digest is None):
        note = "a push was put back" if put_back else "the tag was deleted again since"
        return Conclusion(verdict=Verdict.CHECKED, outcome="put_back" if put_back else "deleted", note=note)
    in_flight = action.done_at is None and action.requested_at is not None
    if announced is None and in_flight and now < (action.requested_at or now) + IN_FLIGHT:
        return Conclusion(verdict=Verdict.WAIT)
    if action.kind is ActionKind.DELETE:
        pushed = any(not event.ours and event.digest == facts.seen.digest for event in facts.events)
        if announced is None and not pushed and action.done_at is None:
            return Conclusion(
                verdict=Verdict.NOT_DONE,
                outcome="not_done",
                note="the registry did not answer, and the tag is still there",
            )
        return Conclusion(
            verdict=Verdict.CHECKED,
            outcome="pushed_again",
            note=f"the tag was pushed again and points to {facts.seen.digest}",
        )
    if announced is None and action.done_at is None:
        return Conclusion(
            verdict=Verdict.NOT_DONE,
            outcome="not_done",
            note="the registry did not answer, and the tag is not there",
        )
    now_is = "is gone" if facts.seen.digest is None else f"points to {facts.seen.digest}"
    return Conclusion(
        verdict=Verdict.CHECKED, outcome="moved_on", note=f"the tag was changed again meanwhile: it {now_is}"
    )


def _when_others_are_heard(
    action: TagAction, facts: Facts, announced: WatchedEvent, now: datetime
) -> Conclusion:
    """Decide where the tag is as we left it, and no push is known that was lost."""
    assert action.looked_at is not None  # noqa: S101 - no request is sent before a look
    if facts.lossy is not None:
        return _uncertain(f"notifications may have been lost meanwhile ({facts.lossy})")
    if _began_meanwhile(action.looked_at, announced, facts.processes):
        return _uncertain(
            "the registry process was first heard of after the last look at the tag, so it may have been restarted "
            "in between, and a restart loses notifications"
        )
    unheard = [
        each for each in facts.processes if not _is_heard(each, action.looked_at, announced, facts.processes)
    ]
    if unheard:
        named = ", ".join(sorted({each.address for each in unheard})[:3])
        return _unless_silent(action, now, f"nothing was heard since of the registry process {named}")
    if action.kind is ActionKind.DELETE:
        return Conclusion(
            verdict=Verdict.CHECKED, outcome="deleted", note="the tag is gone, and no push was lost"
        )
    if action.kind is ActionKind.UNLINK:
        return Conclusion(
            verdict=Verdict.CHECKED, outcome="unlinked", note="the manifest is gone, and no push was lost"
        )
    return Conclusion(
        verdict=Verdict.CHECKED, outcome="restored", note="the tag is back, and no push was lost"
    )


def _began_meanwhile(
    looked_at: datetime, announced: WatchedEvent, processes: Sequence[OtherInstance]
) -> bool:
    own = next((each for each in processes if each.id == announced.instance), None)
    if own is not None and own.counted_from is not None and own.counted_from <= looked_at:
        return False
    others = any(each.id != announced.instance for each in processes)
    return others and announced.instance_first_at > looked_at


def _is_heard(
    process: OtherInstance,
    looked_at: datetime,
    announced: WatchedEvent,
    processes: Sequence[OtherInstance],
) -> bool:
    """Tell whether no event of a process that it made before our request can be outstanding."""
    after = announced.at + CLOCK_MARGIN
    if process.id == announced.instance or process.last_event_at > after:
        return True
    if process.accounted_until is not None and process.accounted_until > after:
        return True
    before = looked_at - CLOCK_MARGIN
    if process.ended_at is not None and process.ended_at < before:
        return True
    return any(  # it was replaced before our look
        each.address == process.address and process.last_event_at < each.first_event_at <= before
        for each in processes
        if each.id != process.id
    )


def _unless_silent(action: TagAction, now: datetime, why: str) -> Conclusion:
    since = action.done_at or action.requested_at or now
    if now < since + SILENT_AFTER:
        return Conclusion(verdict=Verdict.WAIT, note=why)
    return _uncertain(why)


def _uncertain(why: str) -> Conclusion:
    return Conclusion(verdict=Verdict.UNCERTAIN, outcome="uncertain", note=why)
