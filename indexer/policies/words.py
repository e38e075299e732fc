"""The reason of a verdict in words: one sentence, made of what the verdict holds, without a clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from indexer.policies.families import Live
from indexer.policies.intervals import LONG_AGO, Between
from indexer.policies.uses import LastUse
from indexer.policies.verdicts import Decision, Hit, Reason, Verdict

SHOWN_DIGEST = 19
_UNITS = ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def text_of(verdict: Verdict) -> str:
    """Return the reason of a verdict as a sentence."""
    if verdict.decision is Decision.DELETE:
        return _delete(verdict)
    found = _TEXTS[verdict.hit.reason](verdict.hit)
    if verdict.decision is Decision.HOLD and verdict.also:
        rule = verdict.also[0].rule
        return f"would be deleted by {rule or verdict.also[0].reason}; held: {found}"
    return found + ("; ALARM: it is immutable and was moved" if "immutable_moved" in verdict.alarms else "")


def period(value: timedelta) -> str:
    """Return a period as the file writes it: ``14d``."""
    seconds = int(value.total_seconds())
    if not seconds or value.microseconds:
        return f"{value.total_seconds():g}s"
    unit, name = next(each for each in _UNITS if seconds % each[0] == 0)
    return f"{seconds // unit}{name}"


def _at(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%MZ")


def _when(at: Between) -> str:
    if at.is_point:
        return _at(at.latest)
    return (
        f"by {_at(at.latest)}"
        if at.earliest == LONG_AGO
        else f"between {_at(at.earliest)} and {_at(at.latest)}"
    )


def _rule(hit: Hit) -> str:
    return f"rule {hit.rule}" if hit.rule else "the policy"


def _short(digest: Any) -> str:
    return f"{str(digest)[:SHOWN_DIGEST]}…"


def _delete(verdict: Verdict) -> str:
    """Say which rule deletes it, when it was pushed and used, and what stays of it."""
    hit, facts = verdict.hit, verdict.facts
    parts = []
    match hit.reason:
        case Reason.DELETE_UNTAGGED:
            parts.append("untagged")
        case Reason.DELETE_ORPHAN_REFERRER:
            parts.append("attached to what is not here any more")
        case Reason.DELETE_TTL:
            parts.append(f"{_rule(hit)}: the time is over that its own annotation gives it")
        case _:
            parts.append(
                f"{_rule(hit)} deletes it"
                if verdict.tag is not None
                else f"{_rule(hit)} deleted its last tag"
            )
    if facts is not None:
        parts.append(f"pushed {_when(facts.pushed)}")
    if verdict.use is not None:
        parts.append(_used(verdict.use))
    stays = hit.detail[2] if len(hit.detail) > 2 else None  # noqa: PLR2004 - see repository_verdicts
    if isinstance(stays, Live):
        parts.append(f"its manifest stays: {_live(stays)}")
    return "; ".join(parts)


def _used(use: LastUse) -> str:
    """Say when something was pulled last, and what was left out of account."""
    since = "ever" if use.gap.to_at is None else f"since pulls are known without a gap, {_at(use.gap.to_at)}"
    said = f"not pulled {since}" if use.seen_at is None else f"pulled last {_at(use.seen_at)}"
    if use.ignored is None:
        return said
    times = "1 pull" if use.ignored.times == 1 else f"{use.ignored.times} pulls"
    return f"{said} ({times} by {', '.join(use.ignored.by)} ignored)"


def _live(live: Live) -> str:
    match live.reason:
        case Reason.LIVE_TAGGED:
            return f"tag {live.other}"
        case Reason.LIVE_CHILD_OF | Reason.LIVE_REFERRER_OF | Reason.LIVE_SUBJECT_OF:
            return _related(Hit(live.reason, detail=(live.other,)))
        case _:
            return str(live.reason)


def _related(hit: Hit) -> str:
    words = {
        Reason.LIVE_CHILD_OF: "a child of",
        Reason.LIVE_REFERRER_OF: "attached to",
        Reason.LIVE_SUBJECT_OF: "the subject of",
    }
    return f"{words[Reason(hit.reason)]} {_short(hit.detail[0])}, which stays"


def _newest(hit: Hit) -> str:
    count, by, group, uncertain = hit.detail
    of = f" of {'.'.join(group)}" if group else ""
    said = f"{_rule(hit)}: among the newest {count}{of}, by {by}"
    return f"{said}; that others are newer is not certain" if uncertain else said


def _pulled(hit: Hit) -> str:
    use, within = hit.detail
    assert isinstance(use, LastUse)  # noqa: S101 - see tag_rules
    if use.seen_at is not None and use.seen_at == use.at.latest:
        return f"{_rule(hit)}: pulled {_at(use.seen_at)}, within {period(within)}"
    until = f"{_at(use.at.latest)} ({use.gap.because})"
    return f"{_rule(hit)}: it may have been pulled until {until}, within {period(within)}"


def _waits(hit: Hit) -> str:
    when = "" if hit.until is None else f", from {_at(hit.until)} on"
    return f"{_rule(hit)} will delete it if nothing changes{when}"


def _unknown(what: str) -> Callable[[Hit], str]:
    def say(hit: Hit) -> str:
        when = "" if hit.until is None else f"; certain from {_at(hit.until)} on"
        return f"{_rule(hit)} may apply, and {what} is not known well enough{when}"

    return say


def _grace(what: str) -> Callable[[Hit], str]:
    def say(hit: Hit) -> str:
        at, within = hit.detail
        when = _when(at) if isinstance(at, Between) else _at(at)
        return f"{what} {when}; nothing goes within {period(within)} of that"

    return say


def _held(hit: Hit) -> str:
    owner, reason = hit.detail
    return f"on hold by {owner}: {reason}" + ("" if hit.until is None else f" (until {_at(hit.until)})")


def _history(hit: Hit) -> str:
    count, tag = hit.detail
    return f"{_rule(hit)}: one of the last {count} digests that {tag} pointed to"


_TEXTS: dict[str, Callable[[Hit], str]] = {
    Reason.PROTECT_NAME: lambda hit: f"{_rule(hit)} protects it",
    Reason.PROTECT_IMMUTABLE: lambda hit: f"{_rule(hit)} protects it",
    Reason.PROTECT_IN_USE: lambda hit: f"in use, as {', '.join(hit.detail) or 'a source'} reports",
    Reason.PROTECT_HOLD: _held,
    Reason.GRACE_PUSHED: _grace("pushed"),
    Reason.GRACE_MOVED: _grace("moved"),
    Reason.GRACE_RESTORED: _grace("restored"),
    Reason.GRACE_UNDO: _grace("its last tag was deleted by cleanup"),
    Reason.KEEP_NAME: lambda hit: f"{_rule(hit)} keeps it",
    Reason.KEEP_NEWEST: _newest,
    Reason.KEEP_SEMVER: _newest,
    Reason.KEEP_PULLED: _pulled,
    Reason.KEEP_PUSHED: lambda hit: (
        f"{_rule(hit)}: pushed {_when(hit.detail[0])}, within {period(hit.detail[1])}"
    ),
    Reason.KEEP_PREVIOUS: _history,
    Reason.KEEP_WAS_TAGGED: lambda hit: f"{_rule(hit)} keeps what {hit.detail[0]} pointed to",
    Reason.KEEP_NEVER_EMPTY: lambda _: (
        "the newest tag of a repository that would lose all (brake.never_empty)"
    ),
    Reason.KEEP_BUDGET: lambda hit: f"{_rule(hit)} would delete it; with it the {hit.detail[0]} bytes hold",
    Reason.KEEP_NOT_DUE: _waits,
    Reason.KEEP_UNKNOWN_TIME: _unknown("when it was pushed or lost its tag"),
    Reason.KEEP_UNKNOWN_COVERAGE: _unknown("whether it was pulled"),
    Reason.KEEP_NO_DELETE_RULE: lambda _: "no rule deletes it",
    Reason.LIVE_CHILD_OF: _related,
    Reason.LIVE_REFERRER_OF: _related,
    Reason.LIVE_SUBJECT_OF: _related,
    Reason.LIVE_TAGGED: lambda hit: f"tag {hit.detail[0]} points to it",
    Reason.LIVE_HISTORY: _history,
    Reason.HOLD_UNVERIFIED: lambda hit: f"where tag {hit.detail[0]} points was not verified",
    Reason.HOLD_INCOMPLETE: lambda hit: str(hit.detail[0]),
    Reason.HOLD_UNREADABLE: lambda hit: f"{hit.detail[0]} cannot be read, so what it needs is not known",
    Reason.HOLD_REPOSITORY_SHARE: lambda _: (
        "the repository would lose more of its tags than brake.repository_share"
    ),
}
"""One for every reason that is not a deletion."""
