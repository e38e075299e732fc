"""The verbs of ``indexer audit``; each file is loaded when one of its verbs is asked for."""

from __future__ import annotations

import cyclopts

_VERBS = (
    (
        "follow",
        "follow:audit_follow",
        "Print entries as they are sealed, in the order of their positions, until Ctrl-C.",
    ),
    (
        "export",
        "export:audit_export",
        "Export the sealed log in the order of its positions; says on stderr where to resume.",
    ),
    ("verify", "verify:audit_verify", "Verify an export, or that one checkpoint grew out of another."),
    (
        "archive",
        "archive:archive",
        "Write what is old to files and take it out of the log. Exit 1: a part that is old enough is held back.",
    ),
    (
        "import",
        "import_:import_history",
        "Import an older history: notifications as a registry sent them, or an exported log. Exit 1: some left out.",
    ),
    (
        "key",
        "key:audit_key",
        "Print the public key that verifies the log's checkpoints; make it where nobody signs yet.",
    ),
    (
        "checkpoint",
        "proofs:audit_checkpoint",
        "Print the newest checkpoint: how many entries the log has and its root, signed.",
    ),
    ("proof", "proofs:audit_proof", "Write the proof of a part of the log, for `verify`."),
    (
        "consistency",
        "proofs:audit_consistency",
        "Write the proof that the log of SECOND entries begins with that of FIRST, for `verify`.",
    ),
    (
        "erase",
        "erase:audit_erase",
        "Erase names, addresses and user agents: of one person, or of everybody in old entries.",
    ),
)

app = cyclopts.App(name="audit", help="The audit log.")
for _name, _where, _help in _VERBS:
    app.command(f"{__name__}.{_where}", name=_name, help=_help)
