"""The doctor's judgements, as tables: what was found, and which link is broken by what."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexer.common.errors import (
    RegistryDenied,
    RegistryMisbehaved,
    RegistryUnavailable,
    TokenServerMisbehaved,
    TokenServerUnavailable,
)
from indexer.oci.digest import digest_of
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.canary import Arrived, CanaryState
from indexer.store.traits import TraitState
from reconciler.doctor import decide
from reconciler.doctor.canary import read_events
from reconciler.doctor.chain import _why_idle_one, judge_push, judge_trail
from reconciler.doctor.endpoints import judge_endpoints
from reconciler.doctor.facts import (
    Canary,
    CanaryEvents,
    Database,
    Failure,
    Family,
    HttpAnswer,
    Instance,
    ListingFact,
    LogState,
    LoopState,
    ReceiverFact,
    RegistryFacts,
    SchemaState,
    Surroundings,
    Trail,
)
from reconciler.doctor.present import check_text, report_json, verdict_text
from reconciler.doctor.pulls import ignores_pulls, judge_pulls
from reconciler.doctor.report import Cause, Check, Diagnosis, Link, LinkOutcome, failed, ok, skipped, warning
from reconciler.registry.answers import Deletion, Ping, TagListing
from reconciler.registry.cache import CacheKind, RegistryKind
from reconciler.registry.endpoint_counters import (
    DebugReading,
    DebugSource,
    EndpointConfiguration,
    EndpointCounters,
    EndpointReading,
)
from reconciler.registry.names import TagNames

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOKEN = "secret-of-the-test"
DIGEST = digest_of(b"canary")
CANARY = Canary(
    repository=RepositoryName("probe"),
    tag=TagName("canary-1"),
    digest=DIGEST,
    media_type="application/vnd.oci.image.manifest.v1+json",
    pushed_at=NOW,
)
CONFIGURATION = EndpointConfiguration(
    url="http://indexer:5005/notifications",
    authorization=(f"Bearer {TOKEN}",),
    timeout_seconds=5.0,
    threshold=3,
    backoff_seconds=1.0,
    ignored_media_types=frozenset({"application/octet-stream"}),
    ignored_actions=frozenset({"pull"}),
)
QUIET = EndpointCounters()
WELL = EndpointCounters(events=9, successes=9, statuses={202: 9})


def instance(
    *endpoints: EndpointReading, source: DebugSource = DebugSource.EXPVAR, probe: HttpAnswer | None = None
) -> Instance:
    reading = DebugReading(address="http://debug", read_at=NOW, source=source, endpoints=endpoints)
    return Instance(
        address="http://debug", reading=reading, probes={"indexer": probe} if probe is not None else {}
    )


def endpoint(
    counters: EndpointCounters = WELL, configuration: EndpointConfiguration | None = CONFIGURATION
) -> EndpointReading:
    return EndpointReading(name="indexer", counters=counters, configuration=configuration)


def answer(status: int | None, *, location: str | None = None, text: str = "") -> HttpAnswer:
    return HttpAnswer(status=status, location=location, text=text)


def first_cause(check: Check) -> str:
    return check.causes[0].likely if check.causes else ""


# the parts, before the canary


@pytest.mark.parametrize(
    ("fact", "outcome"),
    [
        (Database(version_number=180001, version="18.1", ahead_seconds=0), LinkOutcome.OK),
        (Database(version_number=150000, version="15.0", ahead_seconds=0), LinkOutcome.OK),
        (Database(version_number=140012, version="14.12", ahead_seconds=0), LinkOutcome.FAILED),
        ("the database does not answer", LinkOutcome.FAILED),
    ],
)
def test_database__version_and_reach(fact: Database | str, outcome: LinkOutcome) -> None:
    """PostgreSQL 15 or newer, reachable: all else is broken."""
    assert outcome == decide.judge_database(fact).outcome


FAILING = LoopState(
    loop="checkpoint",
    process="indexer serve h:1",
    outcome="failed",
    age_seconds=3,
    last_error="AnotherKeySigns: …",
)


@pytest.mark.parametrize(
    ("log", "outcome", "found"),
    [
        (LogState(), LinkOutcome.OK, "not yet compared"),
        (LogState(compared_at=NOW), LinkOutcome.OK, "as it was sealed and signed"),
        (
            LogState(damaged=1, first="entry 7 is missing", compared_at=NOW),
            LinkOutcome.FAILED,
            "entry 7 is missing",
        ),
        (
            LogState(damaged=3, first="entry 7 is missing"),
            LinkOutcome.FAILED,
            "entry 7 is missing, and 2 more",
        ),
        (LogState(conflicts=["80 entries were signed"]), LinkOutcome.FAILED, "80 entries were signed"),
        (LogState(signing=[FAILING]), LinkOutcome.WARNING, "it is not signed: AnotherKeySigns"),
        (LogState(signing=[FAILING, replace(FAILING, outcome="good")]), LinkOutcome.OK, ""),
        (LogState(signing=[replace(FAILING, age_seconds=4000)]), LinkOutcome.OK, ""),
    ],
)
def test_log__damaged_put_back_or_not_signed(log: LogState, outcome: LinkOutcome, found: str) -> None:
    """What the server found of its log breaks no push, and is told all the same."""
    check = decide.judge_log(log)
    assert (outcome, True) == (check.outcome, found in check.found)


@pytest.mark.parametrize(
    ("ready", "outcome", "cause"),
    [
        (answer(200), LinkOutcome.OK, ""),
        (answer(None, text="connection refused"), LinkOutcome.FAILED, "does not run"),
        (answer(301, location="https://x/"), LinkOutcome.FAILED, "redirects"),
        (answer(503, text="not ready"), LinkOutcome.FAILED, "lost its database"),
        (answer(404), LinkOutcome.FAILED, "another service"),
    ],
)
def test_indexer__readiness(ready: HttpAnswer, outcome: LinkOutcome, cause: str) -> None:
    """What ``/readyz`` answers tells whether the server is there, well, and itself."""
    check = decide.judge_indexer("http://indexer", ready)
    assert outcome == check.outcome
    assert cause in first_cause(check)


@pytest.mark.parametrize(
    ("with_token", "without_token", "cause"),
    [
        (answer(202), answer(401), None),
        (answer(401), answer(401), "another INDEXER_NOTIFICATIONS_TOKEN"),
        (answer(403), answer(403), "another INDEXER_NOTIFICATIONS_TOKEN"),
        (answer(302, location="/login"), answer(302, location="/login"), "redirects"),
        (answer(308, location="https://x/"), answer(308, location="https://x/"), "redirects"),
        (answer(503), answer(401), "cannot write"),
        (answer(200), answer(200), "another service"),
        (answer(404), answer(404), "another service"),
        (answer(None, text="timed out"), answer(None), "another service"),
        (answer(202), answer(202), "not the indexer"),
    ],
)
def test_door__token(with_token: HttpAnswer, without_token: HttpAnswer, cause: str | None) -> None:
    """The door takes our token with 202, refuses its absence with 401, and never redirects."""
    check = decide.judge_receiver(
        ReceiverFact(url="http://x/notifications", with_token=with_token, without_token=without_token)
    )
    assert (LinkOutcome.OK if cause is None else LinkOutcome.FAILED) == check.outcome
    assert (cause or "") in first_cause(check)


def ping() -> Ping:
    return Ping(observed_at=NOW, registry_clock=NOW, api_version="registry/2.0")


@pytest.mark.parametrize(
    ("seen", "has_credentials", "registry", "credentials", "cause"),
    [
        (ping(), False, LinkOutcome.OK, LinkOutcome.OK, ""),
        (ping(), True, LinkOutcome.OK, LinkOutcome.OK, ""),
        (Failure.of(RegistryDenied("401")), False, LinkOutcome.OK, LinkOutcome.FAILED, "no user name"),
        (Failure.of(RegistryDenied("401")), True, LinkOutcome.OK, LinkOutcome.FAILED, "is wrong"),
        (Failure.of(RegistryUnavailable("refused")), True, LinkOutcome.FAILED, LinkOutcome.SKIPPED, ""),
        (Failure.of(RegistryMisbehaved("<html>")), True, LinkOutcome.FAILED, LinkOutcome.SKIPPED, ""),
        (
            Failure.of(TokenServerUnavailable("refused")),
            True,
            LinkOutcome.OK,
            LinkOutcome.FAILED,
            "auth.token.realm",
        ),
        (
            Failure.of(TokenServerMisbehaved("<html>")),
            True,
            LinkOutcome.OK,
            LinkOutcome.FAILED,
            "auth.token.realm",
        ),
    ],
)
def test_registry__one_ping_tells_two_links(
    seen: Ping | Failure, has_credentials: bool, registry: LinkOutcome, credentials: LinkOutcome, cause: str
) -> None:
    """A refusal is the registry's answer: it is there, and the credentials are what is broken."""
    facts = RegistryFacts(url="http://r", has_credentials=has_credentials, ping=seen)
    assert registry == decide.judge_registry(facts).outcome
    check = decide.judge_credentials(facts)
    assert credentials == check.outcome
    assert cause in first_cause(check)


@pytest.mark.parametrize(
    ("fact", "outcome", "cause"),
    [
        (None, LinkOutcome.OK, ""),
        (Failure.of(RegistryDenied("401")), LinkOutcome.FAILED, "the token lacks registry:catalog:*"),
        (Failure.of(RegistryMisbehaved("404")), LinkOutcome.FAILED, "hides _catalog"),
        (Failure.of(RegistryUnavailable("slow")), LinkOutcome.FAILED, "too slow"),
    ],
)
def test_catalog__scope(fact: Failure | None, outcome: LinkOutcome, cause: str) -> None:
    """Refused for the catalog alone, the token lacks its scope."""
    check = decide.judge_catalog(fact)
    assert outcome == check.outcome
    assert cause in first_cause(check)
    denied = fact is not None and "lacks" in cause
    accepted = decide.judge_catalog(fact, accepted=True).outcome
    assert accepted == (LinkOutcome.WARNING if denied else outcome)


@pytest.mark.parametrize(
    ("registry_ahead", "database_ahead", "outcome"),
    [
        (0.4, 0.0, LinkOutcome.OK),
        (-4.9, 4.9, LinkOutcome.OK),
        (5.5, 0.0, LinkOutcome.WARNING),
        (-5.5, None, LinkOutcome.WARNING),
        (0.0, 7.0, LinkOutcome.WARNING),
        (61.0, 0.0, LinkOutcome.FAILED),
        (None, -3600.0, LinkOutcome.FAILED),
        (None, None, LinkOutcome.SKIPPED),
    ],
)
def test_clocks__difference(
    registry_ahead: float | None, database_ahead: float | None, outcome: LinkOutcome
) -> None:
    """Seconds are noted, more than a minute is broken, in either direction and for either clock."""
    assert outcome == decide.judge_clocks(registry_ahead, database_ahead).outcome


@pytest.mark.parametrize(
    ("fact", "outcome"),
    [
        (Deletion.ABSENT, LinkOutcome.OK),
        (Deletion.UNSUPPORTED, LinkOutcome.WARNING),
        (Deletion.ACCEPTED, LinkOutcome.WARNING),
        (Failure.of(RegistryDenied("403")), LinkOutcome.WARNING),
    ],
)
def test_deletes__probe(fact: Deletion | Failure, outcome: LinkOutcome) -> None:
    """Deleting what cannot exist is "absent" where deletes are allowed; all else is a warning, never a failure."""
    assert outcome == decide.judge_deletes(fact).outcome


@pytest.mark.parametrize(
    ("fact", "outcome", "said"),
    [
        (RegistryKind(nature=CacheKind.STORE, because="400"), LinkOutcome.OK, "stores what is pushed"),
        (RegistryKind(nature=CacheKind.CACHE, because="405"), LinkOutcome.WARNING, "pull-through cache"),
        (RegistryKind(nature=CacheKind.UNKNOWN, because="403"), LinkOutcome.WARNING, "403"),
        (Failure.of(RegistryUnavailable("away")), LinkOutcome.WARNING, "away"),
    ],
)
def test_kind__of_registry(fact: RegistryKind | Failure, outcome: LinkOutcome, said: str) -> None:
    """A cache is worth a warning, and so is what cannot be told from one, with the setting that says it."""
    check = decide.judge_kind(fact)
    assert outcome == check.outcome
    assert said in check.found
    if outcome is LinkOutcome.WARNING:
        assert "RECONCILER_REGISTRY_IS_CACHE" in "".join(
            cause.likely + cause.remedy for cause in check.causes
        )


@pytest.mark.parametrize(
    ("fact", "outcome"),
    [
        (
            TagListing(observed_at=NOW, registry_clock=None, names=TagNames(), complete=True),
            LinkOutcome.WARNING,
        ),
        (
            TagListing(
                observed_at=NOW, registry_clock=None, names=TagNames(), complete=True, unknown_repository=True
            ),
            LinkOutcome.OK,
        ),
        (Failure.of(RegistryDenied("403")), LinkOutcome.SKIPPED),
    ],
)
def test_tag_listing__of_a_repository_that_never_was(
    fact: TagListing | Failure, outcome: LinkOutcome
) -> None:
    """A registry that has "no tags" where it should know nothing leaves out tags elsewhere."""
    assert outcome == decide.judge_tag_listing(fact).outcome


@pytest.mark.parametrize(
    ("family", "outcome"),
    [(Family.V2, LinkOutcome.OK), (Family.V3, LinkOutcome.OK), (Family.UNKNOWN, LinkOutcome.WARNING)],
)
def test_version__family(family: Family, outcome: LinkOutcome) -> None:
    """What is no Distribution is worth a warning."""
    assert outcome == decide.judge_version(family).outcome


@pytest.mark.parametrize(
    ("problems", "remarks", "outcome"),
    [([], [], LinkOutcome.OK), ([], ["r"], LinkOutcome.WARNING), (["p"], ["r"], LinkOutcome.FAILED)],
)
def test_settings__problems_and_remarks(
    problems: list[str], remarks: list[str], outcome: LinkOutcome
) -> None:
    """A wrong setting breaks the chain, a missing one that only shortens the examination does not."""
    assert outcome == decide.judge_settings(problems, remarks).outcome


# the registry's endpoint


def told(**changes: object) -> EndpointReading:
    """Our endpoint, configured otherwise."""
    return endpoint(configuration=replace(CONFIGURATION, **changes))  # type: ignore[arg-type]  # a test's shorthand


NEVER = EndpointCounters(pending=2, events=2)


@pytest.mark.parametrize(
    ("seen", "outcome", "cause"),
    [
        pytest.param(instance(endpoint()), LinkOutcome.OK, "", id="well"),
        pytest.param(instance(endpoint(QUIET)), LinkOutcome.OK, "", id="no-event-yet"),
        pytest.param(instance(), LinkOutcome.FAILED, "not configured", id="no-endpoint"),
        pytest.param(
            instance(told(authorization=("Basic x",), url="http://chat/hook")),
            LinkOutcome.FAILED,
            "posts to other endpoints only",
            id="only-others",
        ),
        pytest.param(
            instance(told(timeout_seconds=500e-9)),
            LinkOutcome.FAILED,
            "500 nanoseconds",
            id="timeout-without-unit",
        ),
        pytest.param(instance(told(authorization=())), LinkOutcome.FAILED, "no Authorization", id="no-token"),
        pytest.param(
            instance(told(authorization=("Bearer other",))),
            LinkOutcome.FAILED,
            "another token",
            id="wrong-token",
        ),
        pytest.param(
            instance(told(authorization=(f"bearer  {TOKEN}",))), LinkOutcome.OK, "", id="scheme-in-any-case"
        ),
        pytest.param(
            instance(told(authorization=("Basic x", f"Bearer {TOKEN}"))),
            LinkOutcome.OK,
            "",
            id="second-header",
        ),
        pytest.param(
            instance(told(ignored_media_types=frozenset({CANARY.media_type}))),
            LinkOutcome.FAILED,
            "drops pushes",
            id="manifests-ignored",
        ),
        pytest.param(
            instance(told(ignored_actions=frozenset({"pull", "delete"}))),
            LinkOutcome.FAILED,
            "drops delete events",
            id="deletes-ignored",
        ),
        pytest.param(
            instance(told(ignored_media_types=frozenset({"", "application/octet-stream"}))),
            LinkOutcome.FAILED,
            "drops deletes",
            id="empty-type-ignored",
        ),
        pytest.param(
            instance(told(ignored_media_types=frozenset())),
            LinkOutcome.WARNING,
            "no effect",
            id="actions-alone",
        ),
        pytest.param(
            instance(told(backoff_seconds=1e-9)),
            LinkOutcome.WARNING,
            "without a pause",
            id="backoff-without-unit",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, failures=7, statuses={401: 7}))),
            LinkOutcome.FAILED,
            "token is wrong",
            id="never-delivered-401",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, failures=7, statuses={405: 7}))),
            LinkOutcome.FAILED,
            "not the indexer's endpoint",
            id="never-delivered-405",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, failures=7, statuses={502: 7}))),
            LinkOutcome.FAILED,
            "proxy",
            id="never-delivered-502",
        ),
        pytest.param(
            instance(endpoint(replace(NEVER, errors=7))),
            LinkOutcome.FAILED,
            "without any answer",
            id="never-reached",
        ),
        pytest.param(
            instance(endpoint(EndpointCounters(events=9, successes=9, statuses={200: 2, 202: 7}))),
            LinkOutcome.WARNING,
            "2 attempts answered 200",
            id="some-redirected",
        ),
        pytest.param(
            instance(endpoint(replace(WELL, failures=50, errors=9, statuses={202: 9, 503: 50}))),
            LinkOutcome.OK,
            "",
            id="trouble-that-passed",
        ),
        pytest.param(
            instance(endpoint(replace(WELL, pending=4, failures=50, statuses={202: 9, 503: 50}))),
            LinkOutcome.WARNING,
            "could not store",
            id="trouble-now",
        ),
        pytest.param(
            instance(endpoint(), probe=answer(301, location="https://x/")),
            LinkOutcome.FAILED,
            "answers 301 → https://x/",
            id="probe-redirected",
        ),
        pytest.param(
            instance(endpoint(), probe=answer(401)),
            LinkOutcome.FAILED,
            "drops the header",
            id="probe-refused",
        ),
        pytest.param(
            instance(endpoint(), probe=answer(200)),
            LinkOutcome.FAILED,
            "not the indexer's",
            id="probe-stranger",
        ),
        pytest.param(instance(endpoint(), probe=answer(202)), LinkOutcome.OK, "", id="probe-well"),
        pytest.param(
            instance(endpoint(), probe=answer(None, text="no such host")),
            LinkOutcome.OK,
            "",
            id="probe-unreachable",
        ),
        pytest.param(
            instance(endpoint(configuration=None), source=DebugSource.PROMETHEUS),
            LinkOutcome.OK,
            "",
            id="prometheus-well",
        ),
        pytest.param(
            instance(source=DebugSource.PROMETHEUS), LinkOutcome.OK, "", id="prometheus-nothing-follows"
        ),
        pytest.param(
            Instance(address="http://debug", reading=Failure.of(RegistryUnavailable("refused"))),
            LinkOutcome.WARNING,
            "not the registry's debug address",
            id="not-readable",
        ),
    ],
)
def test_endpoint__one_instance(seen: Instance, outcome: LinkOutcome, cause: str) -> None:
    """What a registry process says of its endpoint, and what is broken by it."""
    check = judge_endpoints([seen], token=TOKEN)
    assert outcome == check.outcome
    assert cause in first_cause(check)
    assert TOKEN not in repr(check)


def test_endpoint__worst_instance_counts() -> None:
    """Of several processes one that is broken breaks the link, and each is told of."""
    check = judge_endpoints([instance(endpoint()), instance()], token=TOKEN)
    assert LinkOutcome.FAILED == check.outcome
    assert 2 == check.found.count("http://debug: ")


def test_endpoint__ours_among_others() -> None:
    """Ours is the one with our token, wherever it posts to, and what others suffer is theirs."""
    other = EndpointReading(
        name="chat",
        counters=replace(NEVER, errors=9),
        configuration=replace(CONFIGURATION, authorization=(), url="http://chat/notifications"),
    )
    ours = told(url="https://proxy/registry-events")
    assert LinkOutcome.OK == judge_endpoints([instance(other, ours)], token=TOKEN).outcome


def test_endpoint__without_our_token() -> None:
    """Where the token is not known here, nothing is said about the registry's."""
    assert LinkOutcome.OK == judge_endpoints([instance(endpoint())], token=None).outcome


def test_endpoint__not_asked() -> None:
    """Without debug addresses nothing is claimed."""
    assert LinkOutcome.SKIPPED == judge_endpoints([], token=TOKEN).outcome


# the canary's way

RECORDED = CanaryState(live=True, digest=DIGEST, evidence="event", content="announced")
VERIFIED = replace(RECORDED, verified_at=NOW + timedelta(seconds=2))
READ = replace(VERIFIED, content="read")
NOTHING = CanaryState(live=False)
ARRIVED = CanaryEvents(push_seconds=0.1, applied=True)


def trail(**changes: object) -> Trail:
    """A canary that came through, but for what is said."""
    well = Trail(
        canary=CANARY,
        patience_seconds=15,
        events=ARRIVED,
        inventory=RECORDED,
        verified=VERIFIED,
        read=READ,
        listing=ListingFact(by_store=True, api=answer(200), by_api=True),
        removal=Deletion.ACCEPTED,
        events_after_removal=replace(ARRIVED, delete=True),
        gone=True,
    )
    return replace(well, **changes)  # type: ignore[arg-type]  # a test's shorthand


def loop(name: str, *, outcome: str = "good", age: float = 1, error: str | None = None) -> Surroundings:
    state = LoopState(loop=name, process="it host:1", outcome=outcome, age_seconds=age, last_error=error)
    return Surroundings(loops=[state])


def broken(checks: list[Check]) -> Check | None:
    return Diagnosis(tuple(checks)).broken


def test_trail__came_through() -> None:
    """A canary that came all the way leaves every link whole."""
    checks = judge_trail(trail(), token=TOKEN)
    assert {LinkOutcome.OK} == {check.outcome for check in checks}
    assert [
        Link.PUSHED,
        Link.NOTIFIED,
        Link.APPLIED,
        Link.VERIFIED,
        Link.READ,
        Link.LISTED,
        Link.REMOVED,
        Link.DELETION,
    ] == [check.link for check in checks]


@pytest.mark.parametrize(
    ("changes", "link", "cause"),
    [
        pytest.param(
            {"events": replace(ARRIVED, applied=False, quarantined="odd"), "inventory": NOTHING},
            Link.APPLIED,
            "could not be decoded",
            id="quarantined",
        ),
        pytest.param({"inventory": NOTHING}, Link.APPLIED, "moved or deleted", id="applied-and-gone"),
        pytest.param(
            {"events": replace(ARRIVED, applied=False), "inventory": NOTHING},
            Link.APPLIED,
            "no `indexer serve` has ever run",
            id="no-worker-ever",
        ),
        pytest.param(
            {
                "events": replace(ARRIVED, applied=False),
                "inventory": NOTHING,
                "surroundings": loop("ingest", age=40),
            },
            Link.APPLIED,
            "not running, or hangs",
            id="worker-stopped",
        ),
        pytest.param(
            {
                "events": replace(ARRIVED, applied=False),
                "inventory": NOTHING,
                "surroundings": loop("ingest", outcome="failed", age=40, error="disk full"),
            },
            Link.APPLIED,
            "fails: disk full",
            id="worker-fails",
        ),
        pytest.param(
            {"events": replace(ARRIVED, applied=False), "inventory": NOTHING, "surroundings": loop("ingest")},
            Link.APPLIED,
            "has much to do",
            id="worker-busy",
        ),
        pytest.param(
            {"verified": RECORDED}, Link.VERIFIED, "no `reconciler run` has ever run", id="no-reconciler-ever"
        ),
        pytest.param(
            {"verified": RECORDED, "surroundings": loop("verify", age=3600)},
            Link.VERIFIED,
            "`reconciler run` is not running",
            id="reconciler-stopped",
        ),
        pytest.param(
            {
                "verified": RECORDED,
                "surroundings": loop("verify", outcome="failed", error="RegistryUnavailable: refused"),
            },
            Link.VERIFIED,
            "fails: RegistryUnavailable",
            id="reconciler-cannot-reach-the-registry",
        ),
        pytest.param(
            {"verified": replace(RECORDED, last_observation="absent"), "surroundings": loop("verify")},
            Link.VERIFIED,
            "another registry",
            id="reconciler-of-another-registry",
        ),
        pytest.param(
            {"verified": replace(RECORDED, failed_observations=2), "surroundings": loop("verify")},
            Link.VERIFIED,
            "as another user",
            id="looks-denied",
        ),
        pytest.param(
            {"read": VERIFIED, "surroundings": loop("resolve", age=100)},
            Link.READ,
            "not running",
            id="nobody-reads",
        ),
        pytest.param(
            {"read": replace(VERIFIED, content="unreadable")}, Link.READ, "changes content", id="unreadable"
        ),
        pytest.param(
            {"read": replace(VERIFIED, content="partly-read")}, Link.READ, "changes content", id="partly-read"
        ),
        pytest.param(
            {"listing": ListingFact(by_store=False)}, Link.LISTED, "a bug of the indexer", id="not-in-store"
        ),
        pytest.param(
            {"listing": ListingFact(by_store=True, api=answer(401))},
            Link.LISTED,
            "other INDEXER_API_TOKENS",
            id="api-refuses",
        ),
        pytest.param(
            {"listing": ListingFact(by_store=True, api=answer(200))},
            Link.LISTED,
            "another database",
            id="api-of-another-database",
        ),
        pytest.param(
            {"listing": ListingFact(by_store=True, api=answer(500))}, Link.LISTED, "failed", id="api-fails"
        ),
        pytest.param({"events_after_removal": ARRIVED}, Link.DELETION, "drops deletes", id="deletes-ignored"),
        pytest.param(
            {"gone": False, "surroundings": loop("ingest", age=50)},
            Link.DELETION,
            "not running, or hangs",
            id="deletion-not-applied",
        ),
    ],
)
def test_trail__broken(changes: dict[str, object], link: Link, cause: str) -> None:
    """Each link can break alone; what comes after it is skipped, and the likeliest cause is named."""
    checks = judge_trail(trail(**changes), token=TOKEN)
    check = broken(checks)
    assert check is not None
    assert (link, True) == (check.link, cause in first_cause(check))
    order = list(Link)
    between = [c for c in checks if order.index(link) < order.index(c.link) < order.index(Link.REMOVED)]
    assert {LinkOutcome.SKIPPED} >= {check.outcome for check in between}


@pytest.mark.parametrize(
    ("removal", "outcome"),
    [
        (Deletion.UNSUPPORTED, LinkOutcome.WARNING),
        (Deletion.ABSENT, LinkOutcome.WARNING),
        (Failure.of(RegistryDenied("403")), LinkOutcome.WARNING),
    ],
)
def test_trail__not_removed(removal: Deletion | Failure, outcome: LinkOutcome) -> None:
    """A canary that stays is a warning, and no news of its deletion is waited for."""
    checks = {check.link: check for check in judge_trail(trail(removal=removal), token=TOKEN)}
    assert (outcome, LinkOutcome.SKIPPED) == (checks[Link.REMOVED].outcome, checks[Link.DELETION].outcome)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RegistryDenied("405 read-only"), "read-only"),
        (RegistryUnavailable("500"), "cannot store"),
    ],
)
def test_push__refused(error: RegistryDenied | RegistryUnavailable, cause: str) -> None:
    """A push that is refused ends the canary's way before it began."""
    first, *rest = judge_push(Failure.of(error))
    assert (Link.PUSHED, LinkOutcome.FAILED) == (first.link, first.outcome)
    assert cause in first_cause(first)
    assert {LinkOutcome.SKIPPED} == {check.outcome for check in rest}


# the silence after a push

BEFORE = instance(endpoint())


def counted(**counts: object) -> Surroundings:
    """Counters before the push, and the same with more after it."""
    after = replace(WELL, **counts)  # type: ignore[arg-type]  # a test's shorthand
    return Surroundings(before=[BEFORE], after=[instance(endpoint(after))])


@pytest.mark.parametrize(
    ("surroundings", "delete", "cause"),
    [
        pytest.param(Surroundings(), False, "no endpoint", id="nothing-known"),
        pytest.param(Surroundings(receiver={202: 5}), False, "no endpoint", id="others-arrive"),
        pytest.param(Surroundings(receiver={401: 3}), False, "refused by our endpoint", id="door-refused"),
        pytest.param(Surroundings(receiver={503: 3}), False, "could not be stored", id="door-not-durable"),
        pytest.param(Surroundings(), True, "ignore block drops manifests", id="deletion-came"),
        pytest.param(Surroundings(after=[instance()]), False, "not configured", id="no-endpoint"),
        pytest.param(counted(), False, "made no event", id="no-event"),
        pytest.param(
            counted(events=10, pending=1, failures=3, statuses={202: 9, 401: 3}),
            False,
            "3 attempts answered 401",
            id="refused-401",
        ),
        pytest.param(counted(events=10, pending=1, errors=4), False, "without any answer", id="unreachable"),
        pytest.param(
            counted(events=10, successes=10, statuses={202: 9, 200: 1}),
            False,
            "1 attempt answered 200 where the indexer answers 202",
            id="redirected",
        ),
        pytest.param(
            counted(events=10, successes=10, statuses={202: 10}),
            False,
            "another database",
            id="other-database",
        ),
        pytest.param(counted(events=10, pending=3), False, "queue is long", id="waits-in-the-queue"),
        pytest.param(
            Surroundings(
                before=[instance(source=DebugSource.PROMETHEUS)],
                after=[
                    instance(
                        endpoint(EndpointCounters(events=1, pending=1, errors=2), None),
                        source=DebugSource.PROMETHEUS,
                    )
                ],
            ),
            False,
            "without any answer",
            id="prometheus-first-event",
        ),
        pytest.param(
            counted(events=1, successes=0, pending=1, failures=2, statuses={404: 2}),
            False,
            "2 attempts answered 404",
            id="restarted-meanwhile",
        ),
        pytest.param(
            Surroundings(before=[BEFORE], after=[instance(told(timeout_seconds=500e-9))]),
            False,
            "500 nanoseconds",
            id="timeout-without-unit",
        ),
        pytest.param(
            Surroundings(after=[instance(endpoint())]), False, "no endpoint", id="no-counters-before"
        ),
        pytest.param(
            Surroundings(
                after=[Instance(address="http://debug", reading=Failure.of(RegistryUnavailable("away")))]
            ),
            False,
            "no endpoint",
            id="counters-not-readable",
        ),
    ],
)
def test_silence__why(surroundings: Surroundings, delete: bool, cause: str) -> None:
    """Counters weigh more than our door, a deletion that came tells an ignore block, and the usual is left."""
    silent = trail(
        events=CanaryEvents(),
        inventory=NOTHING,
        verified=NOTHING,
        read=NOTHING,
        listing=None,
        events_after_removal=CanaryEvents(delete=delete),
        surroundings=surroundings,
    )
    check = broken(judge_trail(silent, token=TOKEN))
    assert check is not None
    assert Link.NOTIFIED == check.link
    assert cause in first_cause(check)


def test_silence__usual_causes_in_order() -> None:
    """With nothing to go by the commonest causes come first, and how to learn more comes last."""
    silent = trail(events=CanaryEvents(), inventory=NOTHING, events_after_removal=CanaryEvents())
    check = broken(judge_trail(silent, token=None))
    assert check is not None
    words = [
        "address",
        "token",
        "timeout",
        "ignore block",
        "proxy redirects",
        "queue",
        "cannot be told apart",
    ]
    assert all(word in cause.likely for word, cause in zip(words, check.causes, strict=True))


# what deliveries tell


def delivery(*events: dict[str, object], done: bool = True, reason: str | None = None) -> Arrived:
    return Arrived(
        received_at=NOW + timedelta(seconds=1),
        done_at=NOW + timedelta(seconds=1) if done else None,
        body=json.dumps({"events": events}).encode(),
        reason=reason,
    )


def event(action: str, *, repository: str = "probe", tag: str = "canary-1") -> dict[str, object]:
    return {"action": action, "target": {"repository": repository, "tag": tag}}


@pytest.mark.parametrize(
    ("arrived", "news"),
    [
        ([], CanaryEvents()),
        ([delivery(event("push"))], CanaryEvents(push_seconds=1, applied=True)),
        ([delivery(event("push"), done=False)], CanaryEvents(push_seconds=1)),
        ([delivery(event("push"), event("delete"))], CanaryEvents(push_seconds=1, applied=True, delete=True)),
        ([delivery(event("delete"))], CanaryEvents(delete=True)),
        ([delivery(event("pull"))], CanaryEvents()),
        ([delivery(event("push", repository="another"))], CanaryEvents()),
        (
            [delivery(event("push"), reason="odd")],
            CanaryEvents(push_seconds=1, applied=True, quarantined="odd"),
        ),
        ([replace(delivery(), body=b"canary-1")], CanaryEvents()),
        ([replace(delivery(), body=b'["canary-1"]')], CanaryEvents()),
        ([replace(delivery(), body=b'{"events": [1, {"target": "canary-1"}]}')], CanaryEvents()),
    ],
)
def test_news__of_the_canary(arrived: list[Arrived], news: CanaryEvents) -> None:
    """Only events about the canary's own tag count, whatever else mentions it."""
    assert news == read_events(CANARY, arrived)


# pulls


def shown(*, holds: bool, because: str = "none of ours") -> TraitState:
    return TraitState(holds=holds, because=because, changed_at=NOW, observed_at=NOW)


@pytest.mark.parametrize(
    ("fact", "ignored", "outcome", "said"),
    [
        pytest.param(shown(holds=True), False, LinkOutcome.OK, "announced: the last", id="announced"),
        pytest.param(
            shown(holds=False), False, LinkOutcome.WARNING, "not announced: none of ours", id="passed over"
        ),
        pytest.param(None, False, LinkOutcome.WARNING, "none was announced yet", id="not known"),
        pytest.param(None, True, LinkOutcome.WARNING, "by the registry's configuration", id="ignored"),
        pytest.param(
            shown(holds=True), True, LinkOutcome.WARNING, "by the registry's configuration", id="ignored now"
        ),
    ],
)
def test_pulls__announced_or_what_it_costs(
    fact: TraitState | None, ignored: bool, outcome: LinkOutcome, said: str
) -> None:
    """Where pulls are not announced, or not known to be, the line says what that costs and what to do."""
    check = judge_pulls(fact, ignored=ignored)
    assert (Link.PULLS, outcome) == (check.link, check.outcome)
    assert said in check.found
    costs = "every tag shows as never pulled" in check.found
    assert costs is (outcome is LinkOutcome.WARNING)
    assert [True] * len(check.causes) == ["connect-a-registry.md" in cause.remedy for cause in check.causes]
    assert bool(check.causes) is costs


@pytest.mark.parametrize(
    ("instances", "ignored"),
    [
        pytest.param([instance(endpoint())], True, id="ignored"),
        pytest.param(
            [instance(endpoint(configuration=replace(CONFIGURATION, ignored_actions=frozenset())))],
            False,
            id="not ignored",
        ),
        pytest.param(
            [instance(endpoint(configuration=replace(CONFIGURATION, ignored_media_types=frozenset())))],
            False,
            id="without effect up to 3.0",
        ),
        pytest.param([instance(endpoint(configuration=None))], False, id="counters alone"),
        pytest.param(
            [Instance(address="http://debug", reading=Failure.of(RegistryUnavailable("away")))],
            False,
            id="away",
        ),
        pytest.param([], False, id="no address"),
    ],
)
def test_pulls__left_out_by_configuration(instances: list[Instance], ignored: bool) -> None:
    """That pulls are left out is read from the configuration of our endpoint, where it is seen and has an effect."""
    assert ignored is ignores_pulls(instances, token=TOKEN)


# printing


def test_report__first_broken_link() -> None:
    """The first failure in the chain's order is the verdict, with its likeliest cause."""
    report = Diagnosis(
        (
            ok(Link.DATABASE, "PostgreSQL 18"),
            warning(Link.DELETES, "off", Cause("default", "nothing")),
            failed(Link.NOTIFIED, "nothing came", Cause("a", "do a"), Cause("b", "do b")),
            failed(Link.DELETION, "nothing came"),
        )
    )
    expected = "first failed step: notification arrived: nothing came\nlikely cause: a\nwhat to do: do a\n"
    assert expected == verdict_text(report)
    assert (False, "notification arrived") == (report_json(report)["ok"], report_json(report)["broken"])


def test_report__well_says_what_was_not_tried() -> None:
    """Being well is said with the number of warnings and of what was skipped."""
    report = Diagnosis(
        (ok(Link.DATABASE, "x"), warning(Link.DELETES, "off"), skipped(Link.ENDPOINT, "unset"))
    )
    assert "all is well (1 warning, 1 skipped)\n" == verdict_text(report)


def test_check__a_line_and_its_causes() -> None:
    """A check is one line; each cause adds what is likely and what to do."""
    expected = (
        "failed   schema                old\n         likely: another release\n         do:     run "
        "`indexer migrate`\n"
    )
    assert expected == check_text(
        failed(Link.SCHEMA, "old", Cause("another release", "run `indexer migrate`"))
    )


@pytest.mark.parametrize(
    ("state", "do"),
    [
        pytest.param(
            SchemaState(problem="lacks migration 0001", obstacle="GRANT it"), "GRANT it", id="no right"
        ),
        pytest.param(SchemaState(problem="lacks migration 0001"), "run `indexer migrate`", id="not migrated"),
        pytest.param(
            SchemaState(problem="permission denied", refused=True), "set INDEXER_DATABASE_URL here", id="role"
        ),
    ],
)
def test_schema__what_to_do(state: SchemaState, do: str) -> None:
    """What is to be done about a schema goes by why it is not ours, and not always by migrating."""
    check = decide.judge_schema(state)
    assert LinkOutcome.FAILED is check.outcome
    assert do in check.causes[0].remedy


def test_idle__of_a_process_that_was_ended() -> None:
    """A loop that was stopped by a signal is not called one that hangs."""
    ended = LoopState(
        loop="verify", process="reconciler run a:1", outcome="ended", age_seconds=3, last_error=None
    )
    cause = _why_idle_one(ended, "verify", program="reconciler run")
    assert "was stopped 3 s ago" in cause.likely
