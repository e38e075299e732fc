"""A plan of the registry's own collection, and how it is shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from indexer.common.rfc3339 import format_time
from indexer.oci.digest import Digest
from reconciler.collection.hazards import Hazard

SHOWN: Final = 50
"""Hazards in the text; --json has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPlan:
    """What a collection would delete, and damage.

    - ``source``: ``storage`` or ``dry-run``. ``storage``: what shows that it is the registry's, for the output.
    - ``blobs``: with their sizes in bytes, None where that is not known. ``marked``: how many digests stay.
    - ``fails``: the collection would fail; then it deletes at most manifests.
    - ``release``, ``delete_untagged``: of the collection; None where the text of a dry run does not say it.
    """

    source: str
    blobs: Mapping[Digest, int | None] = field(hash=False)
    manifests: frozenset[tuple[str, Digest]]
    layer_links: frozenset[tuple[str, Digest]]
    hazards: tuple[Hazard, ...]
    repositories: int
    marked: int
    began_at: datetime
    ended_at: datetime
    fails: bool = False
    release: str | None = None
    delete_untagged: bool | None = None
    storage: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def would_delete(self) -> bool:
        """Whether it would delete anything."""
        return bool(self.blobs or self.manifests or self.layer_links)

    @property
    def freed_bytes(self) -> int:
        """Bytes of the blobs whose size is known."""
        return sum(size or 0 for size in self.blobs.values())

    @property
    def unsized(self) -> int:
        """How many blobs have an unknown size."""
        return sum(size is None for size in self.blobs.values())


def plan_json(plan: CollectionPlan) -> dict[str, Any]:
    """Return a plan as ``--json`` prints it."""
    return {
        **summary_json(plan),
        "blobs": [{"digest": digest, "size_bytes": size} for digest, size in sorted(plan.blobs.items())],
        "manifests": _pairs(plan.manifests),
        "layer_links": _pairs(plan.layer_links),
    }


def summary_json(plan: CollectionPlan) -> dict[str, Any]:
    """Return the same with the numbers of blobs, manifests and layer links instead of their names."""
    return {
        "blobs": len(plan.blobs),
        "manifests": len(plan.manifests),
        "layer_links": len(plan.layer_links),
        "freed_bytes": plan.freed_bytes,
        "unsized_blobs": plan.unsized,
        "hazards": [
            {
                "code": each.code.value,
                "repository": each.repository,
                "digest": each.digest,
                "text": each.text,
            }
            for each in plan.hazards
        ],
        "fails": plan.fails,
        "release": plan.release,
        "delete_untagged": plan.delete_untagged,
        "repositories": plan.repositories,
        "marked": plan.marked,
        "source": plan.source,
        "storage": None if plan.storage is None else dict(plan.storage),
        "began_at": format_time(plan.began_at),
        "ended_at": format_time(plan.ended_at),
    }


def plan_lines(plan: CollectionPlan) -> Iterator[str]:
    """Return a plan as lines for people."""
    if plan.storage is not None:
        yield str(plan.storage["text"])
    yield f"{_kind(plan)}: {plan.repositories} repositories, {plan.marked} manifests and blobs stay"
    if plan.fails:
        gone = f", after it has deleted {len(plan.manifests)} manifests" if plan.manifests else ""
        yield f"it would fail{gone}, and free nothing"
    elif plan.would_delete:
        unsized = f" and those of {plan.unsized} whose size is not on record" if plan.unsized else ""
        yield (
            f"it would delete {len(plan.blobs)} blobs, {len(plan.manifests)} manifests and {len(plan.layer_links)} "
            f"layer links, and free {plan.freed_bytes} bytes{unsized}"
        )
    else:
        yield "it would delete nothing"
    for each in plan.hazards[:SHOWN]:
        yield f"{each.code.value:<4} {each.text}"
    if len(plan.hazards) > SHOWN:
        yield f"… and {len(plan.hazards) - SHOWN} more hazards; --json names all"


def _kind(plan: CollectionPlan) -> str:
    if plan.release is None:
        return "a collection as the dry run says"
    option = "with --delete-untagged" if plan.delete_untagged else "without --delete-untagged"
    return f"garbage-collect of {plan.release}{'.x' if plan.release == '3' else ''} {option}"


def _pairs(pairs: frozenset[tuple[str, Digest]]) -> list[dict[str, str]]:
    return [{"repository": name, "digest": digest} for name, digest in sorted(pairs)]
