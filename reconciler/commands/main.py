"""The verbs of ``reconciler``."""

from __future__ import annotations

import cyclopts

from indexer.commands.common import DEFAULTS, EXIT_CODES, completion_of, run_app, version
from reconciler.commands import (
    checkpoint,
    cleanup,
    delete,
    doctor,
    gc,
    holds,
    jobs,
    maintenance,
    once,
    plan,
    restore,
    run,
    status,
    storage,
)

INDEXER_VERBS = frozenset(
    {
        "audit",
        "changes",
        "feeds",
        "history",
        "inbox",
        "jwks",
        "manifests",
        "migrate",
        "openapi",
        "policies",
        "repositories",
        "serve",
        "tags",
        "up",
    }
)

app = cyclopts.App(
    name="reconciler",
    version=version,
    help_format="plaintext",
    default_parameter=DEFAULTS,
    help_epilogue=f"{EXIT_CODES} `plan` verbs: 2 something would change; 3 a brake stops it.",
    help="Keeps the inventory right: verifies tags, reads manifests, compares the whole registry with the "
    "inventory, and repairs the inventory. Deletes and restores what you or your policies name. Settings are "
    "environment variables or a TOML file; see docs/reference/settings.md.",
)
app.command(run.run)
app.command(once.once)
app.command(plan.plan)
app.command(doctor.doctor)
app.command(delete.delete)
app.command(restore.restore)
app.command(checkpoint.app)
app.command(status.status)
app.command(cleanup.app)
app.command(gc.app)
app.command(holds.app)
app.command(jobs.app)
app.command(maintenance.app)
app.command(storage.app)
app.command(completion_of(app))


def main() -> None:
    """Run the command line."""
    run_app(app, refused=("indexer", INDEXER_VERBS))
