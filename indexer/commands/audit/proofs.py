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
    """Print the newest checkpoint: how many entries the log has and its root, signed."""
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


def audit_consistency(first: int, second: int, /, *, config: Config = None, output: Output = None) -> int:
    """Write the proof that the log of SECOND entries begins with that of FIRST, for `verify`."""
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
