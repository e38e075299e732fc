"""Writes ``schema.sql``, the whole database in one file, from the numbered migrations: ``python3 dev.py schema``.

The text is that of the migrations, one after the other, so comments and the rows that every database begins with stay,
and neither a server nor a version of ``pg_dump`` has a say in it (docs/adr/0069-schema-sql-is-generated.md).
A file that runs outside a transaction builds or drops an index CONCURRENTLY; here, on an empty database and in one go,
the word is left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from indexer.store.migrate import migrations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from indexer.store.migrate import Migration

SCHEMA: Final = Path(__file__).parents[1] / "schema.sql"
HEADER: Final = """\
-- Generated from indexer/store/migrations by `python3 dev.py schema`. Do not edit: change the migration and run it.
-- The whole database in one file, to be read and to build test databases from. A real one is made by `indexer migrate`.
"""
_CONCURRENTLY = re.compile(r"\b(INDEX)\s+CONCURRENTLY\b", re.IGNORECASE)


def schema(of: Iterable[Migration]) -> str:
    """Return the text of ``schema.sql`` for these migrations, which are in order."""
    return HEADER + "".join(f"\n-- {each.version:04d}_{each.name}\n\n{in_one_go(each)}" for each in of)


def in_one_go(migration: Migration) -> str:
    """Return a migration's statements as one transaction may run them on an empty database."""
    text = migration.sql
    if not migration.transactional:
        text = _CONCURRENTLY.sub(r"\1", text.partition("\n")[2])
    return f"{text.strip()}\n"


def main() -> int:
    """Write the file, or with ``--check`` say by the exit code whether it is up to date."""
    text = schema(migrations())
    if "--check" not in sys.argv[1:]:
        SCHEMA.write_text(text, encoding="utf-8")
        return 0
    if SCHEMA.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("schema.sql is not what the migrations say; write it anew: python3 dev.py schema\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
