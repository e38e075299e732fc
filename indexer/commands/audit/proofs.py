"""``indexer audit checkpoint``, ``proof`` and ``consistency``: what was signed, and what leads to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, BinaryIO

import cyclopts

from indexer.commands.audit.shared import Output, open_log, writing
from indexer.commands.common import Config, read_settings, run_async
from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from indexer.store.pool import Pool


def audit_checkpoint(*, config: Config = None, output: Output = None) -> int:
    """Print the newest checkpoint: the number of entries and the Merkle root over them, signed."""
    from indexer.store.checkpoints import newest_checkpoint  # noqa: PLC0415
    from indexer.store.pool import connection  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> str:
        async with open_log(settings) as pool, connection(pool) as held:
            newest = await newest_checkpoint(held)
        if newest is None:
            raise ConfigurationError("no checkpoint was signed yet: `indexer serve` signs them")
        return newest.note

    note = run_async(work())
    with writing(output) as out:
        out.write(note.encode())
    return 0


def audit_proof(
    *,
    config: Config = None,
    after: Annotated[int, cyclopts.Parameter(help="Prove the entries after this position.")] = 0,
    until: Annotated[
        int | None,
        cyclopts.Parameter(
            help="Prove the entries up to this position. Default: all that the checkpoint counts."
        ),
    ] = None,
    size: Annotated[
        int | None,
        cyclopts.Parameter(
            help="Prove it for the log with this many entries. Default: as many as the newest checkpoint counts."
        ),
    ] = None,
    output: Output = None,
) -> int:
    """Write the proof that some entries are in the log, for `verify`. They need not be in the database any more."""
    settings = read_settings(config, logs=False)

    async def work() -> None:
        async with open_log(settings) as pool:
            with writing(output) as out:
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


def audit_consistency(
    first: Annotated[int, cyclopts.Parameter(help="How many entries the smaller log has.")],
    second: Annotated[int, cyclopts.Parameter(help="How many entries the larger log has.")],
    /,
    *,
    config: Config = None,
    output: Output = None,
) -> int:
    """Write the proof that the log with FIRST entries is the beginning of that with SECOND, for `verify`."""
    from indexer.audit.proofs import encode_consistency  # noqa: PLC0415
    from indexer.audit.prove import prove_consistency  # noqa: PLC0415
    from indexer.store.pool import connection  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> bytes:
        async with open_log(settings) as pool, connection(pool) as held:
            path = await prove_consistency(held, first=first, second=second)
        return encode_consistency(first=first, second=second, path=path)

    proof = run_async(work())
    with writing(output) as out:
        out.write(proof)
    return 0
