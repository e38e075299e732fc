"""The verbs of ``indexer inbox``: list, retry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import cyclopts

from indexer.cli import AsJson, Config, _print, _with_database
from indexer.command import operator

app = cyclopts.App(name="inbox", help="Deliveries that could not be applied.")


@app.command(name="list")
def inbox_list(*, config: Config = None, limit: int = 100, json: AsJson = False) -> int:
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
        _print(json, {"quarantined": shown}, "\n".join(lines) or "the quarantine is empty")
        return 0

    return _with_database(config, work)


@app.command(name="retry")
def inbox_retry(
    ids: Annotated[
        list[int] | None, cyclopts.Parameter(help="Ids from `inbox list`; none means all.")
    ] = None,
    *,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Put quarantined deliveries back into the inbox, for example after an upgrade that understands them."""
    from indexer.inventory.changes import AuditAction  # noqa: PLC0415
    from indexer.store import inbox  # noqa: PLC0415
    from indexer.store.operators import record_action  # noqa: PLC0415

    async def work(connection: Any) -> int:
        async with connection.transaction():
            count = await inbox.retry_quarantine(connection, ids=ids or None)
            if count:
                await record_action(
                    connection,
                    action=AuditAction.OPERATOR_INBOX_RETRIED,
                    operator=operator("indexer inbox retry"),
                    at=datetime.now(UTC),
                    detail={"deliveries": count, "ids": ids or None},
                )
        _print(json, {"retried": count}, f"{count} put back into the inbox")
        return 0

    return _with_database(config, work)
