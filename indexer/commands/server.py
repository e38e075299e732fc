"""The verbs that run the server or are about it: up, serve, migrate, openapi, jwks."""

from __future__ import annotations

import os
import sys
from json import dumps as json_dumps
from pathlib import Path
from typing import Annotated

import cyclopts

from indexer.commands.common import (
    AsJson,
    Config,
    database_url,
    name_process,
    print_result,
    read_settings,
    run_async,
)

OPENAPI = Path(__file__).parents[1] / "api" / "openapi.json"


def up(*, config: Config = None) -> int:
    """Run everything on this machine: embedded PostgreSQL (unless a database is set), server and reconciler."""
    from indexer.api.trust import read_trust  # noqa: PLC0415
    from indexer.feeds.sinks import read_feeds  # noqa: PLC0415
    from indexer.local.supervisor import UpSettings  # noqa: PLC0415
    from indexer.local.supervisor import up as run_up  # noqa: PLC0415
    from indexer.settings import CONFIG_VARIABLE  # noqa: PLC0415

    settings = read_settings(config, logs=True)
    settings.check_tokens()
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
                readable=not settings.nobody_may_read,
                environment={**os.environ, **named},
            )
        )
    )


def serve(*, config: Config = None) -> int:
    """Receive notifications, apply them, and serve the APIs. Never calls the registry."""
    from indexer.commands.serving import serve as run_server  # noqa: PLC0415

    return run_server(read_settings(config, logs=True))


def migrate(*, config: Config = None, json: AsJson = False) -> int:
    """Bring the database to the version of this program. Safe to run again."""
    from indexer.store.migrate import migrate as run_migrations  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work() -> int:
        applied = await run_migrations(database_url(settings))
        print_result(
            json, {"applied": applied}, "\n".join(f"applied {name}" for name in applied) or "up to date"
        )
        return 0

    return run_async(work())


def openapi() -> int:
    """Print the OpenAPI 3.1 document of the API."""
    # As committed: building it loads the whole server. A test holds the file to the code.
    sys.stdout.write(OPENAPI.read_text(encoding="utf-8"))
    return 0


def jwks(
    keys: Annotated[Path, cyclopts.Parameter(help="PEM certificates, PEM public keys or a JWK set.")],
    /,
) -> int:
    """Print public keys as the JWK set that Distribution 3.x needs to take GitLab's tokens (auth.token.jwks)."""
    from indexer.api.trust import key_set, load_keys  # noqa: PLC0415

    sys.stdout.write(json_dumps(key_set(load_keys(keys)), indent=2) + "\n")
    return 0
