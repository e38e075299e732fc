"""The verbs of ``indexer audit``: here those that prove and erase, the others in modules of their own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime
from functools import partial
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import cyclopts

from indexer.cli import AsJson, Config
from indexer.cli_verify import audit_verify
from indexer.command import database_url, operator, read_settings, run_async
from indexer.common.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from indexer.audit.note import SignerKey
    from indexer.settings import Settings
    from indexer.store.pool import Pool

Output = Annotated[Path | None, cyclopts.Parameter(help="File to write; none is standard output.")]


app = cyclopts.App(name="audit", help="The audit log.")
app.command(audit_verify, name="verify")
app.command(
    "indexer.cli_follow:audit_follow",
    name="follow",
    help="Print entries as they are sealed, in the order of their positions, until Ctrl-C.",
)
app.command(
    "indexer.cli_export:audit_export",
    name="export",
    help="Export the sealed log in the order of its positions; says on stderr where to resume.",
)
app.command(
    "indexer.cli_keep:archive",
    name="archive",
    help="Write what is old to files and take it out of the log. Exit 1: something holds a part that is old enough.",
)
app.command(
    "indexer.cli_import:import_history",
    name="import",
    help="Import an older history: notifications as a registry sent them, or an exported log. Exit 1: some left out.",
)


@app.command(name="key")
def audit_key(
    *,
    config: Config = None,
    replace: Annotated[
        bool, cyclopts.Parameter(negative=(), help="Sign with this key from now on, whatever signed before.")
    ] = False,
    make: Annotated[
        Path | None,
        cyclopts.Parameter(help="Make a new key in this file, for INDEXER_AUDIT_KEY_FILE; no more."),
    ] = None,
    json: AsJson = False,
) -> int:
    """Print the public key that verifies the log's checkpoints; make the key where nobody signs the log yet."""
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

    async with _pool(settings) as pool, connection(pool) as held:
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
    async with _pool(settings) as pool, transaction(pool) as held:
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


@app.command(name="checkpoint")
def audit_checkpoint(*, config: Config = None, output: Output = None) -> int:
    """Print the newest checkpoint: how many entries the log has and its root, signed."""
    from indexer.store.checkpoints import newest_checkpoint  # noqa: PLC0415
    from indexer.store.pool import connection  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> str:
        async with _pool(settings) as pool, connection(pool) as held:
            newest = await newest_checkpoint(held)
        if newest is None:
            raise ConfigurationError("no checkpoint was signed yet: `indexer serve` signs them")
        return newest.note

    note = run_async(work())
    with _writing(output) as out:
        out.write(note.encode())
    return 0


@app.command(name="proof")
def audit_proof(
    *,
    config: Config = None,
    after: Annotated[int, cyclopts.Parameter(help="Of the entries behind this position.")] = 0,
    until: Annotated[
        int | None, cyclopts.Parameter(help="Up to this position; none is the end of the checkpoint.")
    ] = None,
    size: Annotated[
        int | None,
        cyclopts.Parameter(help="Against the log of so many entries; none is the newest checkpoint."),
    ] = None,
    output: Output = None,
) -> int:
    """Write the proof of a part of the log, for `verify`. The entries themselves may be dropped already."""
    settings = read_settings(config, logs=False)

    async def work() -> None:
        async with _pool(settings) as pool:
            with _writing(output) as out:
                await write_proof(pool, out, after=after, until=until, size=size)

    run_async(work())
    return 0


async def write_proof(
    pool: Pool, out: BinaryIO, *, after: int, until: int | None, size: int | None = None
) -> int:
    """Write the proof of a part of the log; return the last position it proves."""
    from indexer.audit.prove import part_to_prove, write_part  # noqa: PLC0415
    from indexer.store.pool import connection  # noqa: PLC0415

    async with connection(pool) as held:
        part = await part_to_prove(held, after=after, until=until, size=size)

    async def write(data: bytes) -> None:
        out.write(data)

    await write_part(partial(connection, pool), part, write)
    return part.last


@app.command(name="consistency")
def audit_consistency(first: int, second: int, /, *, config: Config = None, output: Output = None) -> int:
    """Write the proof that the log of SECOND entries begins with that of FIRST, for `verify`."""
    from indexer.audit.proofs import encode_consistency  # noqa: PLC0415
    from indexer.audit.prove import prove_consistency  # noqa: PLC0415
    from indexer.store.pool import connection  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> bytes:
        async with _pool(settings) as pool, connection(pool) as held:
            path = await prove_consistency(held, first=first, second=second)
        return encode_consistency(first=first, second=second, path=path)

    proof = run_async(work())
    with _writing(output) as out:
        out.write(proof)
    return 0


@app.command(name="erase")
def audit_erase(
    *,
    actor: Annotated[str | None, cyclopts.Parameter(help="Whom: the name that the registry gave.")] = None,
    older_than: Annotated[
        str | None,
        cyclopts.Parameter(help="Everybody, in what is older than this (like 400d): whole days, UTC."),
    ] = None,
    dry_run: Annotated[bool, cyclopts.Parameter(negative=(), help="Say what would be erased.")] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Erase who did it and from where: of one person, or of everybody before an age. The log verifies as before."""
    from indexer.audit.erase import erase, plan_erasure  # noqa: PLC0415

    if (actor is None) == (older_than is None):
        raise ConfigurationError("name whom to erase: --actor NAME, or --older-than AGE for everybody")
    before = None if older_than is None else _day_before(older_than)
    settings = read_settings(config, logs=False)

    async def work() -> tuple[int, int]:
        async with _pool(settings, limited=False) as pool:
            if dry_run:
                done = await plan_erasure(pool, actor=actor, before=before)
            else:
                done = await erase(
                    pool,
                    actor=actor,
                    before=before,
                    operator=operator("indexer audit erase"),
                    on_wait=_say,
                )
        return done.entries, done.days

    entries, days = run_async(work())
    said = {"erased": not dry_run, "entries": entries, "days": days, "before": before and before.isoformat()}
    words = "would be erased" if dry_run else "erased"
    text = json_dumps(said) if json else f"{words}: people in {entries} entries, on {days} days"
    sys.stdout.write(text + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _day_before(age: str) -> date:
    """Return the day (UTC) that is an age ago: what came before it is older."""
    from indexer.common.values import parse_duration  # noqa: PLC0415

    try:
        return (datetime.now(UTC) - parse_duration(age)).date()
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"--older-than: {error}") from None


@contextmanager
def _writing(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from indexer.audit.files import whole  # noqa: PLC0415

    with whole(output) as file:
        yield file


@asynccontextmanager
async def _pool(settings: Settings, *, limited: bool = True) -> AsyncIterator[Pool]:
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import close_pool, connection, open_pool  # noqa: PLC0415

    pool = await open_pool(database_url(settings), size=2, application="indexer audit", limited=limited)
    try:
        async with connection(pool) as held:
            await check(held)
        yield pool
    finally:
        await close_pool(pool)
