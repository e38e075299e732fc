"""Signs what the log is, every so many entries or minutes, and publishes it.

A checkpoint is made of the stored tree, and only where that tree still leads to the root of the checkpoint before:
whoever rewrites the tree finds that nobody signs it.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from indexer.audit.note import Checkpoint, NoteRefused, SignerKey, VerifierKey, verify_note
from indexer.audit.prove import root_at
from indexer.audit.tiles import TreeDamaged
from indexer.errors import ConfigurationError, StoreError
from indexer.loop import Round
from indexer.store.checkpoints import Signed, add_checkpoint, lock_signing, newest_checkpoint
from indexer.store.listing.audit import head_position
from indexer.store.pool import Connection, Pool, transaction

log = structlog.get_logger()

REST_SECONDS = 1.0


class AnotherKeySigns(StoreError):  # noqa: N818 - a state, read as "another key signs"
    """The log is signed by a key that is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """When a checkpoint is due while entries wait for one, and the file it is published to."""

    interval: timedelta
    entries: int
    file: Path | None


class Checkpointer:
    """The loop that signs. One process at a time does; each publishes to its own file."""

    name = "checkpoint"

    def __init__(self, pool: Pool, key: SignerKey, settings: CheckpointSettings) -> None:
        self._pool = pool
        self._key = key
        self._settings = settings
        self._published: str | None = None

    async def run_once(self) -> Round:
        """Sign a checkpoint if one is due, and publish the newest."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            newest = await newest_checkpoint(held)
            made = None
            if await self._due(held, newest, now) and await lock_signing(held):
                # What another signed while we waited for nothing is seen now.
                newest = await newest_checkpoint(held)
                if await self._due(held, newest, now):
                    made = await sign(held, self._key, newest=newest, now=now)
        await self._publish(made or newest)
        return Round(items=0 if made is None else 1, rest_seconds=REST_SECONDS)

    async def _due(self, held: Connection, newest: Signed | None, now: datetime) -> bool:
        signed = 0 if newest is None else newest.size
        waiting = await head_position(held) - signed
        if waiting <= 0:
            return False
        # Signed in the future: by another clock, or somebody wants no checkpoint until then.
        late = newest is None or not timedelta(0) <= now - newest.signed_at < self._settings.interval
        return late or waiting >= self._settings.entries

    async def _publish(self, newest: Signed | None) -> None:
        file = self._settings.file
        if file is None or newest is None or newest.note == self._published:
            return
        await asyncio.to_thread(replace_file, file, newest.note)
        self._published = newest.note


async def sign(
    held: Connection, key: SignerKey, *, newest: Signed | None, now: datetime, replaces: bool = False
) -> Signed:
    """Sign what the log is, in the caller's transaction, which holds the lock on signing.

    Raises ``AnotherKeySigns`` unless the key is that of the newest checkpoint, or ``replaces`` it, and
    ``TreeDamaged`` where the tree does not lead to the newest checkpoint's root any more.
    """
    ours = str(key.verifier)
    if newest is not None:
        if newest.verifier != ours and not replaces:
            raise AnotherKeySigns(
                f"the log is signed by {newest.verifier}, and the key here is {ours}: give every server the same "
                "INDEXER_AUDIT_KEY_FILE, or begin to sign with this one by `indexer audit key --replace`"
            )
        await check_newest(held, newest)
    size = await head_position(held)
    checkpoint = Checkpoint(origin=key.name, size=size, root=await root_at(held, size=size))
    signed = Signed(size=size, signed_at=now, verifier=ours, note=key.sign(checkpoint.text()))
    await add_checkpoint(held, signed=signed)
    log.info("checkpoint_signed", size=size)
    return signed


async def check_newest(held: Connection, newest: Signed) -> None:
    """Check that the stored tree is the one that was signed; raises ``TreeDamaged``."""
    try:
        verify_note(newest.note, VerifierKey.parse(newest.verifier))
        signed = Checkpoint.parse(newest.note)
    except NoteRefused as error:
        raise TreeDamaged(f"the newest checkpoint was altered: {error}") from None
    if signed.size != newest.size or await root_at(held, size=signed.size) != signed.root:
        raise TreeDamaged(
            f"the tree does not lead to the root that was signed for {signed.size} entries: it was altered since"
        )


def replace_file(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees the old text or the new one, whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"INDEXER_AUDIT_CHECKPOINT_FILE: {path} cannot be written: {error.strerror}"
        ) from None
