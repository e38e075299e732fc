"""Signs what the log is, every so many entries or minutes, and publishes it.

A checkpoint is made of the stored tree, and only where that tree still leads to the root of the checkpoint before:
whoever rewrites the tree finds that nobody signs it.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from indexer.audit.keys import find_key, make_key
from indexer.audit.note import Checkpoint, NoteRefused, SignerKey, VerifierKey, verify_note
from indexer.audit.prove import root_at
from indexer.audit.publish import LogPutBack, check_standing, read_published, replace_file
from indexer.audit.tiles import TreeDamaged
from indexer.background.loop import IterationResult
from indexer.common.errors import StoreError
from indexer.settings import Settings
from indexer.store.checkpoints import (
    Signed,
    add_checkpoint,
    forget_conflict,
    lock_signing,
    newest_checkpoint,
    put_conflict,
)
from indexer.store.listing.audit import head_position
from indexer.store.pool import Connection, Pool, connection, transaction

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

    def __init__(self, pool: Pool, key: SignerKey | None, settings: CheckpointSettings) -> None:
        """``key``: None where this server has none, since the log is signed by that of another."""
        self._pool = pool
        self._key = key
        self._settings = settings
        self._published: str | None = None
        self._standing = 0

    async def run_once(self) -> IterationResult:
        """Sign a checkpoint if one is due, and publish the newest.

        Raises ``LogPutBack`` where what was published before is not in the log any more: nothing is signed then, and
        what was published stays. Raises ``AnotherKeySigns`` where the log is signed by a key that is not ours.
        """
        try:
            made, newest = await self._sign()
        except LogPutBack as error:
            async with transaction(self._pool) as held:
                await put_conflict(held, place=self._place, what=str(error), at=datetime.now(UTC))
            raise
        await self._publish(made or newest)
        check_key(newest, self._key)
        return IterationResult(items=0 if made is None else 1, rest_seconds=REST_SECONDS)

    async def _sign(self) -> tuple[Signed | None, Signed | None]:
        """Return the checkpoint that was signed, None: none was due; and the one that was the newest before."""
        now = datetime.now(UTC)
        async with transaction(self._pool) as held:
            newest = await newest_checkpoint(held)
            due = await self._due(held, newest, now)
            if due or newest is None or newest.note != self._published:
                await self._check_file(held)
            if not due or self._key is None or not signs(newest, self._key) or not await lock_signing(held):
                return None, newest
            # What another signed while we waited for nothing is seen now.
            newest = await newest_checkpoint(held)
            if not await self._due(held, newest, now):
                return None, newest
            return await sign(held, self._key, newest=newest, now=now), newest

    async def _check_file(self, held: Connection) -> None:
        file = self._settings.file
        if file is None:
            return
        text = await asyncio.to_thread(read_published, file)
        self._standing = await check_standing(held, file, text)
        await forget_conflict(held, place=self._place)

    @property
    def _place(self) -> str:
        return f"{socket.gethostname()}:{self._settings.file}"

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
        if newest.size < self._standing:
            return  # another server that publishes there was faster; the next round sees what it signed
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
    if not replaces:
        check_key(newest, key)
    if newest is not None:
        await check_newest(held, newest)
    size = await head_position(held)
    checkpoint = Checkpoint(origin=key.name, size=size, root=await root_at(held, size=size))
    signed = Signed(size=size, signed_at=now, verifier=ours, note=key.sign(checkpoint.text()))
    await add_checkpoint(held, signed=signed)
    log.info("checkpoint_signed", size=size)
    return signed


def signs(newest: Signed | None, key: SignerKey | None) -> bool:
    """Tell whether a key is the one that signs the log, or nobody signs it yet."""
    return key is not None and (newest is None or newest.verifier == str(key.verifier))


def check_key(newest: Signed | None, key: SignerKey | None) -> None:
    """Raise ``AnotherKeySigns`` where the log is signed by a key that is not ours; None: we have none."""
    if newest is None or signs(newest, key):
        return
    ours = "this server has none" if key is None else f"the key here is {key.verifier}"
    raise AnotherKeySigns(
        f"the log is signed by {newest.verifier}, and {ours}: copy the file audit.key of the server that signs, and "
        "name the copy in INDEXER_AUDIT_KEY_FILE on every server. If that key is lost: `indexer audit key --replace`"
    )


async def key_to_sign(pool: Pool, settings: Settings) -> tuple[SignerKey | None, Signed | None]:
    """Return the key that is in place, made where nobody signs the log yet, and the newest checkpoint.

    The key is None where there is none, and another signs. Raises ``ConfigurationError``.
    """
    key = find_key(settings)
    async with connection(pool) as held:
        newest = await newest_checkpoint(held)
    if key is None and newest is None:
        key = make_key(settings)
    return key, newest


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
