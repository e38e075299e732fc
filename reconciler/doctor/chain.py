"""The canary's way, judged link by link, from the push to the news of its deletion. Pure.

A link that was not reached is skipped: what is broken above explains it.
"""

from __future__ import annotations

from typing import Final

from reconciler.doctor.facts import Failure, HttpFault, ListingFact, LoopState, Trail
from reconciler.doctor.report import Cause, Check, Link, LinkOutcome, failed, ok, skipped, warning
from reconciler.doctor.silence import IGNORED, why_silent
from reconciler.registry.answers import Deletion

CANARY_LINKS: Final = (
    Link.PUSHED,
    Link.NOTIFIED,
    Link.APPLIED,
    Link.VERIFIED,
    Link.READ,
    Link.LISTED,
    Link.REMOVED,
    Link.DELETION,
)
STALE_SECONDS: Final = 15.0
"""A loop that runs reports every five seconds."""
STALE_FAILING_SECONDS: Final = 90.0
"""One that fails waits up to half a minute between rounds."""

ENDED: Final = "ended"
"""How the loops of a process are that was stopped by a signal."""

_OK: Final = 200
_REFUSED: Final = (401, 403)


def judge_trail(trail: Trail, *, token: str | None) -> list[Check]:
    """Judge every link from the notification on."""
    checks = [ok(Link.PUSHED, f"{trail.canary.name} ({trail.canary.digest[:19]}…)"), _notified(trail, token)]
    for link, judge in (
        (Link.APPLIED, _applied),
        (Link.VERIFIED, _verified),
        (Link.READ, _read),
        (Link.LISTED, _listed),
    ):
        broken = next((each for each in checks if each.outcome is LinkOutcome.FAILED), None)
        checks.append(judge(trail) if broken is None else skipped(link, f"not reached: {broken.link}"))
    return [*checks, _removed(trail), _deletion(trail)]


def judge_push(failure: Failure) -> list[Check]:
    """Judge a push that was refused; nothing follows it."""
    if failure.fault is HttpFault.DENIED:
        cause = Cause(
            "our user may not push to the probe repository, or the registry is read-only or a pull-through "
            "cache",
            "grant pull and push on it, name another with --probe-repository, or examine with --read-only",
        )
    else:
        cause = Cause("the registry cannot store", "see the registry's log; is its disk full?")
    return [
        failed(Link.PUSHED, failure.said, cause),
        *(skipped(link, f"not reached: {Link.PUSHED}") for link in CANARY_LINKS[1:]),
    ]


def _notified(trail: Trail, token: str | None) -> Check:
    if trail.news.push_seconds is not None:
        return ok(Link.NOTIFIED, f"after {trail.news.push_seconds:.1f} s")
    return failed(
        Link.NOTIFIED,
        f"no notification of the push within {trail.patience_seconds:g} s",
        *why_silent(trail, token=token),
    )


def _applied(trail: Trail) -> Check:
    state, news = trail.inventory, trail.news
    if state.live and state.digest == trail.canary.digest:
        return ok(Link.APPLIED, "as pushed")
    if news.quarantined is not None:
        return failed(
            Link.APPLIED,
            f"the notification is in quarantine: {news.quarantined}",
            Cause("it could not be decoded or applied", "see `indexer inbox list`; report it to us"),
        )
    if news.applied:
        return failed(
            Link.APPLIED,
            f"the notification was applied, yet the tag is {'another' if state.live else 'not there'}",
            Cause(
                "something else moved or deleted the canary, or a fault of ours",
                "see the audit log of the tag",
            ),
        )
    waiting = trail.surroundings.inbox_waiting
    return failed(
        Link.APPLIED,
        f"the notification waits in the inbox ({waiting} deliveries wait)",
        _why_idle(trail, "ingest", program="indexer serve"),
    )


def _verified(trail: Trail) -> Check:
    state = trail.verified
    if state.verified_at is not None:
        seconds = (state.verified_at - trail.canary.pushed_at).total_seconds()
        return ok(Link.VERIFIED, f"after {max(seconds, 0):.1f} s")
    idle = _why_idle(trail, "verify", program="reconciler run")
    if state.failed_observations or (state.last_observation not in (None, trail.canary.digest)):
        saw = (
            f"looks had no answer {state.failed_observations} times"
            if state.failed_observations
            else f"it saw {state.last_observation}"
        )
        return failed(
            Link.VERIFIED,
            f"the reconciler looked, and {saw}",
            Cause(
                "the running reconciler asks another registry, or with other rights, than this command",
                "compare RECONCILER_REGISTRY_URL and _USERNAME of both; behind a load balancer, the "
                "instances' storage",
            ),
            idle,
        )
    return failed(Link.VERIFIED, f"no look at it within {trail.patience_seconds:g} s", idle)


def _read(trail: Trail) -> Check:
    if trail.read.content == "read":
        return ok(Link.READ, "size, kind and platforms are known")
    if trail.read.content in ("partly-read", "unreadable"):
        return failed(
            Link.READ,
            "what the registry serves is not the manifest that was pushed",
            Cause("something between changes content", "ask the registry without the proxy"),
        )
    return failed(
        Link.READ,
        f"not read within {trail.patience_seconds:g} s",
        _why_idle(trail, "resolve", program="reconciler run"),
    )


def _listed(trail: Trail) -> Check:
    listing = trail.listing
    if listing is None:
        return skipped(Link.LISTED, "not asked")
    if not listing.by_store:
        return failed(
            Link.LISTED,
            "the tag is in the inventory and not in the listing",
            Cause("a fault of ours", "report it to us, with the output of this command as --json"),
        )
    if listing.api is None:
        return ok(Link.LISTED, "by the store (no INDEXER_API_TOKENS here to ask the API with)")
    if listing.by_api:
        return ok(Link.LISTED, "by the API")
    return failed(Link.LISTED, f"the API answers {listing.api.words}", _why_not_by_api(listing))


def _why_not_by_api(listing: ListingFact) -> Cause:
    assert listing.api is not None  # noqa: S101 - the caller asked; tells mypy
    if listing.api.status in _REFUSED:
        return Cause(
            "the running server has other INDEXER_API_TOKENS than this command",
            "use the server's here, or restart the server with these",
        )
    if listing.api.status == _OK:
        return Cause(
            "the server at that address uses another database than this command",
            "compare INDEXER_DATABASE_URL of both",
        )
    return Cause("the server failed, or another one listens there", "see the server's log")


def _removed(trail: Trail) -> Check:
    removal = trail.removal
    by_hand = f"delete {trail.canary.name} by hand"
    if removal is Deletion.ACCEPTED:
        return ok(Link.REMOVED, f"the empty repository {trail.canary.repository} stays in the catalog")
    if removal is Deletion.UNSUPPORTED:
        cause = Cause("the registry does not delete (storage.delete.enabled, or read-only)", by_hand)
        return warning(Link.REMOVED, "deletes are switched off", cause)
    if removal is Deletion.ABSENT:
        return warning(
            Link.REMOVED,
            "it was gone already",
            Cause(
                "a clean-up is at work, or the registry's instances do not share their storage",
                "compare the instances' storage",
            ),
        )
    return warning(Link.REMOVED, removal.said, Cause("our user may not delete there", by_hand))


def _deletion(trail: Trail) -> Check:
    if trail.removal is not Deletion.ACCEPTED:
        return skipped(Link.DELETION, "nothing was deleted")
    if trail.news.push_seconds is None:
        how = "came" if trail.events_after_removal.delete else "did not come either"
        return skipped(Link.DELETION, f"not reached: {Link.NOTIFIED} (news of the deletion {how})")
    if not trail.events_after_removal.delete:
        return failed(
            Link.DELETION,
            f"no notification of the deletion within {trail.patience_seconds:g} s",
            Cause(IGNORED.likely.replace("manifests", "deletes"), IGNORED.remedy),
        )
    if not trail.gone:
        return failed(
            Link.DELETION,
            "told, and the tag is still in the inventory",
            _why_idle(trail, "ingest", program="indexer serve"),
        )
    return ok(Link.DELETION, "told, and the tag is gone from the inventory")


def _why_idle(trail: Trail, loop: str, *, program: str) -> Cause:
    """Say how the loop fares whose work was not done."""
    states = sorted(
        (state for state in trail.surroundings.loops if state.loop == loop), key=lambda each: each.age_seconds
    )
    if not states:
        return Cause(
            f"no `{program}` has ever run on this database", f"start `{program}`, with the same database"
        )
    return _why_idle_one(states[0], loop, program=program)


def _why_idle_one(state: LoopState, loop: str, *, program: str) -> Cause:
    if state.outcome == ENDED:
        return Cause(
            f"`{program}` is not running: {state.process} was ended {state.age_seconds:.0f} s ago",
            f"start `{program}` again, with the same database",
        )
    if state.outcome == "failed" and state.age_seconds < STALE_FAILING_SECONDS:
        return Cause(
            f"the loop {loop} of {state.process} fails: {state.last_error or 'see its log'}",
            "mend what it complains of",
        )
    if state.age_seconds > STALE_SECONDS:
        return Cause(
            f"`{program}` is not running, or hangs: {state.process} last did a round of {loop} "
            f"{state.age_seconds:.0f} s ago",
            f"start `{program}` again, with the same database; see its log",
        )
    return Cause(
        f"{state.process} is at work, and {loop} has much to do",
        "see `reconciler status` for what waits; examine again with a longer --patience",
    )
