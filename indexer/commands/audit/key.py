"""``indexer audit key``: the key that signs the log."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from indexer.commands.audit.shared import open_log
from indexer.commands.common import AsJson, Config, operator, read_settings, run_async
from indexer.common.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from indexer.audit.note import SignerKey
    from indexer.settings import Settings


def audit_key(
    *,
    config: Config = None,
    replace: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(), help="Sign with this key from now on, although another one signed before."
        ),
    ] = False,
    make: Annotated[
        Path | None,
        cyclopts.Parameter(help="Only write a new key to this file, for INDEXER_AUDIT_KEY_FILE."),
    ] = None,
    json: AsJson = False,
) -> int:
    """Print the public key that verifies the log's checkpoints. If the log is not signed yet, make the key."""
    from indexer.audit.keys import exposed, find_key, make_key, write_new_key  # noqa: PLC0415

    if replace and make is not None:
        raise ConfigurationError("--make only makes a file: put it in place, then say --replace")
    settings = read_settings(config, logs=replace)
    if make is not None:
        key = write_new_key(make, name=settings.indexer_audit_origin)
    elif replace:
        key = make_key(settings)
        run_async(_sign_with(key, settings))
    else:
        key = _key_of_log(find_key(settings), settings)
    if make is None and (trouble := exposed(settings)) is not None:
        sys.stderr.write(f"{trouble}\n")
    verifier = str(key.verifier)
    sys.stdout.write((json_dumps({"key": verifier}) if json else verifier) + "\n")
    return 0


def _key_of_log(key: SignerKey | None, settings: Settings) -> SignerKey:
    """Return the key that signs the log, the one here if it is; raise ``ConfigurationError`` where another does."""
    from indexer.audit.keys import make_key, path_of  # noqa: PLC0415

    try:
        signed_by = run_async(_signed_by(settings))
    except (ConfigurationError, StoreError) as error:
        if key is None:
            raise ConfigurationError(
                f"there is no key {path_of(settings)}, and none is made, since the log may have one: {error}"
            ) from None
        sys.stderr.write(f"not compared with what signs the log: {error}\n")
        return key
    if key is not None and signed_by in (None, str(key.verifier)):
        return key
    if signed_by is None:
        return make_key(settings)
    ours = f"there is no key {path_of(settings)}" if key is None else f"the key here is {key.verifier}"
    raise ConfigurationError(
        f"the log is signed by {signed_by}, and {ours}: run this where that key is, with the INDEXER_DATA_DIR or the "
        "INDEXER_AUDIT_KEY_FILE of the server that signs"
    )


async def _signed_by(settings: Settings) -> str | None:
    """Return the public key that signed the newest checkpoint; None: there is none."""
    from indexer.store.checkpoints import newest_checkpoint  # noqa: PLC0415
    from indexer.store.pool import connection  # noqa: PLC0415

    async with open_log(settings) as pool, connection(pool) as held:
        newest = await newest_checkpoint(held)
    return None if newest is None else newest.verifier


async def _sign_with(key: SignerKey, settings: Settings) -> None:
    """Sign the newest checkpoint with a key, whatever signed before."""
    from indexer.audit.checkpoint import sign  # noqa: PLC0415
    from indexer.inventory.changes import AuditAction  # noqa: PLC0415
    from indexer.store.checkpoints import lock_signing, newest_checkpoint  # noqa: PLC0415
    from indexer.store.operators import record_action  # noqa: PLC0415
    from indexer.store.pool import transaction  # noqa: PLC0415

    verifier = str(key.verifier)
    async with open_log(settings) as pool, transaction(pool) as held:
        if not await lock_signing(held):
            raise ConfigurationError("a checkpoint is being signed just now: try again")
        newest = await newest_checkpoint(held)
        if newest is None or newest.verifier != verifier:
            now = datetime.now(UTC)
            await sign(held, key, newest=newest, now=now, replaces=True)
            await record_action(
                held,
                action=AuditAction.OPERATOR_AUDIT_KEY_REPLACED,
                operator=operator("indexer audit key --replace"),
                at=now,
                detail={"key": verifier, "replaced": None if newest is None else newest.verifier},
            )
