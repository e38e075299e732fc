"""Observations of manifests → changes: whether a repository has one.

The rules, in the order they apply:

1. The observation agrees with the record: confirmed.
2. Nothing on record, and the registry serves it: the repository has it. That is a finding if it was observed through a
   live tag, whose event should have announced it.
3. It contradicts evidence that is younger, or not older than the clock margin: inconclusive, and the caller asks again.
   Instants of the registry's clock and of ours are never compared without the margin.
4. Served, though on record as deleted: the repository has it. Not served, though on record: deleted.

An observation is stored under the lock of its repository, against the record as it is then (``store.apply``). A
deletion is not final: any evidence that the repository serves the manifest brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from indexer.inventory.changes import (
    AuditAction,
    AuditSource,
    Change,
    DriftCause,
    DriftKind,
    Entry,
    Finding,
    ManifestChanged,
    VerifyTagsOfDigest,
    WorkKind,
    WorkRequested,
)
from indexer.inventory.observations import ManifestObservation, ObservationResult, ObservationVerdict
from indexer.inventory.precedence import CLOCK_MARGIN
from indexer.inventory.records import ManifestRecord
from indexer.oci.reference import TagName


def apply_manifest_observation(
    record: ManifestRecord | None,
    observation: ManifestObservation,
    *,
    source: AuditSource,
    tag: TagName | None = None,
    waited: bool = False,
) -> ObservationResult:
    """Decide what one observation changes of the record.

    ``tag``: the live tag through which it was made, if it was. ``waited``: it was repeated since it first contradicted
    the record, for longer than the clock margin, whatever the clock says.
    """
    on_record = record is not None and record.present
    if observation.served == on_record:
        return ObservationResult(verdict=ObservationVerdict.CONFIRMED, changes=_resolve(observation))
    if record is None:
        changes: Sequence[Change] = [_present(None, observation), *_resolve(observation)]
        if tag is not None:
            changes = [*changes, _finding(None, observation, DriftKind.MANIFEST_MISSING, tag)]
        return ObservationResult(verdict=ObservationVerdict.CHANGED, changes=tuple(changes))
    if not waited and observation.observed_at <= record.as_of + CLOCK_MARGIN:
        return ObservationResult(verdict=ObservationVerdict.INCONCLUSIVE)
    changes = (
        _found(record, observation, source, tag)
        if observation.served
        else _deleted(record, observation, source)
    )
    return ObservationResult(verdict=ObservationVerdict.CHANGED, changes=tuple(changes))


def _resolve(observation: ManifestObservation) -> tuple[Change, ...]:
    """Request that a served manifest is read. The store leaves out what was read, and what waits keeps its time."""
    if not observation.served:
        return ()
    key = observation.digest
    return (
        WorkRequested(kind=WorkKind.RESOLVE, repository=observation.repository, key=key, unless_waiting=True),
    )


def _present(record: ManifestRecord | None, observation: ManifestObservation) -> ManifestChanged:
    after = ManifestRecord(
        repository=observation.repository,
        digest=observation.digest,
        pushed_at=observation.observed_at,
        as_of=observation.as_of if record is None else max(record.as_of, observation.as_of),
        absent_at=None if record is None else record.deleted_at,
    )
    return ManifestChanged(
        before=record, after=after, media_type=observation.media_type, size_bytes=observation.size_bytes
    )


def _found(
    record: ManifestRecord, observation: ManifestObservation, source: AuditSource, tag: TagName | None
) -> list[Change]:
    entry = _entry(record, observation, AuditAction.MANIFEST_FOUND, source)
    finding = _finding(record, observation, DriftKind.MANIFEST_MISSING, tag)
    return [_present(record, observation), *_resolve(observation), entry, finding]


def _deleted(record: ManifestRecord, observation: ManifestObservation, source: AuditSource) -> list[Change]:
    as_of = max(record.as_of, observation.as_of)
    return [
        ManifestChanged(
            before=record, after=replace(record, as_of=as_of, deleted_at=observation.observed_at)
        ),
        VerifyTagsOfDigest(repository=record.repository, digest=record.digest),
        _entry(record, observation, AuditAction.MANIFEST_DELETED, source),
        _finding(record, observation, DriftKind.MANIFEST_EXTRA, None),
    ]


def _entry(
    record: ManifestRecord, observation: ManifestObservation, action: AuditAction, source: AuditSource
) -> Entry:
    return Entry(
        action=action,
        source=source,
        repository=record.repository,
        occurred_at=observation.observed_at,
        recorded_at=observation.observed_at,
        not_before=record.as_of,
        digest=record.digest,
    )


def _finding(
    record: ManifestRecord | None, observation: ManifestObservation, kind: DriftKind, tag: TagName | None
) -> Finding:
    return Finding(
        kind=kind,
        cause=DriftCause.UNANNOUNCED if observation.served else DriftCause.CONTENT_REMOVED,
        repository=observation.repository,
        tag=tag,
        detected_at=observation.observed_at,
        repaired=True,
        not_before=None if record is None else record.as_of,
        expected=None if observation.served else observation.digest,
        found=observation.digest if observation.served else None,
    )
