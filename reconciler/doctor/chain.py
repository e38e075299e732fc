"""Judges the steps of the canary, from the push to the event of its deletion. Pure.

A step that was not reached is skipped: the failed step above explains it.
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
"""A loop that fails waits up to half a minute between rounds."""

ENDED: Final = "ended"
"""The outcome of a loop whose process was stopped by a signal."""

_OK: Final = 200
_REFUSED: Final = (401, 403)


def judge_trail(trail: Trail, *, token: str | None) -> list[Check]:
    """Judge every step from the notification on."""
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
    """Judge a push that was refused; the steps after it are skipped."""
    if failure.fault is HttpFault.DENIED:
        cause = Cause(
            "the reconciler's user may not push to the probe repository, or the registry is read-only or a "
            "pull-through cache",
            "grant the user pull and push there, name another repository with --probe-repository, or run "
            "`reconciler doctor --read-only`",
        )
    else:
        cause = Cause("the registry cannot store", "see the registry's log; is its disk full?")
    return [
        failed(Link.PUSHED, failure.message, cause),
        *(skipped(link, f"not reached: {Link.PUSHED}") for link in CANARY_LINKS[1:]),
    ]


def _notified(trail: Trail, token: str | None) -> Check:
    if trail.events.push_seconds is not None:
        return ok(Link.NOTIFIED, f"after {trail.events.push_seconds:.1f} s")
    return failed(
        Link.NOTIFIED,
        f"no notification of the push within {trail.patience_seconds:g} s",
        *why_silent(trail, token=token),
    )


def _applied(trail: Trail) -> Check:
    state, events = trail.inventory, trail.events
    if state.live and state.digest == trail.canary.digest:
        return ok(Link.APPLIED, "as pushed")
    if events.quarantined is not None:
        return failed(
            Link.APPLIED,
            f"the notification is in quarantine: {events.quarantined}",
            Cause(
                "it could not be decoded or applied",
                "see `indexer inbox list`, and report it as a bug of the indexer",
            ),
        )
    if events.applied:
        where = "the tag points to another digest" if state.live else "the tag is not in the inventory"
        return failed(
            Link.APPLIED,
            f"the notification was applied, but {where}",
            Cause(
                "something else moved or deleted the canary, or a bug of the indexer",
                "read the audit log of the tag: it says who changed it",
            ),
        )
    waiting = trail.surroundings.inbox_waiting
    return failed(
        Link.APPLIED,
        f"the notification waits in the inbox, with {waiting} deliveries",
        _why_idle(trail, "ingest", program="indexer serve"),
    )


def _verified(trail: Trail) -> Check:
    state = trail.verified
    if state.verified_at is not None:
        seconds = (state.verified_at - trail.canary.pushed_at).total_seconds()
        return ok(Link.VERIFIED, f"after {max(seconds, 0):.1f} s")
    idle = _why_idle(trail, "verify", program="reconciler run")
    if state.failed_observations or (state.last_observation not in (None, trail.canary.digest)):
        found = (
            f"got no usable answer {state.failed_observations} times"
            if state.failed_observations
            else f"found {state.last_observation}"
        )
        return failed(
            Link.VERIFIED,
            f"`reconciler run` asked for the tag and {found}",
            Cause(
                "`reconciler run` asks another registry than this command, or as another user",
                "compare RECONCILER_REGISTRY_URL and RECONCILER_REGISTRY_USERNAME of both; behind a load balancer "
                "make sure that all instances of the registry share one storage",
            ),
            idle,
        )
    return failed(Link.VERIFIED, f"not observed within {trail.patience_seconds:g} s", idle)


def _read(trail: Trail) -> Check:
    if trail.read.content == "read":
        return ok(Link.READ, "size, kind and platforms are known")
    if trail.read.content in ("partly-read", "unreadable"):
        return failed(
            Link.READ,
            "what the registry serves is not the manifest that was pushed",
            Cause(
                "a proxy in front of the registry changes content",
                "set RECONCILER_REGISTRY_URL to the registry's own address",
            ),
        )
    return failed(
        Link.READ,
        f"not read within {trail.patience_seconds:g} s",
        _why_idle(trail, "resolve", program="reconciler run"),
    )


def _listed(trail: Trail) -> Check:
    listing = trail.listing
    if listing is None:
        return skipped(Link.LISTED, "the tag is not in the inventory")
    if not listing.by_store:
        return failed(
            Link.LISTED,
            "the tag is in the inventory and not in the listing",
            Cause("a bug of the indexer", "report it, with the output of `reconciler doctor --json`"),
        )
    if listing.api is None:
        return ok(
            Link.LISTED, "in the database (INDEXER_API_TOKENS is not set here, so the API was not asked)"
        )
    if listing.by_api:
        return ok(Link.LISTED, "by the API")
    return failed(Link.LISTED, f"the API answers {listing.api.summary}", _why_not_by_api(listing))


def _why_not_by_api(listing: ListingFact) -> Cause:
    assert listing.api is not None  # noqa: S101 - the caller asked; tells mypy
    if listing.api.status in _REFUSED:
        return Cause(
            "the running server has other INDEXER_API_TOKENS than this command",
            "set the server's tokens here, or restart the server with these",
        )
    if listing.api.status == _OK:
        return Cause(
            "the server at that address uses another database than this command",
            "compare INDEXER_DATABASE_URL of both",
        )
    return Cause("the server failed, or another service listens there", "see the server's log")


def _removed(trail: Trail) -> Check:
    removal = trail.removal
    by_hand = f"delete {trail.canary.name} yourself"
    if removal is Deletion.ACCEPTED:
        return ok(
            Link.REMOVED, f"the repository {trail.canary.repository} stays in the catalog, without tags"
        )
    if removal is Deletion.UNSUPPORTED:
        cause = Cause(
            "storage.delete.enabled is false in the registry, or the registry is read-only", by_hand
        )
        return warning(Link.REMOVED, "the registry does not allow deletes", cause)
    if removal is Deletion.ABSENT:
        return warning(
            Link.REMOVED,
            "the registry no longer had it",
            Cause(
                "a cleanup job deleted it, or the registry's instances do not share one storage",
                "compare the storage settings of the instances",
            ),
        )
    return warning(
        Link.REMOVED, removal.message, Cause("the reconciler's user may not delete there", by_hand)
    )


def _deletion(trail: Trail) -> Check:
    if trail.removal is not Deletion.ACCEPTED:
        return skipped(Link.DELETION, "nothing was deleted")
    if trail.events.push_seconds is None:
        how = "arrived" if trail.events_after_removal.delete else "did not arrive either"
        return skipped(Link.DELETION, f"not reached: {Link.NOTIFIED} (the delete event {how})")
    if not trail.events_after_removal.delete:
        return failed(
            Link.DELETION,
            f"no notification of the deletion within {trail.patience_seconds:g} s",
            Cause(IGNORED.likely.replace("manifests", "deletes"), IGNORED.remedy),
        )
    if not trail.gone:
        return failed(
            Link.DELETION,
            "the delete event arrived, but the tag is still in the inventory",
            _why_idle(trail, "ingest", program="indexer serve"),
        )
    return ok(Link.DELETION, "the delete event arrived, and the tag is gone from the inventory")


def _why_idle(trail: Trail, loop: str, *, program: str) -> Cause:
    """Return why the work of a loop was not done."""
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
            f"`{program}` is not running: {state.process} was stopped {state.age_seconds:.0f} s ago",
            f"start `{program}` again, with the same database",
        )
    if state.outcome == "failed" and state.age_seconds < STALE_FAILING_SECONDS:
        return Cause(
            f"the loop {loop} of {state.process} fails: {state.last_error or 'see its log'}",
            "correct what the error names",
        )
    if state.age_seconds > STALE_SECONDS:
        return Cause(
            f"`{program}` is not running, or hangs: the last round of {loop} by {state.process} was "
            f"{state.age_seconds:.0f} s ago",
            f"start `{program}` again, with the same database; see its log",
        )
    return Cause(
        f"{state.process} is running, and {loop} has much to do",
        "see the backlog in `reconciler status`, and run the doctor again with a longer --patience",
    )
