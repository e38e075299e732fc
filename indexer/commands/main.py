"""The verbs of ``indexer``. The groups of verbs are loaded when one of theirs is asked for."""

from __future__ import annotations

import cyclopts

from indexer.commands import server
from indexer.commands.common import run_app, version

RECONCILER_VERBS = frozenset({"run", "once", "plan", "status", "doctor", "checkpoint"})

app = cyclopts.App(
    name="indexer",
    version=version,
    help_format="plaintext",
    help="The memory of a container registry: receives its notifications, keeps inventory, history and audit "
    "log in PostgreSQL, and serves them over HTTP. Settings are environment variables or a TOML file; see "
    "docs/reference/settings.md.",
)
app.command(
    "indexer.commands.inbox:app", name="inbox", help="The quarantine: deliveries that could not be applied."
)
app.command("indexer.commands.audit:app", name="audit", help="The audit log.")
app.command("indexer.commands.feeds:app", name="feeds", help="Feeds: receivers of the audit log.")
app.command("indexer.commands.policies:app", name="policies", help="The file of policies.")
app.command(server.up)
app.command(server.serve)
app.command(server.migrate)
app.command(server.openapi)
app.command(server.jwks)


def main() -> None:
    """Run the command line."""
    run_app(app, refused=("reconciler", RECONCILER_VERBS))
