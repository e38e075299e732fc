"""Whether a deletion of ours can be undone, as far as the record says. Pure.

Only the registry knows whether a blob is still there: a restore asks it for a byte of each before it changes anything.
What such an attempt found to be gone is on record, and counts here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from indexer.common.rfc3339 import format_time
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName, is_repository_name

LONGEST_TRASH_NAME: Final = 64


def trash_repository(trash: str, repository: RepositoryName) -> RepositoryName | None:
    """Return where copies of a repository's manifests lie, below the name ``trash``; None: the name is too long."""
    name = f"{trash}/{repository}"
    return RepositoryName(name) if is_repository_name(name) else None


def copy_tag(digest: Digest) -> TagName:
    """Return the tag of the copy of a manifest: each has its own, since a collection may delete what has none."""
    return TagName(f"kept-{digest.partition(':')[2]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A tag that we deleted, or a ``manifest`` by its digest, and what has become of it.

    - ``digest``: what it pointed to, or the manifest's. ``kept``: its manifest is kept, by rule until ``kept_until``.
    - ``gone``: why an attempt to restore it failed; None: none did, or one succeeded later.
    - ``followed``: it is not certain yet what the deletion came to. ``under_way``: another request about the tag is.
    - ``is_there``: the tag is on record; ``now_at``: where it points, None: not known. Of a manifest: its digest.
    - ``restored_at``: when this deletion was undone last.
    - ``unlinked_at``: since when the repository does not have the manifest either; None: it has it.
    - ``copied``: its manifest and blobs lie below ``undo.trash``, too, so that no collection takes them.
    """

    digest: Digest
    kept: bool
    kept_until: datetime
    gone: str | None = None
    followed: bool = False
    under_way: bool = False
    is_there: bool = False
    now_at: Digest | None = None
    restored_at: datetime | None = None
    unlinked_at: datetime | None = None
    copied: bool = False
    manifest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """Whether a deletion can be undone: ``until`` when if it can, else why not (``because``).

    ``by_force``: it could be with force, and where the tag points by now is lost then.
    ``unless``: what may end it sooner.
    """

    until: datetime | None = None
    because: str | None = None
    by_force: bool = False
    unless: str | None = None

    def show(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "possible": self.because is None,
            "until": format_time(self.until),
            "because": self.because,
            "by_force": self.by_force,
            "unless": self.unless,
        }


def restorable(deleted: Deleted, *, now: datetime) -> Restorable:
    """Return whether a deletion can be undone. What nothing can change is named first."""
    because = _because(deleted, now)
    if because is not None:
        return Restorable(because=because)
    if deleted.is_there:
        where = "is there again" if deleted.now_at is None else f"points to {deleted.now_at} by now"
        because = f"the tag {where}: restoring takes force, and what it points to is lost then"
        return Restorable(because=because, by_force=True)
    return Restorable(until=deleted.kept_until, unless=_unless(deleted))


def _unless(deleted: Deleted) -> str | None:
    if deleted.unlinked_at is None or deleted.copied:
        return None
    return (
        f"its manifest left the repository at {format_time(deleted.unlinked_at)}: once the registry collects its "
        "garbage, what only this image needs is gone for good"
    )


def _because(deleted: Deleted, now: datetime) -> str | None:
    """Return why it cannot be undone, even with force."""
    if deleted.is_there and deleted.now_at == deleted.digest:
        return _there_again(deleted)
    lost = _lost(deleted, now)
    if lost is not None:
        return lost
    what = "manifest" if deleted.manifest else "tag"
    return f"another deletion or restore of this {what} is not finished" if deleted.under_way else None


def _lost(deleted: Deleted, now: datetime) -> str | None:
    if deleted.gone is not None:
        return deleted.gone
    if not deleted.kept:
        return "its manifest was not kept"
    if deleted.kept_until <= now:
        return f"it was kept until {format_time(deleted.kept_until)}"
    return None


def _there_again(deleted: Deleted) -> str:
    if deleted.restored_at is not None:
        return f"it was restored at {format_time(deleted.restored_at)}"
    if deleted.followed:
        return f"it is not certain yet that the {'manifest' if deleted.manifest else 'tag'} is gone"
    return "the repository has it again" if deleted.manifest else "the tag points there again"
