"""The verbs of ``indexer``. The groups of verbs are loaded when one of theirs is asked for."""

from __future__ import annotations

import cyclopts

from indexer.commands import server
from indexer.commands.common import DEFAULTS, EXIT_CODES, completion_of, run_app, version

RECONCILER_VERBS = frozenset(
    {
        "checkpoint",
        "cleanup",
        "delete",
        "doctor",
        "gc",
        "holds",
        "jobs",
        "maintenance",
        "once",
        "plan",
        "restore",
        "run",
        "status",
        "storage",
    }
)

app = cyclopts.App(
    name="indexer",
    version=version,
    help_format="plaintext",
    default_parameter=DEFAULTS,
    help_epilogue=f"{EXIT_CODES} A command that has others says so.",
    help="Receives a container registry's notifications, keeps inventory, history and audit log in PostgreSQL, "
    "and serves them over HTTP. Settings are environment variables or a TOML file; see docs/reference/settings.md.",
)
app.command(
    "indexer.commands.inbox:app",
    name="inbox",
    help="List, retry or discard the quarantine: deliveries that could not be applied.",
)
app.command(
    "indexer.commands.audit:app",
    name="audit",
    help="List, export, prove, verify, archive and erase in the audit log.",
)
app.command(
    "indexer.commands.feeds:app",
    name="feeds",
    help="Feeds, which deliver the audit log to other systems: their state, replays, dead letters.",
)
app.command(
    "indexer.commands.policies:app",
    name="policies",
    help="Check a file of policies, explain what becomes of a tag, translate the policies of other registries.",
)
for _name, _help in (
    ("tags", "List the tags of a repository, or of all repositories, sorted and filtered."),
    ("repositories", "List the repositories on record."),
    ("history", "List what tags pointed to and since when, also tags that were deleted."),
    ("changes", "List the tags that differ between two times: --since, and --until or now."),
    ("manifests", "List the manifests of a repository, tagged or not, the newest push first."),
):
    app.command(f"indexer.commands.asking.verbs:{_name}", name=_name, help=_help)
app.command(server.up)
app.command(server.serve)
app.command(server.migrate)
app.command(server.openapi)
app.command(server.jwks)
app.command(completion_of(app))


def main() -> None:
    """Run the command line."""
    run_app(app, refused=("reconciler", RECONCILER_VERBS))
