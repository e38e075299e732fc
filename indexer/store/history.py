"""What tags pointed to, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from indexer.inventory.history import Timeline
from indexer.inventory.records import Interval, TagKey, TimeSource
from indexer.inventory.semver import looks_immutable
from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.identifiers import event_key, event_text
from indexer.store.instants import known, or_for_ever
from indexer.store.pool import Connection
from indexer.store.queries import load, sparse

SQL = load("history")


async def find_history(
    connection: Connection, *, since: Mapping[TagKey, datetime], repository_ids: Mapping[RepositoryName, int]
) -> dict[TagKey, Timeline]:
    """Return of each tag the interval that contains its instant, and all that follow."""
    names = {number: name for name, number in repository_ids.items()}
    rows = await connection.fetch(
        SQL["find_history"],
        [repository_ids[repository] for repository, _ in since],
        [tag for _, tag in since],
        list(since.values()),
    )
    found: dict[TagKey, list[Interval]] = {}
    for row in rows:
        found.setdefault((names[row["repository_id"]], TagName(row["name"])), []).append(
            Interval(
                valid_from=row["valid_from"],
                valid_to=known(row["valid_to"]),
                digest=digest_from_bytes(row["digest"]),
                source=TimeSource(row["from_source"]),
                not_before=row["not_before"],
                actor=row["actor"],
                event_id=event_text(row["event_key"]),
                to_source=TimeSource(row["to_source"]) if row["to_source"] else None,
                to_not_before=row["to_not_before"],
            )
        )
    return {key: tuple(intervals) for key, intervals in found.items()}


async def write_history(
    connection: Connection,
    *,
    changed: Sequence[tuple[TagKey, Timeline, Timeline]],
    repository_ids: Mapping[RepositoryName, int],
    manifest_ids: Mapping[Digest, int],
    actor_ids: Mapping[str, int],
) -> None:
    """Write the difference between timelines before and after: intervals that moved, were cut, ended or began.

    Then mark replacements where the tag is a full version. That is done here, since only the database has a whole
    timeline.
    """
    gone: list[tuple[TagKey, datetime]] = []
    put: list[tuple[TagKey, Interval]] = []
    fixed: dict[TagKey, datetime] = {}
    for key, before, after in changed:
        starts = {interval.valid_from for interval in after}
        gone += [(key, interval.valid_from) for interval in before if interval.valid_from not in starts]
        unchanged = set(before)
        put += [(key, interval) for interval in after if interval not in unchanged]
        touched = [interval.valid_from for interval in unchanged.symmetric_difference(after)]
        if touched and looks_immutable(key[1]):
            fixed[key] = min(touched)
    if gone:
        await connection.execute(
            SQL["drop_intervals"],
            [repository_ids[key[0]] for key, _ in gone],
            [key[1] for key, _ in gone],
            [start for _, start in gone],
        )
    if put:
        await connection.execute(
            SQL["put_intervals"],
            [repository_ids[key[0]] for key, _ in put],
            [key[1] for key, _ in put],
            [interval.valid_from for _, interval in put],
            [or_for_ever(interval.valid_to) for _, interval in put],
            sparse([interval.not_before for _, interval in put]),
            [manifest_ids[interval.digest] for _, interval in put],
            sparse([event_key(interval.event_id) if interval.event_id else None for _, interval in put]),
            sparse([actor_ids[interval.actor] if interval.actor else None for _, interval in put]),
            [interval.source for _, interval in put],
            sparse([interval.to_source for _, interval in put]),
            sparse([interval.to_not_before for _, interval in put]),
        )
    if fixed:
        await connection.execute(
            SQL["mark_replacements"],
            [repository_ids[repository] for repository, _ in fixed],
            [tag for _, tag in fixed],
            list(fixed.values()),
        )
