"""The doctor judges what the registry answers before anything is pushed."""

from __future__ import annotations

import pytest

from indexer.common.errors import (
    RegistryDenied,
    RegistryMisbehaved,
    RegistryUnavailable,
    TokenServerMisbehaved,
    TokenServerUnavailable,
)
from reconciler.doctor import decide
from reconciler.doctor.facts import (
    Failure,
    Family,
    RegistryFacts,
)
from reconciler.doctor.report import LinkOutcome
from reconciler.registry.answers import Deletion, Ping, TagListing
from reconciler.registry.cache import CacheKind, RegistryKind
from reconciler.registry.names import TagNames
from tests.fixtures.examined import NOW, first_cause


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
    ("family", "outcome"),
    [(Family.V2, LinkOutcome.OK), (Family.V3, LinkOutcome.OK), (Family.UNKNOWN, LinkOutcome.WARNING)],
)
def test_version__family(family: Family, outcome: LinkOutcome) -> None:
    """What is no Distribution is worth a warning."""
    assert outcome == decide.judge_version(family).outcome


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
