"""The verbs of ``indexer inbox``: list, retry, discard."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import cyclopts

from indexer.commands.common import AsJson, Config, operator, print_result, with_database
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError

app = cyclopts.App(
    name="inbox", help="List, retry or discard the quarantine: deliveries that could not be applied."
)


@app.command(name="list")
def inbox_list(
    *,
    config: Config = None,
    limit: Annotated[int, cyclopts.Parameter(help="At most so many.")] = 100,
    json: AsJson = False,
) -> int:
    """List the quarantine, oldest first: what was received and could not be applied, and why."""
    from indexer.store import inbox  # noqa: PLC0415

    async def work(connection: Any) -> int:
        rows = await inbox.list_quarantine(connection, after=0, limit=limit)
        shown = [
            {
                "id": row.id,
                "received_at": row.received_at.isoformat(),
                "reason": row.reason,
                "content_type": row.content_type,
                "body_bytes": len(row.body),
                "body_start": row.body[:200].decode("utf-8", "backslashreplace"),
            }
            for row in rows
        ]
        lines = [f"{row.id:>8}  {row.received_at:%Y-%m-%d %H:%M:%S}Z  {row.reason}" for row in rows]
        print_result(json, {"quarantined": shown}, "\n".join(lines) or "the quarantine is empty")
        return 0

    return with_database(config, work)


@app.command(name="retry")
def inbox_retry(
    ids: Annotated[list[int] | None, cyclopts.Parameter(help="Ids from `inbox list`. Default: all.")] = None,
    *,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Put deliveries from the quarantine back into the inbox, for example after an upgrade that can apply them."""
    from indexer.inventory.changes import AuditAction  # noqa: PLC0415
    from indexer.store import inbox  # noqa: PLC0415
    from indexer.store.operators import record_action  # noqa: PLC0415

    async def work(connection: Any) -> int:
        async with connection.transaction():
            done = await inbox.retry_quarantine(connection, ids=ids or None)
            if done:
                await record_action(
                    connection,
                    action=AuditAction.OPERATOR_INBOX_RETRIED,
                    operator=operator("indexer inbox retry"),
                    at=datetime.now(UTC),
                    detail={"deliveries": len(done), "ids": ids or None},
                )
        absent = sorted(set(ids or ()) - set(done))
        print_result(json, {"retried": len(done)}, f"{len(done)} put back into the inbox")
        return _say_absent(absent)

    return with_database(config, work)


@app.command(name="discard")
def inbox_discard(
    ids: Annotated[list[int] | None, cyclopts.Parameter(help="Ids from `inbox list`.")] = None,
    *,
    reason: Annotated[str, cyclopts.Parameter(help="Why; the audit log records it.")],
    all_of_them: Annotated[
        bool, cyclopts.Parameter(name="--all", negative=(), help="The whole quarantine.")
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Delete deliveries from the quarantine for good. The audit log records who did it and why."""
    from indexer.inventory.changes import AuditAction  # noqa: PLC0415
    from indexer.store import inbox  # noqa: PLC0415
    from indexer.store.operators import record_action  # noqa: PLC0415
    from indexer.store.text import storable  # noqa: PLC0415

    if bool(ids) == all_of_them:
        raise ConfigurationError("name what to discard: ids from `indexer inbox list`, or --all")
    if not reason.strip():
        raise ConfigurationError("--reason is empty: say why these deliveries are discarded")

    async def work(connection: Any) -> int:
        async with connection.transaction():
            done = await inbox.discard_quarantine(connection, ids=ids or None)
            if done:
                await record_action(
                    connection,
                    action=AuditAction.OPERATOR_INBOX_DISCARDED,
                    operator=operator("indexer inbox discard"),
                    at=datetime.now(UTC),
                    detail={
                        "deliveries": len(done),
                        "ids": ids or None,
                        "reason": storable(reason.strip())[0],
                    },
                )
        absent = sorted(set(ids or ()) - set(done))
        print_result(json, {"discarded": len(done)}, f"{len(done)} discarded")
        return _say_absent(absent)

    return with_database(config, work)


def _say_absent(ids: list[int]) -> int:
    """Return the exit code: 1 where something was named that is not there, which is said."""
    if ids:
        sys.stderr.write(f"not in the quarantine: {', '.join(map(str, ids))}\n")
    return exit_codes.FAILED if ids else 0
