"""Everything before the canary: is each part there, and does it let us in? Pure.

Each function judges what one look brought back. A cause is named only where the answer tells it.
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
"""A loop that did not run for that long is of a process that is gone."""

CLOCKS_BROKEN_SECONDS: Final = 60.0
"""Distribution allows a token's times to be off by a minute (measured on 2.8.2 and 3.1.1)."""

_OK: Final = 200
_ACCEPTED: Final = 202
_REFUSED: Final = (401, 403)
_UNAVAILABLE: Final = 503


def judge_settings(problems: Sequence[str], remarks: Sequence[str]) -> Check:
    """Judge whether all is said that the chain needs; ``remarks``: what only shortens the examination."""
    cause = Cause("a setting is missing or wrong", "correct it; docs/reference/settings.md lists them all")
    if problems:
        return failed(Link.SETTINGS, "; ".join(problems), cause)
    if remarks:
        return warning(Link.SETTINGS, "; ".join(remarks), cause)
    return ok(Link.SETTINGS, "all that the chain needs is set")


def judge_database(fact: Database | str) -> Check:
    """Judge the connection; a text is why there is none."""
    if isinstance(fact, str):
        return failed(
            Link.DATABASE,
            fact,
            Cause(
                "INDEXER_DATABASE_URL is wrong, or the database is down or not reachable from here",
                "start it or correct the URL; `indexer up` brings a database of its own",
            ),
        )
    if fact.version_number < OLDEST_POSTGRES:
        return failed(
            Link.DATABASE,
            f"PostgreSQL {fact.version}",
            Cause("PostgreSQL 15 or newer is needed", "upgrade the server"),
        )
    return ok(Link.DATABASE, f"PostgreSQL {fact.version}")


def judge_schema(state: SchemaState) -> Check:
    """Judge whether the schema is the one this program was built for."""
    if state.problem is None:
        return ok(Link.SCHEMA, "at this program's version")
    if state.obstacle is not None:
        cause = Cause("`indexer migrate` cannot build in this database", state.obstacle)
    elif state.refused:
        cause = Cause(
            "this command uses another database role than `indexer migrate` did",
            "use the INDEXER_DATABASE_URL of the running programs here",
        )
    else:
        cause = Cause(
            "the database was not migrated yet, or program and database are of different releases",
            "run `indexer migrate` of the newer release",
        )
    return failed(Link.SCHEMA, state.problem, cause)


def judge_log(log: LogState) -> Check:
    """Judge the audit log by what the indexer found: whether it fits what was sealed, and whether it is signed."""
    if log.damaged:
        more = f", and {log.damaged - 1} more" if log.damaged > 1 else ""
        return failed(
            Link.LOG,
            f"{log.first}{more}",
            Cause(
                "somebody changed the database by SQL, or it was restored in part",
                "copy the database as it is first; docs/how-to/prove-the-audit-log.md tells what follows",
            ),
        )
    if log.conflicts:
        return failed(
            Link.LOG,
            "; ".join(log.conflicts),
            Cause(
                "the database was restored from a backup older than that checkpoint, or is another one",
                "docs/how-to/back-up-and-restore.md tells how the log goes on",
            ),
        )
    recent = [loop for loop in log.signing if loop.age_seconds < RECENT_SECONDS and loop.outcome != "ended"]
    if recent and not any(loop.outcome == "good" for loop in recent):
        return warning(
            Link.LOG,
            f"nothing signs it: {recent[0].last_error}",
            Cause("the server has not the log's key, or its database was put back", "what the error says"),
        )
    if log.compared_at is None:
        return ok(Link.LOG, "no damage found; not yet compared in full with what was sealed")
    return ok(Link.LOG, f"as it was sealed and signed, compared in full at {format_time(log.compared_at)}")


def judge_kind(fact: RegistryKind | Failure) -> Check:
    """Judge whether the registry keeps what is pushed to it, or is a cache of another."""
    untold = Cause(
        "our user may not push, or something in between takes no pushes: then a pull-through cache cannot be told",
        "say RECONCILER_REGISTRY_IS_CACHE=true if its configuration has `proxy:`, else =false",
    )
    if isinstance(fact, Failure):
        return warning(Link.KIND, fact.said, untold)
    match fact.nature:
        case CacheKind.STORE:
            return ok(Link.KIND, f"keeps what is pushed to it: {fact.because}")
        case CacheKind.CACHE:
            return warning(
                Link.KIND,
                f"a pull-through cache: {fact.because}",
                Cause(
                    "its configuration has `proxy:`, or RECONCILER_REGISTRY_IS_CACHE is true",
                    "nothing is compared with it and no canary pushed; its pulls are all that announces content, so "
                    "the endpoint's ignore block must not name pull",
                ),
            )
        case CacheKind.UNKNOWN:
            return warning(Link.KIND, fact.because, untold)
    assert_never(fact.nature)


def judge_tag_listing(fact: TagListing | Failure) -> Check:
    """Judge how tags are listed, by what is listed of a repository that never was."""
    if isinstance(fact, Failure):
        return skipped(Link.TAG_LISTING, fact.said)
    if fact.unknown_repository or fact.names:
        return ok(Link.TAG_LISTING, "leaves out no tags")
    return warning(
        Link.TAG_LISTING,
        "may leave out tags: it lists a repository that never was as one without tags",
        Cause(
            "Distribution 3.1.0 or 3.1.1 on S3, which does not list build-10 beside build-1",
            "walks look for such tags (docs/explanation/known-limits.md); give it a version without the fault",
        ),
    )


def judge_indexer(url: str, ready: HttpAnswer) -> Check:
    """Judge what ``/readyz`` answered."""
    if ready.status == _OK:
        return ok(Link.INDEXER, f"{url} is ready")
    if ready.status is None:
        return failed(
            Link.INDEXER,
            f"{url}: {ready.said}",
            Cause(
                "`indexer serve` does not run, or listens elsewhere",
                "start it, or name its address with --indexer-url",
            ),
        )
    if ready.is_redirect:
        return failed(Link.INDEXER, f"{url}/readyz answers {ready.words}", _redirecting())
    if ready.status == _UNAVAILABLE:
        return failed(
            Link.INDEXER,
            f"{url} is not ready: {ready.said[:200]}",
            Cause("the server has lost its database, or its schema is not current", "see the server's log"),
        )
    return failed(Link.INDEXER, f"{url}/readyz answers {ready.words}", _somebody_else())


def judge_receiver(receiver: ReceiverFact) -> Check:
    """Judge whether the door takes the token, and nothing without it."""
    taken, open_to_all = receiver.with_token, receiver.without_token
    if taken.is_redirect:
        return failed(Link.RECEIVER, f"{receiver.url} answers {taken.words}", _redirecting())
    if taken.status in _REFUSED:
        return failed(
            Link.RECEIVER,
            f"{receiver.url} refuses our token ({taken.status})",
            Cause(
                "the running server has another INDEXER_NOTIFICATIONS_TOKEN than this command",
                "use the server's token here, or restart the server with this one",
            ),
            Cause("a proxy drops the Authorization header", "let it pass"),
        )
    if taken.status == _UNAVAILABLE:
        return failed(
            Link.RECEIVER,
            f"{receiver.url} could not make the delivery durable: {taken.said[:200]}",
            Cause("the server cannot write to its database", "see the server's log; is the disk full?"),
        )
    if taken.status != _ACCEPTED:
        return failed(Link.RECEIVER, f"{receiver.url} answers {taken.words}, not 202", _somebody_else())
    if open_to_all.status != _REFUSED[0]:
        return failed(
            Link.RECEIVER,
            f"{receiver.url} answers {open_to_all.words} without a token, not 401",
            Cause("what listens there is not the indexer, or a proxy adds the token to every request",
                  "let the registry itself send the token"),
        )  # fmt: skip
    return ok(Link.RECEIVER, f"{receiver.url} takes the token, and nothing without it")


def judge_registry(facts: RegistryFacts) -> Check:
    """Judge whether a registry answers; being refused is an answer, too."""
    if not isinstance(facts.ping, Failure):
        return ok(Link.REGISTRY, f"{facts.url} is a registry")
    match facts.ping.fault:
        case HttpFault.DENIED | HttpFault.TOKEN_SERVER:
            return ok(Link.REGISTRY, f"{facts.url} is a registry")
        case HttpFault.UNAVAILABLE:
            return failed(
                Link.REGISTRY,
                facts.ping.said,
                Cause(
                    "RECONCILER_REGISTRY_URL is wrong, or the registry is down or not reachable from here",
                    "ask GET <url>/v2/ from this machine",
                ),
            )
        case HttpFault.MISBEHAVED:
            return failed(
                Link.REGISTRY,
                facts.ping.said,
                Cause(
                    "RECONCILER_REGISTRY_URL leads to something that is no registry: a user interface, a "
                    "login page, a proxy, or the other of http and https",
                    "name the registry's own base URL, without /v2; its certificate's authority goes into "
                    "RECONCILER_REGISTRY_CA_FILE",
                ),
            )
    assert_never(facts.ping.fault)


def judge_credentials(facts: RegistryFacts) -> Check:
    """Judge whether the registry lets us in."""
    if isinstance(facts.ping, Failure):
        if facts.ping.fault is HttpFault.TOKEN_SERVER:
            return failed(
                Link.CREDENTIALS,
                facts.ping.said,
                Cause(
                    "the token server that the registry names (auth.token.realm) is down or not reachable from here, "
                    "or is not one that the password may be sent to",
                    "ask for its address from this machine; if it is right and on another host, set "
                    "RECONCILER_REGISTRY_TOKEN_REALM to it",
                ),
            )
        if facts.ping.fault is not HttpFault.DENIED:
            return skipped(Link.CREDENTIALS, "the registry does not answer")
        missing = not facts.has_credentials
        return failed(
            Link.CREDENTIALS,
            facts.ping.said,
            Cause(
                "no user name and password are set" if missing else "user name or password is wrong",
                "set RECONCILER_REGISTRY_USERNAME and RECONCILER_REGISTRY_PASSWORD",
            ),
        )
    return ok(Link.CREDENTIALS, "accepted" if facts.has_credentials else "none set, and none asked for")


def judge_catalog(fact: Failure | None, *, accepted: bool = False) -> Check:
    """Judge whether we may list the catalog: without it the walk sees only what it already knows.

    ``accepted``: the operator said that it is denied to us.
    """
    if fact is None:
        return ok(Link.CATALOG, "may be listed")
    if fact.fault is HttpFault.DENIED:
        judged = warning if accepted else failed
        return judged(
            Link.CATALOG,
            fact.said,
            Cause(
                "the token lacks registry:catalog:*",
                "let the token server grant the reconciler's user `registry:catalog:*`; where it never does, set "
                "RECONCILER_ACCEPT_DENIED=_catalog: new repositories are then known by their notifications alone",
            ),
        )
    return failed(
        Link.CATALOG,
        fact.said,
        Cause("a proxy hides _catalog, or the storage is too slow to list", "see the registry's log"),
    )


def judge_clocks(registry_ahead: float | None, database_ahead: float | None) -> Check:
    """Judge the clocks: what was told is dated by the registry's, what was seen by the earlier of both."""
    ahead = {"registry": registry_ahead, "database": database_ahead}
    known = {name: seconds for name, seconds in ahead.items() if seconds is not None}
    if not known:
        return skipped(Link.CLOCKS, "no other clock was seen")
    found = ", ".join(f"the {name}'s is {_off(seconds)}" for name, seconds in known.items())
    worst = max(abs(seconds) for seconds in known.values())
    cause = Cause(
        "a machine's clock is not synchronised: repairs wait until the later clock has been passed, and "
        "beyond a minute tokens are refused",
        "run NTP on the registry's, the database's and this machine",
    )
    if worst > CLOCKS_BROKEN_SECONDS:
        return failed(Link.CLOCKS, found, cause)
    return warning(Link.CLOCKS, found, cause) if worst > CLOCKS_NOTED_SECONDS else ok(Link.CLOCKS, found)


def judge_version(family: Family) -> Check:
    """Say what this kind of registry cannot do."""
    match family:
        case Family.V2:
            return ok(
                Link.VERSION,
                "Distribution 2.x: it cannot delete a single tag, and `ignore.actions` works only beside a "
                "media type",
            )
        case Family.V3:
            return ok(Link.VERSION, "Distribution 3.x")
        case Family.UNKNOWN:
            return warning(
                Link.VERSION,
                "neither Distribution 2.8 nor 3.x by its answers",
                Cause(
                    "another registry, or a proxy that rewrites answers",
                    "Distribution is what we are made for",
                ),
            )
    assert_never(family)


def judge_deletes(fact: Deletion | Failure) -> Check:
    """Judge, by a delete of what does not exist, whether deleting is allowed."""
    if fact is Deletion.ABSENT:
        return ok(Link.DELETES, "allowed")
    if fact is Deletion.UNSUPPORTED:
        return warning(
            Link.DELETES,
            "switched off in the registry: the canary cannot be removed",
            Cause("storage.delete.enabled is false (Distribution's default), or the registry is read-only",
                  "remove it by hand, or use --read-only; switch deletes on if policies shall delete"),
        )  # fmt: skip
    said = fact.said if isinstance(fact, Failure) else f"unexpected: {fact}"
    return warning(
        Link.DELETES,
        said,
        Cause("our user may not delete in the probe repository", "grant it, or remove the canary by hand"),
    )


def _off(seconds: float) -> str:
    if abs(seconds) < 1:
        return "in step"
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _redirecting() -> Cause:
    return Cause(
        "a proxy redirects instead of passing on: the registry would take that for success and lose every "
        "event",
        "use the scheme, host and path that answer without a redirect, here and in the registry's endpoint",
    )


def _somebody_else() -> Cause:
    return Cause("another service listens there", "name the indexer's address with --indexer-url")
