"""Pushes the newest checkpoint, if it is to be; one process at a time does."""

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
    """What became of the newest checkpoint, of so many entries, and what stands in the registry now.

    There ``tag`` names the checkpoint of ``size`` entries, with the manifest ``digest``.
    """

    outcome: PushOutcome
    newest_size: int
    tag: TagName
    size: int
    digest: Digest


async def push_newest(
    held: Connection, registry: WritableRegistry, *, repository: RepositoryName, newest: Signed, now: datetime
) -> PushResult:
    """Push the newest checkpoint under the number of its entries and ``latest``, if it is to be.

    The caller is alone with it (``LockKey.PUSHING``), and in no transaction: the registry is asked meanwhile. Raises
    the registry errors; ``RegistryMisbehaved`` where ``latest`` is not ours.
    """
    artifact = _made_of(newest)
    pushed = await checkpoints.last_push(held, repository=repository)
    standing = await _look(registry, repository, pushed)
    size = (
        None
        if standing is None
        else await _size(held, registry, repository, standing, pushed=pushed, now=now)
    )
    others = (
        size is not None
        and size < newest.size
        and await checkpoints.has_other_entries(held, after=size, until=newest.size, repository=repository)
    )
    outcome = decide(Situation(newest=artifact.digest, standing=standing, size=size, others=others))
    if outcome is PushOutcome.FOREIGN:
        raise RegistryMisbehaved(
            f"{repository}:{LATEST} holds {standing}, which is no checkpoint that this log signed, and nothing is "
            "pushed over it: the repository is used for something else, or the database was put back to an earlier "
            "state. Look at it, then delete the tag or name another repository"
        )
    await checkpoints.forget_conflict(held, place=_place(repository))
    if outcome is PushOutcome.PUSHED:
        await _push(registry, repository, artifact)
        log.info("checkpoint_pushed", repository=repository, size=artifact.size, digest=artifact.digest)
        size, standing = artifact.size, artifact.digest
    if pushed is not None and pushed.digest == standing and outcome is not PushOutcome.PUSHED:
        await checkpoints.record_push_observed(held, repository=repository, at=now)
    elif size is not None and standing is not None:
        await checkpoints.record_push(held, repository=repository, size=size, digest=standing, at=now)
    # Only what was pushed just now is known to stand under its own number, too: that may have been deleted since.
    tag = artifact.tag if outcome is PushOutcome.PUSHED else LATEST
    assert size is not None and standing is not None  # noqa: S101, PT018 - else it was pushed, or somebody else's
    return PushResult(outcome=outcome, newest_size=artifact.size, tag=tag, size=size, digest=standing)


async def _look(
    registry: WritableRegistry, repository: RepositoryName, pushed: Pushed | None
) -> Digest | None:
    """Return the digest under ``latest``; None: nothing. What was pushed is confirmed without an event of ours."""
    look = await registry.head_tag(repository, LATEST, if_digest=None if pushed is None else pushed.digest)
    return None if isinstance(look, NotFound) else look.digest


async def _size(
    held: Connection,
    registry: WritableRegistry,
    repository: RepositoryName,
    standing: Digest,
    *,
    pushed: Pushed | None,
    now: datetime,
) -> int | None:
    """Return the size of the checkpoint that stands there; None where this log signed none that makes this digest.

    Where it is a checkpoint all the same, that this log did not grow out of it goes on record.
    """
    if pushed is not None and pushed.digest == standing:
        return pushed.size
    content = await registry.get_manifest(repository, standing)
    size = None if isinstance(content, NotFound) else size_of(content.content)
    signed = None if size is None else await checkpoints.checkpoint_of(held, size=size)
    if signed is not None and _made_of(signed).digest == standing:
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
            f"the registry takes no checkpoint in {repository}: RECONCILER_REGISTRY_USERNAME needs push there ({error})"
        ) from error


def _place(repository: RepositoryName) -> str:
    return f"{repository}:{LATEST}"


def _made_of(signed: Signed) -> Artifact:
    return artifact_of(size=signed.size, signed_at=signed.signed_at, note=signed.note)
