"""Which tag a pull by digest was a pull of.

Clients ask for a tag by HEAD and then fetch the digest they were told by GET (containerd, docker; the registry's event
of the GET names no tag). That is one pull of that tag. Rules:

- A HEAD is a check. It waits for the GET that may follow it: of the same repository and digest, from the same address,
  with the same user agent and actor.
- A GET by digest takes one waiting check, made at most ``WINDOW`` before: the newest one that is not after it, else
  one that is after it by no more than clocks of registry processes differ. It is a pull of that check's tag.
- A GET by digest that finds no check is a pull of the manifest alone, and a check that no GET follows is no pull.
- A GET by tag needs no check and takes none.

What waits is counted, so that many clients behind one address are not taken for one.
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
"""From a check to the GET that it belongs to: the client has the answer at once, and asks again if it was throttled."""


class Asking(NamedTuple):
    """Who asks for what: a check and the GET that follows it are alike in all of it."""

    repository: RepositoryName
    digest: Digest
    address: str
    user_agent: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCheck:
    """Checks of one tag that no GET took yet: how many, and when the oldest and the newest were."""

    checks: int
    oldest_at: datetime
    newest_at: datetime

    def instants(self, most: int) -> list[datetime]:
        """Return when they were, at most ``most`` of them; those in between as if they came evenly."""
        count = min(self.checks, most)
        step = (self.newest_at - self.oldest_at) / max(count - 1, 1)
        return [self.newest_at - step * number for number in reversed(range(count))]


Checks = Mapping[tuple[Asking, TagName], WaitingCheck]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The tag of each GET by digest that has one, by the event's id; and what waits now, of each pair that changed."""

    tags: Mapping[str, TagName] = field(default_factory=dict)
    waiting: Mapping[tuple[Asking, TagName], WaitingCheck | None] = field(default_factory=dict)


def asking_of(event: Event) -> Asking | None:
    """Return who asks for what, where the event is a check of a tag or a GET by digest; else None."""
    if event.action is not EventAction.PULL or event.ours or event.is_blob or event.digest is None:
        return None
    if event.is_check != (event.tag is not None):
        return None  # a GET of a tag says what it is; a HEAD of a digest speaks of no tag
    request = event.request
    return Asking(event.repository, event.digest, request.address, request.user_agent, event.actor or "")


def attribute(events: Iterable[Event], checks: Checks) -> Attribution:
    """Decide which tags the GETs among ``events`` pulled; ``checks`` are those that waited before."""
    found = [(event, asking) for event in events if (asking := asking_of(event)) is not None]
    gets = sorted(
        ((event, asking) for event, asking in found if not event.is_check),
        key=lambda each: each[0].occurred_at,
    )
    waiting: dict[Asking, dict[TagName, list[datetime]]] = {}
    unread: dict[tuple[Asking, TagName], int] = {}
    for (asking, tag), before in checks.items():
        instants = before.instants(len(gets) + 1)  # one more: the oldest and the newest can be taken
        waiting.setdefault(asking, {})[tag] = instants
        unread[asking, tag] = before.checks - len(instants)
    changed: set[tuple[Asking, TagName]] = set()
    for event, asking in sorted(found, key=lambda each: each[0].occurred_at):
        if event.is_check and event.tag is not None:
            insort(waiting.setdefault(asking, {}).setdefault(event.tag, []), event.occurred_at)
            changed.add((asking, event.tag))
    tags: dict[str, TagName] = {}
    for event, asking in gets:
        taken_of = _take(waiting.get(asking, {}), event.occurred_at)
        if taken_of is not None:
            changed.add((asking, taken_of))
            tags[event.id] = taken_of
    left = {
        (asking, tag): _left(waiting[asking][tag], checks.get((asking, tag)), unread.get((asking, tag), 0))
        for asking, tag in changed
    }
    return Attribution(tags=tags, waiting=left)


def _take(waiting: Mapping[TagName, list[datetime]], at: datetime) -> TagName | None:
    """Take the check that a GET at ``at`` belongs to out of what waits, instants in order; return its tag."""
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
    """Return what still waits; what is so old that no GET can take it any more does not.

    ``unread`` of those from ``before`` are not among the instants: there were not enough GETs to take them all.
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
