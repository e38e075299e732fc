"""Bad input to the commands: one line that says what is wrong and what to do, an exit code, nothing half done."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.installation import TOKEN

if TYPE_CHECKING:
    from tests.fixtures.installation import Done, Installation
    from tests.fixtures.postgres import PostgresServer

SERVE, MIGRATE, RUN, ONCE, PLAN = (
    ("indexer", "serve"),
    ("indexer", "migrate"),
    ("reconciler", "run"),
    ("reconciler", "once"),
    ("reconciler", "plan"),
)


def complaint(done: Done) -> str:
    """The one line of a command that refused."""
    assert 0 != done.exit_code
    assert "" == done.output
    assert 1 == len(done.error_lines), done.error
    return done.error_lines[0]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("INDEXER_LISTNE", "127.0.0.1:1", "did you mean INDEXER_LISTEN?"),
        ("RECONCILER_NO_SUCH_THING", "1", "unknown setting RECONCILER_NO_SUCH_THING"),
        ("INDEXER_CONFIG", "/nowhere/indexer.toml", "/nowhere/indexer.toml does not exist"),
        ("RECONCILER_INTERVAL", "60", "needs a unit"),
        ("INDEXER_LISTEN", "localhost", "INDEXER_LISTEN"),
        ("RECONCILER_REGISTRY_URL", "registry:5000", "RECONCILER_REGISTRY_URL"),
        ("RECONCILER_REGISTRY_URL", "http://me:secret@registry:5000", "RECONCILER_REGISTRY_USERNAME"),
        ("RECONCILER_CONCURRENCY", "0", "RECONCILER_CONCURRENCY"),
        ("RECONCILER_BRAKE_SHARE", "10%", "RECONCILER_BRAKE_SHARE"),
        ("INDEXER_ANONYMOUS_READ", "maybe", "INDEXER_ANONYMOUS_READ"),
    ],
)
def test_settings__wrong(bare_installation: Installation, setting: str, value: str, said: str) -> None:
    """Both programs refuse a wrong setting, even one that only the other uses, and name it."""
    for command in (SERVE, ONCE):
        line = complaint(bare_installation.run(*command, **{setting: value}))
        assert said in line
        assert "secret" not in line


def test_settings__missing(bare_installation: Installation) -> None:
    """What a command cannot do without is named, with where to get it."""
    serve = bare_installation.run(*SERVE, INDEXER_NOTIFICATIONS_TOKEN=None)
    assert "INDEXER_NOTIFICATIONS_TOKEN" in complaint(serve)
    for command in (SERVE, MIGRATE, ONCE):
        assert "INDEXER_DATABASE_URL" in complaint(bare_installation.run(*command, INDEXER_DATABASE_URL=None))
    assert 0 == bare_installation.run(*MIGRATE).exit_code
    for command in (RUN, ONCE, PLAN):
        done = bare_installation.run(*command, RECONCILER_REGISTRY_URL=None)
        assert "RECONCILER_REGISTRY_URL" in complaint(done)
        assert 64 == done.exit_code


def test_settings__file(bare_installation: Installation) -> None:
    """A file's settings count, the environment wins, and what is wrong in the file is named like anywhere else."""
    file = bare_installation.directory / "indexer.toml"
    settings: dict[str, str | None] = {"INDEXER_DATABASE_URL": None}
    file.write_text(f'INDEXER_DATABASE_URL = "{bare_installation.database_url}"\n')
    assert 0 == bare_installation.run(*MIGRATE, "--config", str(file), **settings).exit_code
    assert 0 == bare_installation.run(*MIGRATE, INDEXER_CONFIG=str(file), **settings).exit_code
    file.write_text('INDEXER_DATABASE_URI = "x"\n')
    assert "INDEXER_DATABASE_URL?" in complaint(bare_installation.run(*MIGRATE, "--config", str(file)))
    file.write_text("INDEXER_DATABASE_URL = \n")
    assert "is not TOML" in complaint(bare_installation.run(*MIGRATE, "--config", str(file)))
    gone = bare_installation.run(*MIGRATE, "--config", str(file.with_name("gone.toml")))
    assert "gone.toml does not exist" in complaint(gone)


def test_database__not_migrated(bare_installation: Installation) -> None:
    """A database that was never migrated is said to lack a migration, and how to run it; after that all start."""
    for command in (SERVE, RUN, ONCE, PLAN, ("indexer", "inbox", "list")):
        assert "indexer migrate" in complaint(bare_installation.run(*command))
    assert "applied 0001" in bare_installation.run(*MIGRATE).output
    assert "up to date" in bare_installation.run(*MIGRATE).output
    bare_installation.serve()


def test_database__newer(bare_installation: Installation, postgres_server: PostgresServer) -> None:
    """A database of a newer release is refused by every command, and nothing in it is touched."""
    assert 0 == bare_installation.run(*MIGRATE).exit_code
    newer = "INSERT INTO schema_migration (version, name, checksum) VALUES (9999, 'later', '')"
    postgres_server.run(execute(bare_installation.database_url, newer))
    for command in (SERVE, MIGRATE, RUN, ONCE, PLAN):
        line = complaint(bare_installation.run(*command))
        assert "9999" in line
        assert "newer release" in line


async def execute(database_url: str, statement: str) -> None:
    import asyncpg  # noqa: PLC0415 - this test alone looks into the database

    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://nobody:db-secret@127.0.0.1:1/indexer",
        "postgresql://nobody:db-secret@no-such-host.invalid/indexer",
    ],
    ids=["refused", "no host"],
)
def test_database__away(bare_installation: Installation, url: str) -> None:
    """A database that cannot be reached is one line without its password."""
    for command in (MIGRATE, ONCE):
        line = complaint(bare_installation.run(*command, INDEXER_DATABASE_URL=url))
        assert "db-secret" not in line
        assert "database" in line.lower()


@pytest.mark.parametrize("url", ["mysql://nobody:db-secret@127.0.0.1/indexer", "nonsense"])
def test_database__wrong_url(bare_installation: Installation, url: str) -> None:
    """A URL that is not PostgreSQL's is refused by every command, without its password."""
    for command in (SERVE, MIGRATE, ONCE):
        line = complaint(bare_installation.run(*command, INDEXER_DATABASE_URL=url))
        assert "db-secret" not in line
        assert "database" in line.lower()


def test_database__does_not_exist(bare_installation: Installation) -> None:
    """A database's name that the server does not know is said."""
    url = bare_installation.database_url.replace("/indexer_test_", "/no_such_database_", 1)
    line = complaint(bare_installation.run(*SERVE, INDEXER_DATABASE_URL=url))
    assert "does not exist" in line


def test_address__taken(installation: Installation) -> None:
    """An address that is in use is one line; the server that has it goes on."""
    second = installation.run(*SERVE, INDEXER_DATA_DIR=str(installation.directory / "second"))
    assert "INDEXER_LISTEN" in complaint(second)
    assert 200 == installation.ask("/readyz").status_code


def test_address__taken_for_up(installation: Installation) -> None:
    """`indexer up` gives up on an address that is in use, and says so in a line."""
    done = installation.run("indexer", "up")
    assert 64 == done.exit_code
    assert any(line.startswith("indexer: INDEXER_LISTEN: cannot listen") for line in done.error_lines)


def test_names__wrong(installation: Installation) -> None:
    """A repository's name that is none, an unknown verb, an unknown option: refused before anything is done."""
    done = installation.run(*ONCE, "--repository", "Not/A/Name")
    assert 64 == done.exit_code
    assert "--repository" in complaint(done)
    for command in (
        ("indexer", "explode"),
        ("reconciler", "explode"),
        (*ONCE, "--explode"),
        (*SERVE, "--explode"),
    ):
        refused = installation.run(*command)
        assert 64 == refused.exit_code
        assert "explode" in refused.output + refused.error


def test_token__not_in_any_output(installation: Installation) -> None:
    """No token is in what the programs print, even when everything goes wrong."""
    installation.post(b"junk", {"Authorization": "Bearer wrong-guess"})
    installation.ask("/api/v1/nothing", "wrong-guess")
    installation.ask("/api/v1/tags?sort=nonsense")
    assert 0 == installation.end(installation.server, signal.SIGTERM)
    said = installation.last_words()
    assert said
    assert TOKEN not in said
    assert "wrong-guess" not in said
