"""The verbs of ``indexer audit``; each file is loaded when one of its verbs is asked for."""

from __future__ import annotations

import cyclopts

_VERBS = (
    (
        "list",
        "list_:audit_list",
        "List the entries of the audit log, newest first.",
    ),
    (
        "follow",
        "follow:audit_follow",
        "Print entries as they are sealed, in the order of their positions, until Ctrl-C.",
    ),
    (
        "export",
        "export:audit_export",
        "Write the sealed entries to a file, in the order of their positions; stderr says where to resume.",
    ),
    (
        "verify",
        "verify:audit_verify",
        "Verify an export, or that an older log is the beginning of a newer. Exit 1: it is not; 2: nothing verified.",
    ),
    (
        "archive",
        "archive:archive",
        "Write old months to files and remove them from the log. Exit 1: an old month cannot be removed yet.",
    ),
    (
        "import",
        "import_:import_history",
        "Import an older history: a registry's notifications, or an exported log. Exit 1: something was left out.",
    ),
    (
        "key",
        "key:audit_key",
        "Print the public key that verifies the log's checkpoints. If the log is not signed yet, make the key.",
    ),
    (
        "checkpoint",
        "proofs:audit_checkpoint",
        "Print the newest checkpoint: the number of entries and the Merkle root over them, signed.",
    ),
    ("proof", "proofs:audit_proof", "Write the proof that some entries are in the log, for `verify`."),
    (
        "consistency",
        "proofs:audit_consistency",
        "Write the proof that the log with FIRST entries is the beginning of that with SECOND, for `verify`.",
    ),
    (
        "erase",
        "erase:audit_erase",
        "Erase names, addresses and user agents: those of one person, or all of them in old entries.",
    ),
)

app = cyclopts.App(name="audit", help="List, export, prove, verify, archive and erase in the audit log.")
for _name, _where, _help in _VERBS:
    app.command(f"{__name__}.{_where}", name=_name, help=_help)
