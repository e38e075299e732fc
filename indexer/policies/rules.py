"""What a file of policies says, as values: parsed, with every default in place.

The reference (docs/reference/policies.md) says what each means; ``document`` makes them, ``cleanup`` evaluates them.
Periods are timedeltas, sizes bytes, shares numbers from 0 to 1, rates a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum, unique
from ipaddress import IPv4Network, IPv6Network

from indexer.policies.grammar import Window
from indexer.policies.patterns import Subject
from indexer.policies.selectors import ALL_REPOSITORIES, ALL_TAGS, Globs, Selector, Without

DAY = timedelta(days=1)


@unique
class Mode(StrEnum):
    """What becomes of a policy's plans."""

    PREVIEW = "preview"
    PROPOSE = "propose"
    ENFORCE = "enforce"


@unique
class By(StrEnum):
    """What ``newest`` orders by."""

    PUSHED = "pushed"
    PULLED = "pulled"
    SEMVER = "semver"


@unique
class CountAs(StrEnum):
    """What ``newest`` counts."""

    TAGS = "tags"
    DIGESTS = "digests"
    VERSIONS = "versions"


@unique
class Prereleases(StrEnum):
    """Where ``newest`` by version puts prereleases."""

    SEPARATE = "separate"
    TOGETHER = "together"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How long nothing is deleted after something happened."""

    pushed: timedelta = DAY
    moved: timedelta = DAY
    restored: timedelta = 7 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Which pulls count, and for what."""

    ignored_actors: frozenset[str] = frozenset()
    ignored_addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    digest_pulls_count_for_tags: bool = True
    child_pulls_count_for_index: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What every rule has: an id, and which repositories and tags it is about."""

    id: str
    repositories: Selector = ALL_REPOSITORIES
    tags: Selector = ALL_TAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectTags(Rule):
    """These tags are never deleted; ``immutable``: that one was moved is an alarm."""

    immutable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectInUse(Rule):
    """What is in use by one of some sources, or by any (None)."""

    sources: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectHeld(Rule):
    """What is on hold."""


Protect = ProtectTags | ProtectInUse | ProtectHeld


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest ``count`` of each group. ``among``: whom they are counted among; see ``newest``."""

    count: int
    by: By = By.PUSHED
    per: tuple[str, ...] = ()
    count_as: CountAs = CountAs.TAGS
    prereleases: Prereleases = Prereleases.SEPARATE
    among: Selector | None = None
    among_deletable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(Rule):
    """Tags for which every condition that is given holds."""

    newest: Newest | None = None
    pulled_within: timedelta | None = None
    pushed_within: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous(Rule):
    """The last ``count`` digests that ``tags`` pointed to before, if ``within`` ago at most."""

    count: int
    within: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Rule):
    """Tags for which every condition that is given holds.

    ``older``: pushed at least so long ago. ``unused``: neither pulled nor pushed for so long. ``annotation``: the key
    whose value says how long after its push the tag may go.
    """

    older: timedelta | None = None
    unused: timedelta | None = None
    annotation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepUntagged:
    """Untagged manifests that stay: every condition that is given holds."""

    was_tagged: Selector | None = None
    pulled_within: timedelta | None = None
    pushed_within: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Untagged:
    """When untagged manifests go."""

    untagged: timedelta | None = None
    pushed: timedelta | None = None
    unused: timedelta | None = None
    keep: tuple[KeepUntagged, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Delete only as long as the scope's tags hold more than ``bytes``, the least recently used first."""

    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """What stops a plan."""

    tags: int = 500
    share: float = 0.1
    repository_share: float = 0.5
    bytes: int | None = None
    never_empty: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """How long what is deleted can be had back. ``trash``: the name below which manifests are copied; None: nowhere."""

    pending: timedelta = 7 * DAY
    unlink_after: timedelta = 7 * DAY
    trash: str | None = None
    manifests: timedelta = 90 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When and how fast it is acted."""

    window: Window | None = None
    rate: float = 5.0
    errors: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy. ``orphans``: how long after its subject went a referrer may go; None: never."""

    id: str
    mode: Mode = Mode.PREVIEW
    scope: Selector = ALL_REPOSITORIES
    grace: Grace = field(default_factory=Grace)
    use: Use = field(default_factory=Use)
    protect: tuple[Protect, ...] = ()
    keep: tuple[Keep, ...] = ()
    previous: tuple[Previous, ...] = ()
    delete: tuple[Delete, ...] = ()
    untagged: Untagged | None = None
    orphans: timedelta | None = None
    budget: Budget | None = None
    brake: Brake = field(default_factory=Brake)
    undo: Undo = field(default_factory=Undo)
    run: Run = field(default_factory=Run)


@unique
class CollectionMode(StrEnum):
    """What online collection may do."""

    OFF = "off"
    PREVIEW = "preview"
    ENFORCE = "enforce"


@unique
class CollectedManifests(StrEnum):
    """What online collection does about manifests."""

    NEVER = "never"
    HEAL = "heal"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Online collection of garbage: the section ``collection``."""

    mode: CollectionMode = CollectionMode.OFF
    delay: timedelta = timedelta(hours=24)
    grace: timedelta = timedelta(minutes=15)
    trash_for: timedelta = timedelta(days=7)
    rate: float = 50.0
    manifests: CollectedManifests = CollectedManifests.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class InUseSource:
    """A source whose silence holds every deletion in its scope."""

    id: str
    scope: Selector = ALL_REPOSITORIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What a file says. ``sha256`` is of its bytes: what was approved under others is not approved."""

    sha256: str
    cleanup: tuple[Policy, ...] = ()
    collection: Collection = field(default_factory=Collection)
    in_use: tuple[InUseSource, ...] = ()
    blocked: tuple[Window, ...] = ()


def without_trash(policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
    """Return policies none of which has a repository where any of them keeps copies of what it deleted."""
    names = sorted({policy.undo.trash for policy in policies if policy.undo.trash is not None})
    if not names:
        return policies
    copies = Globs.of([f"{name}/**" for name in names], Subject.REPOSITORY)
    return tuple(replace(policy, scope=Without(policy.scope, copies)) for policy in policies)


def owner_of(repository: str, policies: tuple[Policy, ...]) -> Policy | None:
    """Return the first policy in the order of the file whose scope has a repository; None: it is left alone."""
    return next((policy for policy in policies if policy.scope.matches(repository)), None)
