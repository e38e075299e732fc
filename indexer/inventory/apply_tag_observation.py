"""Observations of tags → changes.

The rules, in the order they apply:

1. The observation agrees with the record: confirmed; only how well the record is verified changes. If the tag's
   manifest was served and is not on record in the repository, that is corrected (``apply_manifest_observation``).
2. An event named the tag within the race window before the observation: inconclusive, and the caller observes again.
   The registry announces a push before it writes the tag. The window is over by our clock, or when observations have
   found the same again and again (``waited``), whatever the clock says. It is longer for a tag that is listed and
   cannot be served while GitLab's deletion of it may be under way (``window_of``).
3. The record was verified by a later observation: inconclusive.
4. The tag points elsewhere: moved. If an event announced the digest it points to just before, two pushes raced and the
   order of the events was not the registry's; the publish time is then known after all.
5. Nothing on record, and the tag exists: created, not known since when.
6. The registry lists the tag and cannot serve it: broken, not deleted.
7. The tag is absent: deleted, some time after the evidence on record.

``tag_differences`` has the changes of rules 4 to 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from indexer.inventory.apply_manifest_observation import apply_manifest_observation
from indexer.inventory.changes import (
    AuditSource,
    Change,
    Finding,
    TagChanged,
    WorkKind,
    WorkRequested,
    dated,
)
from indexer.inventory.history import Timeline
from indexer.inventory.observations import ObservationResult, ObservationVerdict, TagObservation, TagState
from indexer.inventory.precedence import is_past_race_window, window_of
from indexer.inventory.records import Evidence, ManifestRecord, TagRecord
from indexer.inventory.tag_differences import absent, broken, latest, points
from indexer.oci.digest import Digest


def as_deletion(observation: TagObservation, dummies: AbstractSet[Digest]) -> TagObservation:
    """Return the observation as it counts: a tag that points to one of GitLab's dummies is absent (``dummies``)."""
    if observation.digest is None or observation.digest not in dummies:
        return observation
    return replace(observation, outcome=TagState.ABSENT, digest=None, media_type="", size_bytes=0)


def agrees(record: TagRecord | None, observation: TagObservation) -> bool:
    """Tell whether the observation found what is on record."""
    recorded = record.digest if record is not None else None
    match observation.outcome:
        case TagState.ABSENT:
            return record is None or not record.live
        case TagState.BROKEN:
            return record is not None and record.broken
        case TagState.CONFIRMED:
            return recorded == observation.digest
        case TagState.POINTS:
            return recorded == observation.digest and record is not None and not record.broken
    assert_never(observation.outcome)


def apply_tag_observation(
    record: TagRecord | None,
    timeline: Timeline,
    observation: TagObservation,
    *,
    manifest: ManifestRecord | None,
    source: AuditSource,
    first_reconcile: bool = False,
    absent_at: datetime | None = None,
    waited: bool = False,
    verified_before: datetime | None = None,
) -> ObservationResult:
    """Decide what one observation changes of the record, whose revision must be the one before the observation.

    - ``manifest``: the repository's record of the manifest that was found.
    - ``first_reconcile``: the repository was never reconciled before: what is not on record may be older than we are.
    - ``absent_at``: when the repository was last compared completely. What is not on record did not exist then. (Except
      for listings of 3.1 on S3, which omit tags: distribution issue 4891.)
    - ``waited``: observations since the newest event have found the same for longer than the window of rule 2.
    - ``verified_before``: ``verified_at`` of the record as it was read before the observation.
    """
    if agrees(record, observation):
        return _confirm(record, timeline, observation, manifest, source)
    window = window_of(record, broken=observation.outcome is TagState.BROKEN)
    is_conclusive = waited or is_past_race_window(record, observation.observed_at, window=window)
    if not is_conclusive or _is_outdated(observation, record, verified_before):
        return ObservationResult(verdict=ObservationVerdict.INCONCLUSIVE)
    changes: tuple[Change, ...]
    match observation.outcome:
        case TagState.POINTS | TagState.CONFIRMED:
            changes = (
                *points(
                    record,
                    timeline,
                    observation,
                    source,
                    first_reconcile=first_reconcile,
                    absent_at=absent_at,
                ),
                # That the tag differed is the finding. The manifest is not a second one.
                *(c for c in _manifest_of(observation, manifest, source) if not isinstance(c, Finding)),
            )
        case TagState.BROKEN:
            changes = broken(record, timeline, observation, source)
        case TagState.ABSENT:
            changes = absent(record, timeline, observation, source)
    return ObservationResult(
        verdict=ObservationVerdict.CHANGED, changes=tuple(dated(change) for change in changes)
    )


def _is_outdated(
    observation: TagObservation, record: TagRecord | None, verified_before: datetime | None
) -> bool:
    """Tell whether a later observation has agreed with the record meanwhile.

    The deletions of a reconcile are stored at its end, when their observations may be old. A record that was not
    verified since it was read for the observation is older than the observation, whatever the clock says.
    """
    if record is None or record.verified_at is None or record.verified_at == verified_before:
        return False
    return observation.observed_at < record.verified_at


def _confirm(
    record: TagRecord | None,
    timeline: Timeline,
    observation: TagObservation,
    manifest: ManifestRecord | None,
    source: AuditSource,
) -> ObservationResult:
    if record is None:
        return ObservationResult(verdict=ObservationVerdict.CONFIRMED)
    is_read = observation.outcome is TagState.POINTS
    is_broken = observation.outcome is TagState.BROKEN
    after = replace(
        record,
        last_observed_at=latest(record.last_observed_at, observation.as_of),
        evidence=Evidence.OBSERVATION,
        verified_at=latest(record.verified_at, observation.observed_at),
        read_at=latest(record.read_at, observation.observed_at) if is_read else record.read_at,
        broken_reason=observation.broken_reason if is_broken else record.broken_reason,
    )
    of_manifest = tuple(_manifest_of(observation, manifest, source))
    found = any(isinstance(change, Finding) for change in of_manifest)
    return ObservationResult(
        verdict=ObservationVerdict.CHANGED if found else ObservationVerdict.CONFIRMED,
        changes=(TagChanged(before=record, after=after, history=timeline), *of_manifest),
    )


def _manifest_of(
    observation: TagObservation, manifest: ManifestRecord | None, source: AuditSource
) -> Iterator[Change]:
    """What the observation of a tag shows of its manifest: served, the repository has it and it can be read.

    A 304 reads the tag alone, and close evidence may be the younger. Then the manifest itself is asked for.
    """
    if observation.digest is None:
        return
    present = manifest is not None and manifest.present
    if observation.outcome is TagState.POINTS or present:
        result = apply_manifest_observation(
            manifest, observation.of_manifest(observation.digest), source=source, tag=observation.tag
        )
        if result.verdict is not ObservationVerdict.INCONCLUSIVE:
            yield from result.changes
            return
    yield WorkRequested(
        kind=WorkKind.RESOLVE,
        repository=observation.repository,
        key=observation.digest,
        even_if_read=True,
        unless_waiting=True,
    )
