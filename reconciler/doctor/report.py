"""What an examination comes to: a check for every link of the chain, in the order of the chain. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class Link(StrEnum):
    """The links, in order: what is broken further up explains what is broken below."""

    SETTINGS = "settings"
    DATABASE = "database"
    SCHEMA = "schema"
    INDEXER = "indexer"
    RECEIVER = "notifications door"
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


@unique
class LinkOutcome(StrEnum):
    """``warning``: works, and something is to be known. ``skipped``: not tried, and why."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why it may be so, and what to do about it."""

    likely: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One link: how it is, what was found, and, unless it is well, causes with the likeliest first."""

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
        """The first broken link."""
        return next((check for check in self.checks if check.outcome is LinkOutcome.FAILED), None)

    @property
    def is_well(self) -> bool:
        """True where nothing failed; what was skipped was not asked for, or depends on what failed."""
        return self.broken is None


def ok(link: Link, found: str) -> Check:
    """Return a link that holds."""
    return Check(link=link, outcome=LinkOutcome.OK, found=found)


def warning(link: Link, found: str, *causes: Cause) -> Check:
    """Return a link that holds, with something to know."""
    return Check(link=link, outcome=LinkOutcome.WARNING, found=found, causes=causes)


def failed(link: Link, found: str, *causes: Cause) -> Check:
    """Return a broken link."""
    return Check(link=link, outcome=LinkOutcome.FAILED, found=found, causes=causes)


def skipped(link: Link, why: str) -> Check:
    """Return a link that was not tried."""
    return Check(link=link, outcome=LinkOutcome.SKIPPED, found=why)
