"""``reconciler storage import``: the past of a registry, from what lies in its storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indexer.commands.common import AsJson, Config
from reconciler.commands.acting import Detach, Reason, run_job
from reconciler.commands.shared import OnlyRepositories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from indexer.jobs.job import Job


def import_storage(
    *,
    repository: OnlyRepositories = None,
    reason: Reason = None,
    detach: Detach = False,
    json: AsJson = False,
    config: Config = None,
) -> int:
    """Read when each tag was last pushed, what it had before, and manifests that no API lists, from the storage.

    Nothing in the storage is changed, and nothing that an event said is overruled. A second import changes nothing.
    Exit 0: done; 1: failed.
    """
    return run_job(
        "storage-import",
        {"repositories": repository},
        command="reconciler storage import",
        yes=True,  # it changes nothing in the registry but its own canary
        reason=reason,
        detach=detach,
        config=config,
        json=json,
        text_of=lines_of,
    )


def lines_of(job: Job) -> Sequence[str]:
    """Return what an import found, in lines."""
    found: Mapping[str, Any] = job.result or {}
    tags = [
        (found.get("tags_created", 0), "new"),
        (found.get("tags_dated", 0), "dated better"),
        (found.get("tags_extended", 0), "with digests that they had before"),
        (found.get("tags_unchanged", 0), "as on record"),
        (found.get("tags_to_verify", 0), "differ from the record; they are verified with the registry"),
    ]
    lines = [
        f"done: {found.get('repositories', 0)} repositories read",
        f"  {found.get('storage', {}).get('text', 'the storage')}",
        *(f"  {count} tags {word}" for count, word in tags if count),
        f"  {found.get('earlier_digests', 0)} digests that tags had before",
        f"  {found.get('manifests_found', 0)} manifests that were not on record, {found.get('manifests_read', 0)} read",
    ]
    undated, tags_left, manifests_left = (
        found.get(name, 0) for name in ("earlier_digests_undated", "tags_left_out", "manifests_left_out")
    )
    if undated:
        lines.append(f"  {undated} earlier digests left out: nothing certain says when tags had them")
    if tags_left or manifests_left:
        lines.append(
            f"  {tags_left} tags and {manifests_left} manifests left out: their links or bytes are damaged; the log "
            "names them"
        )
    return lines
