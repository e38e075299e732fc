"""Which tag a pull by digest is a pull of.

Clients ask for a tag by HEAD and then GET the digest of the answer (containerd, docker). The registry's event of the
GET names no tag. Both together are one pull of that tag. The rules:

- A HEAD of a tag is a check. It waits for the GET that may follow: of the same repository and digest, from the same
  address, with the same user agent and actor.
- A GET by digest takes one waiting check, made at most ``WINDOW`` before it: the newest that is not after it, else one
  that is after it by no more than the clock margin. It is a pull of that check's tag.
- A GET by digest without a check is a pull of the manifest alone. A check without a GET is not a pull.
- A GET by tag needs no check and takes none.

Waiting checks are counted, so that many clients behind one address are not taken for one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from indexer.inventory.events import Event, EventAction
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName

WINDOW = timedelta(minutes=5)
"""At most from a check to its GET: the client has the answer at once, and asks again if it was throttled."""


class PullKey(NamedTuple):
    """What a check and its GET have in common."""

    repository: RepositoryName
    digest: Digest
    address: str
    user_agent: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCheck:
    """Checks of one tag that wait for their GET: how many, and when the oldest and the newest were made."""

    checks: int
    oldest_at: datetime
    newest_at: datetime

    def instants(self, most: int) -> list[datetime]:
        """Return when they were made, at most ``most`` of them; those in between as if evenly spaced."""
        count = min(self.checks, most)
        step = (self.newest_at - self.oldest_at) / max(count - 1, 1)
        return [self.newest_at - step * number for number in reversed(range(count))]


Checks = Mapping[tuple[PullKey, TagName], WaitingCheck]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """By event id the tag of each GET by digest that has one; and what waits now, of each pair that changed."""

    tags: Mapping[str, TagName] = field(default_factory=dict)
    waiting: Mapping[tuple[PullKey, TagName], WaitingCheck | None] = field(default_factory=dict)


def pull_key_of(event: Event) -> PullKey | None:
    """Return the key, where the event is a check of a tag or a GET by digest; else None."""
    if event.action is not EventAction.PULL or event.ours or event.is_blob or event.digest is None:
        return None
    if event.is_check != (event.tag is not None):
        return None  # a GET of a tag needs no check; a HEAD of a digest names no tag
    request = event.request
    return PullKey(event.repository, event.digest, request.address, request.user_agent, event.actor or "")


def attribute(events: Iterable[Event], checks: Checks) -> Attribution:
    """Decide which tags the GETs among ``events`` are pulls of; ``checks`` are those that waited before."""
    found = [(event, key) for event in events if (key := pull_key_of(event)) is not None]
    gets = sorted(
        ((event, key) for event, key in found if not event.is_check),
        key=lambda each: each[0].occurred_at,
    )
    waiting: dict[PullKey, dict[TagName, list[datetime]]] = {}
    unread: dict[tuple[PullKey, TagName], int] = {}
    for (key, tag), before in checks.items():
        instants = before.instants(len(gets) + 1)  # one more: the oldest and the newest can be taken
        waiting.setdefault(key, {})[tag] = instants
        unread[key, tag] = before.checks - len(instants)
    changed: set[tuple[PullKey, TagName]] = set()
    for event, key in sorted(found, key=lambda each: each[0].occurred_at):
        if event.is_check and event.tag is not None:
            insort(waiting.setdefault(key, {}).setdefault(event.tag, []), event.occurred_at)
            changed.add((key, event.tag))
    tags: dict[str, TagName] = {}
    for event, key in gets:
        taken_of = _take(waiting.get(key, {}), event.occurred_at)
        if taken_of is not None:
            changed.add((key, taken_of))
            tags[event.id] = taken_of
    left = {
        (key, tag): _left(waiting[key][tag], checks.get((key, tag)), unread.get((key, tag), 0))
        for key, tag in changed
    }
    return Attribution(tags=tags, waiting=left)


def _take(waiting: Mapping[TagName, list[datetime]], at: datetime) -> TagName | None:
    """Remove from the waiting checks (sorted instants) the one that a GET at ``at`` belongs to; return its tag."""
    best: tuple[bool, datetime, TagName] | None = None
    for tag, instants in waiting.items():
        before = bisect_right(instants, at)
        nearest = instants[before - 1 : before] or instants[before : before + 1]
        if nearest and at - WINDOW <= nearest[0] <= at + CLOCK_MARGIN:
            candidate = (nearest[0] <= at, nearest[0], tag)
            best = candidate if best is None else max(best, candidate)
    if best is None:
        return None
    _, checked_at, tag = best
    del waiting[tag][bisect_left(waiting[tag], checked_at)]
    return tag


def _left(instants: list[datetime], before: WaitingCheck | None, unread: int) -> WaitingCheck | None:
    """Return what still waits, without checks that are too old for any GET.

    ``unread`` of those in ``before`` are not among the instants, since there were not enough GETs to take them all.
    """
    others = before if unread else None
    known = [*instants, *([others.oldest_at, others.newest_at] if others is not None else [])]
    if not known:
        return None
    newest_at = max(known)
    since = newest_at - WINDOW
    if others is not None and others.newest_at < since:
        unread = 0
    return WaitingCheck(
        checks=unread + sum(at >= since for at in instants),
        oldest_at=min(at for at in known if at >= since),
        newest_at=newest_at,
    )
