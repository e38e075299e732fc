"""What was really done to the registry, and so what must be shown: written down as it is done.

The ledger knows nothing of the product's code; what it expects follows from what the registry was asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from tools.sample_images import Image


@dataclass(frozen=True, slots=True)
class Pushed:
    """A tag as it is now, and between when it was pushed. ``actor`` is None where no notification was sent."""

    repository: str
    tag: str
    image: Image
    kind: str
    actor: str | None
    between: tuple[datetime, datetime]
    artifact_type: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the audit log."""

    action: str
    repository: str | None
    tag: str | None
    digest: str | None
    previous_digest: str | None
    actor: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference that only a reconcile can find."""

    kind: str
    repository: str
    tag: str
    expected: str | None
    found: str | None


@dataclass(slots=True)
class Ledger:
    """``tags`` is in the order of publishing, ``entries`` in the order of the events."""

    tags: dict[tuple[str, str], Pushed] = field(default_factory=dict)
    held: set[tuple[str, str]] = field(default_factory=set)
    pulls: Counter[tuple[str, str]] = field(default_factory=Counter)
    entries: list[Entry] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)

    def pushed(self, pushed: Pushed) -> None:
        """Write down a push that the registry announced."""
        repository, tag, digest = pushed.repository, pushed.tag, pushed.image.digest
        if (repository, digest) not in self.held:
            for each in (*pushed.image.children, pushed.image):
                self._manifest_pushed(pushed, each.digest)
        previous = self._point(pushed)
        action = "tag.created" if previous is None else "tag.moved"
        self.entries.append(
            Entry(action, repository, tag, digest, previous, pushed.actor, source="notification")
        )

    def deleted(self, repository: str, tag: str, actor: str, *, manifest_too: bool) -> None:
        """Write down a deletion that the registry announced."""
        digest = self.tags.pop((repository, tag)).image.digest
        if manifest_too:
            self.entries.append(
                Entry("manifest.deleted", repository, None, digest, None, actor, source="notification")
            )
        self.entries.append(
            Entry("tag.deleted", repository, tag, digest, digest, actor, source="notification")
        )

    def pulled(self, repository: str, tag: str, actor: str) -> None:
        """Write down a pull by tag."""
        digest = self.tags[repository, tag].image.digest
        self.pulls[repository, tag] += 1
        self.entries.append(
            Entry("manifest.pulled", repository, tag, digest, None, actor, source="notification")
        )

    def reconciled(self, operator: str) -> None:
        """Write down that somebody had the registry reconciled."""
        self.entries.append(Entry("operator.reconciled", None, None, None, None, operator, source="operator"))

    def pushed_unheard(self, pushed: Pushed) -> None:
        """Write down a push that nobody announced; the reconcile finds it."""
        repository, tag, digest = pushed.repository, pushed.tag, pushed.image.digest
        previous = self._point(pushed)
        kind, action = ("tag_missing", "tag.created") if previous is None else ("tag_stale", "tag.moved")
        self.drift.append(Drift(kind, repository, tag, expected=previous, found=digest))
        self.entries.append(Entry(action, repository, tag, digest, previous, None, source="walk"))

    def deleted_unheard(self, repository: str, tag: str) -> None:
        """Write down a tag that vanished from storage."""
        digest = self.tags.pop((repository, tag)).image.digest
        self.drift.append(Drift("tag_extra", repository, tag, expected=digest, found=None))
        self.entries.append(Entry("tag.deleted", repository, tag, digest, digest, None, source="walk"))

    def _manifest_pushed(self, pushed: Pushed, digest: str) -> None:
        self.held.add((pushed.repository, digest))
        self.entries.append(
            Entry(
                "manifest.pushed", pushed.repository, None, digest, None, pushed.actor, source="notification"
            )
        )

    def _point(self, pushed: Pushed) -> str | None:
        """Let the tag point to it, as the newest published; return where it pointed before."""
        before = self.tags.pop((pushed.repository, pushed.tag), None)
        self.tags[pushed.repository, pushed.tag] = pushed
        return None if before is None else before.image.digest
