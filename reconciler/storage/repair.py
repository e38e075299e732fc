"""Writes spoiled links again, where it is certain what they must hold.

The path of a link to a manifest or a blob names the digest that it holds; only a tag's own link says something that its
path does not. So a link is written again if

1. it lies there, and is empty, cut off, or names another digest than its path. One that is not there may have been
   removed on purpose, and stays away;
2. the bytes of that digest are stored, and hash to it: that is looked at right before the link is written.

Nothing else is ever written, and nothing is removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indexer.oci.digest import Digest
from reconciler.storage import layout
from reconciler.storage.damage import Finding, Link, is_right
from reconciler.storage.objects import WritableStorage
from reconciler.storage.observe import LONGEST_LINK, Reader


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A link that was written again, and what it held before."""

    path: str
    digest: Digest
    before: bytes

    def show(self) -> dict[str, Any]:
        """Return it as a job's result shows it."""
        return {
            "path": self.path,
            "digest": self.digest,
            "before": self.before.decode("ascii", "backslashreplace"),
        }


def is_rewritten(storage: WritableStorage, path: str, digest: Digest) -> bool:
    """Tell whether a link holds what it should."""
    now = storage.read(path, LONGEST_LINK)
    return now is not None and is_right(digest, Link(layout.parse_link(now), len(now)))


def plan_rewrite(storage: WritableStorage, finding: Finding) -> Rewritten | None:
    """Look at the link of a finding again; None where it is not certain any more that it should be written."""
    digest = finding.rewrite
    if digest is None:
        return None
    before = storage.read(finding.path, LONGEST_LINK)
    if before is None or is_right(digest, Link(layout.parse_link(before), len(before))):
        return None
    reader = Reader(storage)
    if reader.has_wrong_bytes(digest) or digest not in reader.sizes:
        return None
    return Rewritten(finding.path, digest, before)
