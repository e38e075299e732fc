"""Judges every step before the canary: does each part answer, and does it accept us? Pure.

Each function judges the facts of one step. A cause is named only where the answer proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from indexer.common.rfc3339 import format_time
from reconciler.doctor.facts import (
    Database,
    Failure,
    Family,
    HttpAnswer,
    HttpFault,
    LogState,
    ReceiverFact,
    RegistryFacts,
    SchemaState,
)
from reconciler.doctor.report import Cause, Check, Link, failed, ok, skipped, warning
from reconciler.registry.answers import Deletion, TagListing
from reconciler.registry.cache import CacheKind, RegistryKind

OLDEST_POSTGRES: Final = 150000
CLOCKS_NOTED_SECONDS: Final = 5.0
RECENT_SECONDS: Final = 120.0
"""A loop that did not run for so long belongs to a process that is gone."""

CLOCKS_BROKEN_SECONDS: Final = 60.0
"""Distribution allows a token's times to be off by a minute (measured on 2.8.2 and 3.1.1)."""

_OK: Final = 200
_ACCEPTED: Final = 202
_REFUSED: Final = (401, 403)
_UNAVAILABLE: Final = 503


MAY_LACK_WRITES: Final = "INDEXER_PROXY_SECRET is not set, so an answer may lack the newest writes"


def judge_settings(problems: Sequence[str], remarks: Sequence[str], *, takes_notices: bool = False) -> Check:
    """Judge the settings; ``remarks``: missing ones that only make the examination shorter."""
    cause = Cause("a setting is missing or wrong", "correct it; docs/reference/settings.md lists them all")
    if problems:
        return failed(Link.SETTINGS, "; ".join(problems), cause)
    if remarks:
        return warning(Link.SETTINGS, "; ".join(remarks), cause)
    return ok(Link.SETTINGS, "complete" if takes_notices else f"complete; {MAY_LACK_WRITES}")


def judge_database(fact: Database | str) -> Check:
    """Judge the connection; a string says why there is none."""
    if isinstance(fact, str):
        return failed(
            Link.DATABASE,
            fact,
            Cause(
                "INDEXER_DATABASE_URL is wrong, or the database is down or not reachable from here",
                "start it or correct the URL; `indexer up` starts a database of its own",
            ),
        )
    if fact.version_number < OLDEST_POSTGRES:
        return failed(
            Link.DATABASE,
            f"PostgreSQL {fact.version}",
            Cause("PostgreSQL 15 or newer is needed", "upgrade PostgreSQL"),
        )
    return ok(Link.DATABASE, f"PostgreSQL {fact.version}")


def judge_schema(state: SchemaState) -> Check:
    """Judge whether the schema is the one this program was built for."""
    if state.problem is None:
        return ok(Link.SCHEMA, "current")
    if state.obstacle is not None:
        cause = Cause("`indexer migrate` cannot create tables in this database", state.obstacle)
    elif state.refused:
        cause = Cause(
            "this command uses another database role than `indexer migrate` did",
            "set INDEXER_DATABASE_URL here as it is set for the running programs",
        )
    else:
        cause = Cause(
            "the database was not migrated yet, or has the schema of another release",
            "run `indexer migrate` of the newest release in use",
        )
    return failed(Link.SCHEMA, state.problem, cause)


def judge_log(log: LogState) -> Check:
    """Judge the audit log by the indexer's own checks: whether it equals what was sealed, and whether it is signed."""
    if log.damaged:
        more = f", and {log.damaged - 1} more" if log.damaged > 1 else ""
        return failed(
            Link.LOG,
            f"{log.first}{more}",
            Cause(
                "somebody changed the database by SQL, or it was restored in part",
                "first copy the database as it is; then see docs/how-to/prove-the-audit-log.md",
            ),
        )
    if log.conflicts:
        return failed(
            Link.LOG,
            "; ".join(log.conflicts),
            Cause(
                "the database was restored from a backup older than that checkpoint, or is another one",
                "see docs/how-to/back-up-and-restore.md, which says how the log is continued",
            ),
        )
    recent = [loop for loop in log.signing if loop.age_seconds < RECENT_SECONDS and loop.outcome != "ended"]
    if recent and not any(loop.outcome == "good" for loop in recent):
        return warning(
            Link.LOG,
            f"it is not signed: {recent[0].last_error}",
            Cause(
                "the server does not have the log's key, or the database was restored to an earlier state",
                "do what the error says",
            ),
        )
    if log.compared_at is None:
        return ok(Link.LOG, "no damage found; not yet compared in full with its hashes")
    return ok(Link.LOG, f"as it was sealed and signed, compared in full at {format_time(log.compared_at)}")


def judge_kind(fact: RegistryKind | Failure) -> Check:
    """Judge whether the registry stores what is pushed to it, or is a pull-through cache."""
    unknown = Cause(
        "the reconciler's user may not push, or a proxy refuses pushes, so a pull-through cache cannot be recognised",
        "set RECONCILER_REGISTRY_IS_CACHE=true if the registry's configuration has `proxy:`, otherwise =false",
    )
    if isinstance(fact, Failure):
        return warning(Link.KIND, fact.message, unknown)
    match fact.nature:
        case CacheKind.STORE:
            return ok(Link.KIND, f"stores what is pushed to it: {fact.because}")
        case CacheKind.CACHE:
            return warning(
                Link.KIND,
                f"a pull-through cache: {fact.because}",
                Cause(
                    "its configuration has `proxy:`, or RECONCILER_REGISTRY_IS_CACHE is true",
                    "make sure that the endpoint's ignore block does not name pull: a cache announces its content by "
                    "pull events alone. Nothing is reconciled with it, and no canary is pushed",
                ),
            )
        case CacheKind.UNKNOWN:
            return warning(Link.KIND, fact.because, unknown)
    assert_never(fact.nature)


def judge_tag_listing(fact: TagListing | Failure) -> Check:
    """Judge whether listings are complete, by the answer for a repository that never existed."""
    if isinstance(fact, Failure):
        return skipped(Link.TAG_LISTING, fact.message)
    if fact.unknown_repository or fact.names:
        return ok(Link.TAG_LISTING, "leaves out no tags")
    return warning(
        Link.TAG_LISTING,
        "may leave out tags: for a repository that never existed it answers with an empty list",
        Cause(
            "Distribution 3.1.0 or 3.1.1 on S3, which does not list build-10 beside build-1",
            "upgrade the registry to a version without this bug; until then reconciles search for such tags "
            "(docs/explanation/known-limits.md)",
        ),
    )


def judge_indexer(url: str, ready: HttpAnswer) -> Check:
    """Judge what ``/readyz`` answered."""
    if ready.status == _OK:
        return ok(Link.INDEXER, f"{url} is ready")
    if ready.status is None:
        return failed(
            Link.INDEXER,
            f"{url}: {ready.text}",
            Cause(
                "`indexer serve` does not run, or listens elsewhere",
                "start it, or name its address with --indexer-url",
            ),
        )
    if ready.is_redirect:
        return failed(Link.INDEXER, f"{url}/readyz answers {ready.summary}", _redirecting())
    if ready.status == _UNAVAILABLE:
        return failed(
            Link.INDEXER,
            f"{url} is not ready: {ready.text[:200]}",
            Cause("the server has lost its database, or its schema is not current", "see the server's log"),
        )
    return failed(Link.INDEXER, f"{url}/readyz answers {ready.summary}", _another_service())


def judge_receiver(receiver: ReceiverFact) -> Check:
    """Judge whether our endpoint accepts the token, and refuses requests without it."""
    taken, without = receiver.with_token, receiver.without_token
    if taken.is_redirect:
        return failed(Link.RECEIVER, f"{receiver.url} answers {taken.summary}", _redirecting())
    if taken.status in _REFUSED:
        return failed(
            Link.RECEIVER,
            f"{receiver.url} refuses our token ({taken.status})",
            Cause(
                "the running server has another INDEXER_NOTIFICATIONS_TOKEN than this command",
                "set the server's token here, or restart the server with this one",
            ),
            Cause(
                "a proxy drops the Authorization header",
                "configure the proxy to pass the Authorization header on",
            ),
        )
    if taken.status == _UNAVAILABLE:
        return failed(
            Link.RECEIVER,
            f"{receiver.url} could not store the delivery: {taken.text[:200]}",
            Cause("the server cannot write to its database", "see the server's log; is the disk full?"),
        )
    if taken.status != _ACCEPTED:
        return failed(Link.RECEIVER, f"{receiver.url} answers {taken.summary}, not 202", _another_service())
    if without.status != _REFUSED[0]:
        return failed(
            Link.RECEIVER,
            f"{receiver.url} answers {without.summary} without a token, not 401",
            Cause(
                "what listens there is not the indexer, or a proxy adds the token to every request",
                "let the registry itself send the token, and remove it from the proxy's configuration",
            ),
        )
    return ok(Link.RECEIVER, f"{receiver.url} accepts the token, and refuses requests without it")


def judge_registry(facts: RegistryFacts) -> Check:
    """Judge whether a registry answers; a refusal is an answer, too."""
    if not isinstance(facts.ping, Failure):
        return ok(Link.REGISTRY, f"{facts.url} is a registry")
    match facts.ping.fault:
        case HttpFault.DENIED | HttpFault.TOKEN_SERVER:
            return ok(Link.REGISTRY, f"{facts.url} is a registry")
        case HttpFault.UNAVAILABLE:
            return failed(
                Link.REGISTRY,
                facts.ping.message,
                Cause(
                    "RECONCILER_REGISTRY_URL is wrong, or the registry is down or not reachable from here",
                    "request <url>/v2/ from this machine, for example with curl",
                ),
            )
        case HttpFault.MISBEHAVED:
            return failed(
                Link.REGISTRY,
                facts.ping.message,
                Cause(
                    "RECONCILER_REGISTRY_URL leads to something that is no registry: a user interface, a "
                    "login page, a proxy, or http where the registry has https",
                    "set RECONCILER_REGISTRY_URL to the registry's own base URL, without /v2; if its certificate is of "
                    "a private authority, set RECONCILER_REGISTRY_CA_FILE",
                ),
            )
    assert_never(facts.ping.fault)


def judge_credentials(facts: RegistryFacts) -> Check:
    """Judge whether the registry accepts our user name and password."""
    if isinstance(facts.ping, Failure):
        if facts.ping.fault is HttpFault.TOKEN_SERVER:
            return failed(
                Link.CREDENTIALS,
                facts.ping.message,
                Cause(
                    "the token server that the registry names (auth.token.realm) is down or not reachable from here, "
                    "or is one to which the password must not be sent",
                    "request its address from this machine; if it is right and on another host, set "
                    "RECONCILER_REGISTRY_TOKEN_REALM to it",
                ),
            )
        if facts.ping.fault is not HttpFault.DENIED:
            return skipped(Link.CREDENTIALS, "the registry does not answer")
        missing = not facts.has_credentials
        return failed(
            Link.CREDENTIALS,
            facts.ping.message,
            Cause(
                "no user name and password are set" if missing else "user name or password is wrong",
                "set RECONCILER_REGISTRY_USERNAME and RECONCILER_REGISTRY_PASSWORD",
            ),
        )
    return ok(Link.CREDENTIALS, "accepted" if facts.has_credentials else "none set, and none asked for")


def judge_catalog(fact: Failure | None, *, accepted: bool = False) -> Check:
    """Judge whether we may list the catalog: without it a reconcile compares only repositories on record.

    ``accepted``: the operator accepts that it is denied.
    """
    if fact is None:
        return ok(Link.CATALOG, "may be listed")
    if fact.fault is HttpFault.DENIED:
        judged = warning if accepted else failed
        return judged(
            Link.CATALOG,
            fact.message,
            Cause(
                "the token lacks registry:catalog:*",
                "let the token server grant the reconciler's user `registry:catalog:*`; if it cannot, set "
                "RECONCILER_ACCEPT_DENIED=_catalog: new repositories are then known by their notifications alone",
            ),
        )
    return failed(
        Link.CATALOG,
        fact.message,
        Cause("a proxy hides _catalog, or the storage is too slow to list", "see the registry's log"),
    )


def judge_clocks(registry_ahead: float | None, database_ahead: float | None) -> Check:
    """Judge the clocks, in seconds ahead of ours; None: not known.

    Events are dated by the registry's clock, observations by the earlier of both, so the clocks must agree.
    """
    ahead = {"registry": registry_ahead, "database": database_ahead}
    known = {name: seconds for name, seconds in ahead.items() if seconds is not None}
    if not known:
        return skipped(Link.CLOCKS, "no other clock is known")
    found = ", ".join(f"the {name}'s {_off(seconds)}" for name, seconds in known.items())
    worst = max(abs(seconds) for seconds in known.values())
    cause = Cause(
        "a machine's clock is not synchronised: repairs wait until the later clock has passed, and beyond a minute "
        "tokens are refused",
        "run NTP on this machine and on those of the registry and the database",
    )
    if worst > CLOCKS_BROKEN_SECONDS:
        return failed(Link.CLOCKS, found, cause)
    return warning(Link.CLOCKS, found, cause) if worst > CLOCKS_NOTED_SECONDS else ok(Link.CLOCKS, found)


def judge_version(family: Family) -> Check:
    """State what this version of the registry cannot do."""
    match family:
        case Family.V2:
            return ok(
                Link.VERSION,
                "Distribution 2.x: it cannot delete a single tag, and `ignore.actions` has an effect only together "
                "with `ignore.mediatypes`",
            )
        case Family.V3:
            return ok(Link.VERSION, "Distribution 3.x")
        case Family.UNKNOWN:
            return warning(
                Link.VERSION,
                "neither Distribution 2.8 nor 3.x by its answers",
                Cause(
                    "another registry, or a proxy that changes answers",
                    "use Distribution 2.8 or 3.x; others are not supported",
                ),
            )
    assert_never(family)


def judge_deletes(fact: Deletion | Failure) -> Check:
    """Judge whether deletes are allowed, by the delete of a manifest that does not exist."""
    if fact is Deletion.ABSENT:
        return ok(Link.DELETES, "allowed")
    if fact is Deletion.UNSUPPORTED:
        return warning(
            Link.DELETES,
            "not allowed by the registry, so the canary cannot be deleted",
            Cause(
                "storage.delete.enabled is false (Distribution's default), or the registry is read-only",
                "delete the canary yourself, or run the doctor with --read-only; enable deletes if policies are to "
                "delete",
            ),
        )
    found = fact.message if isinstance(fact, Failure) else f"unexpected: {fact}"
    return warning(
        Link.DELETES,
        found,
        Cause(
            "the reconciler's user may not delete in the probe repository",
            "grant the user delete there, or delete the canary yourself",
        ),
    )


def _off(seconds: float) -> str:
    if abs(seconds) < 1:
        return "agrees with this machine's"
    return f"is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _redirecting() -> Cause:
    return Cause(
        "a proxy redirects: the registry counts that as success, so every event would be lost",
        "use the scheme, host and path that answer without a redirect, here and in the registry's endpoint",
    )


def _another_service() -> Cause:
    return Cause("another service listens there", "name the indexer's address with --indexer-url")
