"""Observations of manifests → changes: whether a repository holds one.

The rules, in the order they apply:

1. The observation agrees with the record: confirmed.
2. Nothing on record, and the registry serves it: held. Nothing on record, and it does not: nothing.
3. It contradicts evidence that is younger, or not older than the clock margin: doubted. Instants of the registry's
   clock and of ours are never compared without the margin; whoever asked asks again.
4. Served, though it is on record as deleted: held again. Not served, though it is on record: deleted.

An observation is stored under the lock of its repository, against the record as it is then (``store.apply``). A
deletion is not final: whatever proves that the repository serves the manifest brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

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
from indexer.inventory.precedence import CLOCK_MARGIN, ObservationVerdict
from indexer.inventory.records import ManifestRecord
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestObservation:
    """Whether a repository served a manifest.

    ``observed_at`` is our clock before the request was sent, ``as_of`` the earlier of that and the registry's ``Date``.
    Media type and size in bytes are what the answer said, '' and 0 if nothing.
    """

    repository: RepositoryName
    digest: Digest
    served: bool
    observed_at: datetime
    as_of: datetime
    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestVerdict:
    """The judgement and the changes it makes; a doubted observation makes none."""

    judgement: ObservationVerdict
    changes: tuple[Change, ...] = ()


def observe_manifest(
    record: ManifestRecord | None,
    observation: ManifestObservation,
    *,
    source: AuditSource,
    tag: TagName | None = None,
    waited: bool = False,
) -> ManifestVerdict:
    """Judge one observation against the record.

    ``tag`` is the live tag it was made through, if it was. ``waited``: it was made again and again since the record was
    contradicted, for longer than the clock margin, whatever the clock says.
    """
    on_record = record is not None and record.present
    if observation.served == on_record:
        return ManifestVerdict(judgement=ObservationVerdict.CONFIRMED, changes=_to_be_read(observation))
    if record is None:
        changes: Sequence[Change] = [_held(None, observation), *_to_be_read(observation)]
        if tag is not None:
            changes = [*changes, _finding(None, observation, DriftKind.MANIFEST_MISSING, tag)]
        return ManifestVerdict(judgement=ObservationVerdict.CHANGED, changes=tuple(changes))
    if not waited and observation.observed_at <= record.as_of + CLOCK_MARGIN:
        return ManifestVerdict(judgement=ObservationVerdict.INCONCLUSIVE)
    changes = (
        _found(record, observation, source, tag) if observation.served else _gone(record, observation, source)
    )
    return ManifestVerdict(judgement=ObservationVerdict.CHANGED, changes=tuple(changes))


def _to_be_read(observation: ManifestObservation) -> tuple[Change, ...]:
    """What is served can be read; the store leaves out what was, and what waits to be read keeps its time."""
    if not observation.served:
        return ()
    key = observation.digest
    return (
        WorkRequested(kind=WorkKind.RESOLVE, repository=observation.repository, key=key, unless_waiting=True),
    )


def _held(record: ManifestRecord | None, observation: ManifestObservation) -> ManifestChanged:
    after = ManifestRecord(
        repository=observation.repository,
        digest=observation.digest,
        pushed_at=observation.observed_at,
        as_of=observation.as_of if record is None else max(record.as_of, observation.as_of),
    )
    return ManifestChanged(
        before=record, after=after, media_type=observation.media_type, size_bytes=observation.size_bytes
    )


def _found(
    record: ManifestRecord, observation: ManifestObservation, source: AuditSource, tag: TagName | None
) -> list[Change]:
    entry = _entry(record, observation, AuditAction.MANIFEST_FOUND, source)
    finding = _finding(record, observation, DriftKind.MANIFEST_MISSING, tag)
    return [_held(record, observation), *_to_be_read(observation), entry, finding]


def _gone(record: ManifestRecord, observation: ManifestObservation, source: AuditSource) -> list[Change]:
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
