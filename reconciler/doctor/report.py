"""The result of an examination: a check for every step between a push and its listing, in their order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class Link(StrEnum):
    """The steps, in order: a failed step explains failures below it."""

    SETTINGS = "settings"
    DATABASE = "database"
    SCHEMA = "schema"
    INDEXER = "indexer"
    RECEIVER = "receiver"
    REGISTRY = "registry"
    CREDENTIALS = "credentials"
    KIND = "registry kind"
    CATALOG = "catalog"
    TAG_LISTING = "tag listing"
    CLOCKS = "clocks"
    VERSION = "registry version"
    DELETES = "deletes"
    ENDPOINT = "registry's endpoint"
    PUSHED = "canary pushed"
    NOTIFIED = "notification arrived"
    APPLIED = "tag in inventory"
    VERIFIED = "tag verified"
    READ = "manifest read"
    LISTED = "tag listed"
    REMOVED = "canary removed"
    DELETION = "deletion arrived"
    PULLS = "pulls"
    LOG = "audit log"
    POLICIES = "policies"
    ACTING = "jobs"


@unique
class LinkOutcome(StrEnum):
    """``warning``: it works, and there is something to know. ``skipped``: not tested."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Cause:
    """A likely cause, and what to do about it."""

    likely: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One step: its outcome, what was found, and the causes of a failure or warning, the likeliest first."""

    link: Link
    outcome: LinkOutcome
    found: str
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The whole examination."""

    checks: tuple[Check, ...]

    @property
    def broken(self) -> Check | None:
        """The first step that failed; None: none did."""
        return next((check for check in self.checks if check.outcome is LinkOutcome.FAILED), None)

    @property
    def is_well(self) -> bool:
        """Whether nothing failed; skipped steps were not asked for, or depend on a failed one."""
        return self.broken is None


def ok(link: Link, found: str) -> Check:
    """Return a step that works."""
    return Check(link=link, outcome=LinkOutcome.OK, found=found)


def warning(link: Link, found: str, *causes: Cause) -> Check:
    """Return a step that works, with something to know."""
    return Check(link=link, outcome=LinkOutcome.WARNING, found=found, causes=causes)


def failed(link: Link, found: str, *causes: Cause) -> Check:
    """Return a step that failed."""
    return Check(link=link, outcome=LinkOutcome.FAILED, found=found, causes=causes)


def skipped(link: Link, why: str) -> Check:
    """Return a step that was not tested."""
    return Check(link=link, outcome=LinkOutcome.SKIPPED, found=why)
