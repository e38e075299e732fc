"""Pushes the newest checkpoint if ``decide`` says so; one process at a time does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.oci import media_types
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import checkpoints
from indexer.store.checkpoints import Pushed, Signed
from indexer.store.pool import Connection
from reconciler.checkpoints.artifact import LATEST, Artifact, artifact_of, size_of
from reconciler.checkpoints.decide import PushOutcome, Situation, decide
from reconciler.registry.answers import NotFound
from reconciler.registry.protocol import WritableRegistry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What happened to the newest checkpoint, of ``newest_size`` entries, and what the registry has now.

    In the registry ``tag`` points to the manifest ``digest`` of a checkpoint of ``size`` entries.
    """

    outcome: PushOutcome
    newest_size: int
    tag: TagName
    size: int
    digest: Digest


async def push_newest(
    held: Connection, registry: WritableRegistry, *, repository: RepositoryName, newest: Signed, now: datetime
) -> PushResult:
    """Push the newest checkpoint under the number of its entries and under ``latest``, if ``decide`` says so.

    The caller holds ``LockKey.PUSHING`` and is in no transaction, since requests are sent meanwhile. Raises the
    registry errors; ``RegistryMisbehaved`` where ``latest`` is not ours.
    """
    artifact = _artifact(newest)
    pushed = await checkpoints.last_push(held, repository=repository)
    present = await _find_latest(registry, repository, pushed)
    size = (
        None if present is None else await _size(held, registry, repository, present, pushed=pushed, now=now)
    )
    others = (
        size is not None
        and size < newest.size
        and await checkpoints.has_other_entries(held, after=size, until=newest.size, repository=repository)
    )
    outcome = decide(Situation(newest=artifact.digest, present=present, size=size, others=others))
    if outcome is PushOutcome.FOREIGN:
        raise RegistryMisbehaved(
            f"{repository}:{LATEST} is {present}, which is no checkpoint that this log signed, so nothing is pushed "
            "over it: the repository is used for something else, or the database was restored to an earlier state. "
            "Find out which, then delete the tag or set RECONCILER_CHECKPOINT_REPOSITORY to another repository"
        )
    await checkpoints.forget_conflict(held, place=_place(repository))
    if outcome is PushOutcome.PUSHED:
        await _push(registry, repository, artifact)
        log.info("checkpoint_pushed", repository=repository, size=artifact.size, digest=artifact.digest)
        size, present = artifact.size, artifact.digest
    if pushed is not None and pushed.digest == present and outcome is not PushOutcome.PUSHED:
        await checkpoints.record_push_observed(held, repository=repository, at=now)
    elif size is not None and present is not None:
        await checkpoints.record_push(held, repository=repository, size=size, digest=present, at=now)
    # The tag with the number of entries is certain only of what was pushed now: an older one may have been deleted.
    tag = artifact.tag if outcome is PushOutcome.PUSHED else LATEST
    assert size is not None and present is not None  # noqa: S101, PT018 - else it was pushed, or somebody else's
    return PushResult(outcome=outcome, newest_size=artifact.size, tag=tag, size=size, digest=present)


async def _find_latest(
    registry: WritableRegistry, repository: RepositoryName, pushed: Pushed | None
) -> Digest | None:
    """Return the digest under ``latest``; None: there is none. A 304 for what was pushed makes no event."""
    answer = await registry.head_tag(repository, LATEST, if_digest=None if pushed is None else pushed.digest)
    return None if isinstance(answer, NotFound) else answer.digest


async def _size(
    held: Connection,
    registry: WritableRegistry,
    repository: RepositoryName,
    present: Digest,
    *,
    pushed: Pushed | None,
    now: datetime,
) -> int | None:
    """Return the entries of the checkpoint under ``latest``; None where this log signed none with this digest.

    Where it is a checkpoint of another log, that is stored as a conflict.
    """
    if pushed is not None and pushed.digest == present:
        return pushed.size
    content = await registry.get_manifest(repository, present)
    size = None if isinstance(content, NotFound) else size_of(content.content)
    signed = None if size is None else await checkpoints.checkpoint_of(held, size=size)
    if signed is not None and _artifact(signed).digest == present:
        return size
    if size is not None:
        what = f"{repository}:{LATEST} of the registry holds a checkpoint of {size} entries that this log did not sign"
        await checkpoints.put_conflict(held, place=_place(repository), what=what, at=now)
    return None


async def _push(registry: WritableRegistry, repository: RepositoryName, artifact: Artifact) -> None:
    try:
        for blob in artifact.blobs:
            await registry.put_blob(repository, blob)
        for tag in (artifact.tag, LATEST):
            await registry.put_manifest(
                repository, tag, artifact.manifest, media_type=media_types.OCI_MANIFEST
            )
    except RegistryDenied as error:
        raise RegistryDenied(
            f"the registry refuses the checkpoint in {repository}: give RECONCILER_REGISTRY_USERNAME the permission "
            f"to push there ({error})"
        ) from error


def _place(repository: RepositoryName) -> str:
    return f"{repository}:{LATEST}"


def _artifact(signed: Signed) -> Artifact:
    return artifact_of(size=signed.size, signed_at=signed.signed_at, note=signed.note)
