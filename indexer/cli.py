"""The verbs of ``indexer``: up, serve, migrate, openapi, jwks, inbox, audit. Each imports only what it needs.

Those of ``indexer feeds`` are in ``cli_feeds``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from json import dumps as json_dumps
from json import loads
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from indexer import cli_audit
from indexer.command import database_url, name_process, operator, read_settings, run_async, run_verb, version

OPENAPI = Path(__file__).with_name("api") / "openapi.json"
Config = Annotated[
    Path | None, cyclopts.Parameter(name="--config", help="TOML file with settings; the environment wins.")
]
AsJson = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON for machines.")]

app = cyclopts.App(
    name="indexer",
    version=version,
    help_format="plaintext",
    help="The memory of a container registry: receives its notifications, keeps inventory, history and audit "
    "log in PostgreSQL, and serves them over HTTP. Settings are environment variables or a TOML file; see "
    "docs/reference/settings.md.",
)
inbox_app = cyclopts.App(name="inbox", help="Deliveries that could not be applied.")
audit_app = cyclopts.App(name="audit", help="The audit log.")
cli_audit.add_to(audit_app)
app.command(inbox_app)
app.command(audit_app)
audit_app.command(
    "indexer.cli_export:audit_export",
    name="export",
    help="Export the sealed log in the order of its positions; says on stderr where to resume.",
)
audit_app.command(
    "indexer.cli_keep:archive",
    name="archive",
    help="Write what is old to files and take it out of the log. Exit 1: something holds a part that is old enough.",
)
audit_app.command(
    "indexer.cli_import:import_history",
    name="import",
    help="Import an older history: notifications as a registry sent them, or an exported log. Exit 1: some left out.",
)
app.command("indexer.cli_feeds:app", name="feeds", help="Where the audit log is delivered to.")


def main() -> None:
    """Run the command line."""
    run_verb(_run)


def _run() -> int:
    code = app(exit_on_error=True, result_action="return_value")
    return code if isinstance(code, int) else 0


@app.command
def up(*, config: Config = None) -> int:
    """Run everything on this machine: embedded PostgreSQL (unless a database is set), server and reconciler."""
    from indexer.api.trust import read_trust  # noqa: PLC0415
    from indexer.feeds.sinks import read_feeds  # noqa: PLC0415
    from indexer.local.supervisor import UpSettings  # noqa: PLC0415
    from indexer.local.supervisor import up as run_up  # noqa: PLC0415
    from indexer.settings import CONFIG_VARIABLE  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    read_trust(settings)  # a server that cannot start should not be started again and again
    read_feeds(settings.indexer_feeds_file)
    name_process("indexer up")
    token = settings.indexer_notifications_token
    given = settings.indexer_database_url
    named = {} if config is None else {CONFIG_VARIABLE: str(config.absolute())}
    return run_async(
        run_up(
            UpSettings(
                data_dir=settings.indexer_data_dir,
                registry_url=settings.reconciler_registry_url,
                database_url=given.get_secret_value() if given is not None else None,
                notifications_token=token.get_secret_value() if token is not None else None,
                listen=settings.indexer_listen,
                environment={**os.environ, **named},
            )
        )
    )


@app.command
def serve(*, config: Config = None) -> int:
    """Receive notifications, apply them, and serve the APIs. Never calls the registry."""
    from indexer.app import serve as run_server  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    name_process("indexer serve")
    return run_async(run_server(settings, database_url=database_url(settings)))


@app.command
def migrate(*, config: Config = None, json: AsJson = False) -> int:
    """Bring the database up to date."""
    from indexer.store.migrate import migrate as run_migrations  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> int:
        applied = await run_migrations(database_url(settings))
        _print(json, {"applied": applied}, "\n".join(f"applied {name}" for name in applied) or "up to date")
        return 0

    return run_async(work())


@app.command
def openapi() -> int:
    """Print the OpenAPI 3.1 document of the API."""
    # As committed: building it loads the whole server. A test holds the file to the code.
    sys.stdout.write(OPENAPI.read_text(encoding="utf-8"))
    return 0


@app.command
def jwks(
    keys: Annotated[Path, cyclopts.Parameter(help="PEM certificates, PEM public keys or a JWK set.")],
    /,
) -> int:
    """Print public keys as the JWK set that Distribution 3.x needs to take GitLab's tokens (auth.token.jwks)."""
    from indexer.api.trust import key_set, load_keys  # noqa: PLC0415

    sys.stdout.write(json_dumps(key_set(load_keys(keys)), indent=2) + "\n")
    return 0


@inbox_app.command(name="list")
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


@inbox_app.command(name="retry")
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


@audit_app.command(name="follow")
def audit_follow(
    *,
    config: Config = None,
    after: Annotated[
        int | None, cyclopts.Parameter(help="Begin behind this position; none is from now on.")
    ] = None,
    repository: str | None = None,
    prefix: str | None = None,
    tag: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    json: AsJson = False,
) -> int:
    """Print entries as they are sealed, in the order of their positions, until Ctrl-C."""
    from indexer.audit.follow import follow, line_of  # noqa: PLC0415
    from indexer.store.listing.audit import AuditFilter  # noqa: PLC0415
    from indexer.store.pool import close_pool, open_pool  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    url = database_url(settings)
    filters = AuditFilter(repository=repository, prefix=prefix, tag=tag, action=action, actor=actor)

    async def show(part: bytes) -> None:
        lines = part if json else b"".join(f"{line_of(loads(e))}\n".encode() for e in part.splitlines())
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()

    async def work() -> int:
        pool = await open_pool(url, size=2, application="indexer audit follow")
        try:
            await follow(pool, url, after_position=after, show=show, filters=filters)
        finally:
            await close_pool(pool)
        return 0

    try:
        return run_async(work())
    except KeyboardInterrupt:  # how following ends
        return 0


def _with_database(config: Path | None, work: Callable[[Any], Awaitable[int]]) -> int:
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import connect  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def connected() -> int:
        connection = await connect(database_url(settings), application="indexer")
        try:
            await check(connection)
            return await work(connection)
        finally:
            await connection.close()

    return run_async(connected())


def _print(as_json: bool, value: dict[str, Any], text: str) -> None:
    sys.stdout.write((json_dumps(value) if as_json else text) + "\n")
