"""Checkpoints, proofs and verification: from a real database to files that need none."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import signal
import stat
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from indexer.app import _key
from indexer.audit.checkpoint import AnotherKeySigns, Checkpointer, CheckpointSettings, key_to_sign
from indexer.audit.keys import judge_mode, make_key
from indexer.audit.merkle import is_consistent
from indexer.audit.note import Checkpoint, SignerKey, VerifierKey, verify_note
from indexer.audit.publish import LogPutBack
from indexer.audit.tiles import TreeDamaged
from indexer.common.errors import ConfigurationError
from indexer.settings import Settings
from indexer.store.checkpoints import list_conflicts
from indexer.store.pool import connection
from tests.fixtures.installation import Installation
from tests.fixtures.merkle import root_from_inclusion
from tests.fixtures.sealing import exported, sealed, stage

if TYPE_CHECKING:
    from indexer.store.pool import Pool
    from tests.fixtures.asking import Api

KEY = SignerKey.generate("log.example/registry")
EAGER = CheckpointSettings(interval=timedelta(0), entries=1, file=None)


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """A database that says which migrations it has: commands ask."""
    return migrated_url


async def signed(pool: Pool, key: SignerKey = KEY) -> Checkpoint:
    """The checkpoint of all that is sealed."""
    await Checkpointer(pool, key, EAGER).run_once()
    note = await pool.fetchval("SELECT note FROM audit_checkpoint ORDER BY id DESC LIMIT 1")
    verify_note(note, key.verifier)
    return Checkpoint.parse(note)


# --- checkpoints -----------------------------------------------------------------------------------------


async def test_checkpoint__is_signed_when_entries_wait_for_one(pool: Pool, tmp_path: Path) -> None:
    """One is due at the first entry, then after so many entries or so long; each is published whole."""
    file = tmp_path / "checkpoint"
    loop = Checkpointer(pool, KEY, CheckpointSettings(interval=timedelta(hours=1), entries=5, file=file))
    made = []
    for more in (0, 3, 0, 4, 1):
        await sealed(pool, more)
        made.append((await loop.run_once()).items)
    assert [0, 1, 0, 0, 1] == made
    assert [3, 8] == [
        row["size"] for row in await pool.fetch("SELECT size FROM audit_checkpoint ORDER BY id")
    ]
    assert 8 == Checkpoint.parse(verified_note(file)).size
    await sealed(pool, 1)
    await pool.execute("UPDATE audit_checkpoint SET signed_at = signed_at - interval '1 hour'")
    assert 1 == (await loop.run_once()).items
    assert 9 == Checkpoint.parse(verified_note(file)).size
    assert [file] == list(tmp_path.iterdir())


def verified_note(file: Path) -> str:
    note = file.read_text("utf-8")
    verify_note(note, KEY.verifier)
    return note


async def test_checkpoint__is_published_by_every_process(pool: Pool, tmp_path: Path) -> None:
    """A process that did not sign publishes what another signed."""
    await sealed(pool, 3)
    await signed(pool)
    file = tmp_path / "checkpoint"
    await Checkpointer(pool, KEY, replace(EAGER, file=file)).run_once()
    assert 3 == Checkpoint.parse(verified_note(file)).size


async def test_checkpoint__is_not_signed_by_a_second_key(pool: Pool) -> None:
    """Servers with keys of their own do not sign by turns: all but the first say what is wrong."""
    await sealed(pool, 3)
    await signed(pool)
    await sealed(pool, 1)
    with pytest.raises(AnotherKeySigns):
        await Checkpointer(pool, SignerKey.generate(KEY.name), EAGER).run_once()
    assert 1 == await pool.fetchval("SELECT count(*) FROM audit_checkpoint")


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE audit_tile SET hashes = set_byte(hashes, 40, 255 - get_byte(hashes, 40)) WHERE index = 1",
        "DELETE FROM audit_tile WHERE level = 1",
        "UPDATE audit_checkpoint SET note = replace(note, '300', '299')",
        "UPDATE audit_checkpoint SET size = 299",
    ],
)
async def test_checkpoint__is_not_signed_over_what_was_altered(pool: Pool, tamper: str) -> None:
    """A tree that does not lead to the root that was signed before is not signed again."""
    await sealed(pool, 300)
    await signed(pool)
    await pool.execute(tamper)
    await sealed(pool, 5)
    with pytest.raises(TreeDamaged):
        await Checkpointer(pool, KEY, EAGER).run_once()
    assert 1 == await pool.fetchval("SELECT count(*) FROM audit_checkpoint")


PUT_BACK = (
    "TRUNCATE audit_entry, audit_tile, audit_checkpoint, audit_salt CASCADE; "
    "UPDATE audit_log_head SET position = 0;"
)
"""The database as it was before anything was sealed."""


@pytest.mark.parametrize("went_on", [0, 3, 40])
async def test_published__of_a_log_that_was_put_back_is_kept(
    pool: Pool, tmp_path: Path, went_on: int
) -> None:
    """The file shows what the database does not know any more: it stays, nothing is signed, and the status says so."""
    file = tmp_path / "checkpoint"
    settings = replace(EAGER, file=file)
    await sealed(pool, 30)
    before = Checkpointer(pool, KEY, settings)
    await before.run_once()
    published = file.read_text("utf-8")
    await pool.execute(PUT_BACK)
    await sealed(pool, went_on, begin=datetime(2026, 4, 1, tzinfo=UTC))
    for loop in (
        before,
        Checkpointer(pool, KEY, settings),
    ):  # the server that ran meanwhile, and one that starts
        with pytest.raises(LogPutBack, match="put back to an earlier state"):
            await loop.run_once()
    assert published == file.read_text("utf-8")
    assert 0 == await pool.fetchval("SELECT count(*) FROM audit_checkpoint")
    async with connection(pool) as held:
        (conflict,) = await list_conflicts(held)
    assert (True, True) == (str(file) in conflict.place, "30 entries" in conflict.what)
    file.rename(tmp_path / "kept")
    assert min(went_on, 1) == (await loop.run_once()).items
    async with connection(pool) as held:
        assert [] == await list_conflicts(held)


async def test_published__what_is_no_checkpoint_is_kept(pool: Pool, tmp_path: Path) -> None:
    """A setting that names somebody's file costs nobody that file; an empty one is written to."""
    file = tmp_path / "checkpoint"
    await sealed(pool, 3)
    file.write_text("127.0.0.1 localhost\n")
    with pytest.raises(ConfigurationError, match="holds something else"):
        await Checkpointer(pool, KEY, replace(EAGER, file=file)).run_once()
    assert "127.0.0.1 localhost\n" == file.read_text()
    file.write_text("")
    assert 1 == (await Checkpointer(pool, KEY, replace(EAGER, file=file)).run_once()).items
    assert 3 == Checkpoint.parse(verified_note(file)).size


async def test_published__by_a_faster_server_is_not_put_back(pool: Pool, tmp_path: Path) -> None:
    """Of two servers that publish to one file the slower does not replace the newer checkpoint by an older."""
    file = tmp_path / "checkpoint"
    await sealed(pool, 3)
    slow = Checkpointer(pool, KEY, replace(EAGER, entries=10**6, interval=timedelta(days=1), file=file))
    older = await signed(pool)
    await sealed(pool, 2)
    await Checkpointer(pool, KEY, replace(EAGER, file=file)).run_once()
    newest = file.read_text("utf-8")
    await pool.execute("DELETE FROM audit_checkpoint WHERE size > $1", older.size)
    await slow.run_once()
    assert newest == file.read_text("utf-8")


async def test_checkpoint__another_key_is_told_before_anything_is_due(pool: Pool, tmp_path: Path) -> None:
    """A server that cannot sign says so from its first round on, and publishes what others sign."""
    await sealed(pool, 3)
    await signed(pool)
    for key in (SignerKey.generate(KEY.name), None):
        file = tmp_path / f"of {key is None}"
        with pytest.raises(AnotherKeySigns, match=r"INDEXER_AUDIT_KEY_FILE"):
            await Checkpointer(pool, key, replace(EAGER, file=file)).run_once()
        assert 3 == Checkpoint.parse(verified_note(file)).size


# --- keys ------------------------------------------------------------------------------------------------


def settings_of(tmp_path: Path, **given: str) -> Settings:
    return Settings.read({"INDEXER_DATA_DIR": str(tmp_path), **given})


def test_key__is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    """The first start makes the key, readable by its owner only; later ones read it."""
    settings = settings_of(tmp_path / "data")
    made = make_key(settings)
    file = tmp_path / "data" / "audit.key"
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert made.secret_text() == make_key(settings).secret_text()
    assert [file] == list(file.parent.iterdir())


async def test_key__is_not_made_for_a_log_that_another_signs(pool: Pool, tmp_path: Path) -> None:
    """The first server makes the key; one with a data directory of its own on a signed log makes none."""
    settings = settings_of(tmp_path)
    made, newest = await key_to_sign(pool, settings)
    assert (make_key(settings).secret_text(), None) == (made and made.secret_text(), newest)
    await sealed(pool, 3)
    assert made is not None
    await signed(pool, made)
    found, newest = await key_to_sign(pool, settings)
    assert (True, str(made.verifier)) == (found is not None, newest and newest.verifier)
    other = settings_of(tmp_path / "other")
    assert None is (await key_to_sign(pool, other))[0]
    assert [] == list((tmp_path / "other").glob("*"))


async def test_server__says_at_its_start_whose_key_signs(pool: Pool, tmp_path: Path) -> None:
    """A server that will sign nothing says so when it starts, with what to copy; one that signs says nothing."""
    await sealed(pool, 3)
    first = await _key(pool, settings_of(tmp_path), asyncio.Event())
    assert first is not None
    await signed(pool, first)
    with capture_logs() as said:
        assert None is await _key(pool, settings_of(tmp_path / "other"), asyncio.Event())
        again = await _key(pool, settings_of(tmp_path), asyncio.Event())
    assert (["audit_key_cannot_sign"], True) == ([line["event"] for line in said], again is not None)
    assert "INDEXER_AUDIT_KEY_FILE" in said[0]["error"]


@pytest.mark.parametrize(
    ("mode", "named", "says"),
    [
        (0o600, False, None), (0o400, False, None), (0o640, False, "its group can read"),
        (0o644, False, "everybody on this machine can read"), (0o620, False, "its group can write"),
        (0o440, True, None), (0o640, True, None), (0o444, True, "everybody on this machine can read"),
        (0o660, True, "its group can write"), (0o666, True, "everybody on this machine can write"),
    ],
)  # fmt: skip
def test_key__that_others_can_take_is_told(mode: int, named: bool, says: str | None) -> None:
    """Ours is its owner's alone; one that is named may be its group's, as secrets are mounted."""
    said = judge_mode(Path("audit.key"), mode, named=named)
    assert (said is None) if says is None else (says in (said or ""))


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot be read"), ("nothing", "not an Ed25519"), (KEY.secret_text(), "that of log.ex")],
    ids=["missing", "no key", "another's"],
)
def test_key__that_cannot_be_used_is_said_to(tmp_path: Path, text: str | None, says: str) -> None:
    """A named key is never made; one that is missing, damaged or of another log stops the start, and is not shown."""
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=says) as refused:
        make_key(settings_of(tmp_path, INDEXER_AUDIT_KEY_FILE=str(file)))
    assert KEY.secret_text().rpartition("+")[2] not in str(refused.value)


# --- over HTTP -------------------------------------------------------------------------------------------


async def test_proofs__over_http_lead_to_the_checkpoint(api: Api) -> None:
    """What the API proves holds by the RFC's own verification, against the notes it shows."""
    await sealed(api.pool, 300)
    first = await signed(api.pool)
    await sealed(api.pool, 40)
    second = await signed(api.pool)
    answer = await api.get("/api/v1/audit/checkpoint")
    assert ("text/plain", second) == (answer.content_type, Checkpoint.parse(await answer.text()))
    listed = (await api.json("/api/v1/audit/checkpoints"))["items"]
    assert [second, first] == [Checkpoint.parse(item["note"]) for item in listed]
    assert [str(KEY.verifier)] * 2 == [item["key"] for item in listed]
    lines = await (await api.get("/api/v1/audit/export", proof=True, after_position=256, until=258)).text()
    assert [257, 258] == [orjson.loads(line)["position"] for line in lines.splitlines()]
    for line in lines.splitlines():
        entry = orjson.loads(line)
        for size, root in ((None, second.root), (300, first.root)):
            proof = await api.json("/api/v1/audit/proof/inclusion", position=entry["position"], size=size)
            assert entry["leaf_hash"] == proof["leaf_hash"]
            path = [b64decode(one) for one in proof["hashes"]]
            leaf = b64decode(proof["leaf_hash"])
            found = root_from_inclusion(index=proof["leaf_index"], size=proof["size"], leaf=leaf, path=path)
            assert (root, root) == (found, b64decode(proof["root"]))
    grown = await api.json("/api/v1/audit/proof/consistency", first=300, second=340)
    hashes = [b64decode(one) for one in grown["hashes"]]
    assert is_consistent(first=300, second=340, first_root=first.root, second_root=second.root, path=hashes)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("proof/inclusion", {"position": 0}),
        ("proof/inclusion", {"position": 4}),
        ("proof/inclusion", {"position": 2, "size": 6}),
        ("proof/consistency", {"first": 0, "second": 3}),
        ("proof/consistency", {"first": 3, "second": 2}),
        ("proof/consistency", {"first": 3, "second": 6}),
        ("proof/part", {"after_position": 3}),
        ("proof/part", {"size": 0}),
    ],
)
async def test_proof__of_what_is_not_in_the_log_is_refused(
    api: Api, path: str, query: dict[str, int]
) -> None:
    """Positions and sizes that the log, or what was signed of it, does not have are the caller's mistake."""
    await sealed(api.pool, 3)
    await signed(api.pool)
    await sealed(api.pool, 2)
    assert "not_provable" == (await api.problem(f"/api/v1/audit/{path}", 404, **query))["code"]


async def test_proof__before_anything_was_signed(api: Api) -> None:
    """Without a checkpoint nothing can be proven, and none is shown."""
    await sealed(api.pool, 3)
    assert "not_provable" == (await api.problem("/api/v1/audit/proof/part", 404))["code"]
    assert "not_found" == (await api.problem("/api/v1/audit/checkpoint", 404))["code"]


async def test_csv__has_columns_for_what_a_verifier_needs(api: Api) -> None:
    """The table holds the same commitments, salts and leaf hashes as the lines."""
    await sealed(api.pool, 5)
    text = await (await api.get("/api/v1/audit/export", proof=True, format="csv")).text()
    lines = await (await api.get("/api/v1/audit/export", proof=True)).text()
    rows, entries = list(csv.DictReader(io.StringIO(text))), list(map(orjson.loads, lines.splitlines()))
    assert [entry["leaf_hash"] for entry in entries] == [row["leaf_hash"] for row in rows]
    assert [entry["salts"].get("actor", "") for entry in entries] == [row["actor_salt"] for row in rows]
    assert [entry["commitments"].get("client", "") for entry in entries] == [
        row["client_commitment"] for row in rows
    ]


@pytest.mark.parametrize("path", ["checkpoint", "checkpoints", "proof/inclusion?position=1", "proof/part"])
async def test_proof__is_for_who_may_read_the_log(api: Api, path: str) -> None:
    """Nobody without a token learns what the log holds."""
    assert 401 == (await api.client.get(f"/api/v1/audit/{path}")).status


# --- on the command line ---------------------------------------------------------------------------------


class Auditor:
    """Runs ``indexer audit`` on a database, and verifies with nothing but files."""

    def __init__(self, database_url: str, directory: Path) -> None:
        self.machine = Installation(database_url=database_url, directory=directory)
        self.directory = directory
        self.key = make_key(settings_of(directory / "data"))
        (directory / "key").write_text(str(self.key.verifier))

    def made(self, verb: str, *options: str) -> Any:
        """Run a verb that must do."""
        done = self.machine.run("indexer", "audit", verb, *options)
        assert (0, "") == (done.exit_code, "\n".join(done.error_lines) if verb != "export" else ""), (
            done.error
        )
        return done.output

    def export(self, name: str, *options: str) -> None:
        """Write entries and their proof."""
        self.made("export", "--output", self.file(name), "--proof", self.file(f"{name}.proof"), *options)

    def file(self, name: str) -> str:
        return str(self.directory / name)

    def verify(self, *options: str) -> tuple[int, Any]:
        """Verify, without a database and without settings."""
        done = self.machine.run(
            "indexer", "audit", "verify", "--json", "--key", self.file("key"), *options,
            INDEXER_DATABASE_URL=None, INDEXER_DATA_DIR=None,
        )  # fmt: skip
        return done.exit_code, orjson.loads(done.output or "null")


@pytest.fixture
def auditor(database_url: str, tmp_path: Path) -> Auditor:
    return Auditor(database_url, tmp_path)


async def test_command__proves_what_was_exported_and_what_was_dropped(pool: Pool, auditor: Auditor) -> None:
    """An export verifies by files alone; so does one whose entries the database has dropped since."""
    await sealed(pool, 700)
    await signed(pool, auditor.key)
    assert str(auditor.key.verifier) == auditor.made("key").strip()
    auditor.made("checkpoint", "--output", auditor.file("old"))
    auditor.export("all")
    found = auditor.verify(auditor.file("all"), "--checkpoint", auditor.file("old"))
    assert (0, 700, 700) == (found[0], found[1]["entries"], found[1]["size"])
    auditor.made("export", "--after", "100", "--until", "600", "--output", auditor.file("plain"), "--proof",
                 auditor.file("unused"))  # fmt: skip
    packed = auditor.directory / "plain.gz"
    packed.write_bytes(gzip.compress((auditor.directory / "plain").read_bytes()))
    await pool.execute("DELETE FROM audit_entry WHERE position <= 650")
    await sealed(pool, 300)
    await signed(pool, auditor.key)
    auditor.made("proof", "--after", "100", "--until", "600", "--output", auditor.file("later.proof"))
    assert 0 == auditor.verify(str(packed), "--proof", auditor.file("later.proof"))[0]
    packed.write_bytes(packed.read_bytes()[:-20])
    assert (2, None) == auditor.verify(str(packed), "--proof", auditor.file("later.proof"))
    found = auditor.verify(auditor.file("plain"), "--proof", auditor.file("later.proof"))
    assert (0, 101, 600, 1000) == (found[0], found[1]["first"], found[1]["last"], found[1]["size"])
    auditor.made("checkpoint", "--output", auditor.file("new"))
    auditor.made("consistency", "700", "1000", "--output", auditor.file("grown"))
    options = ("--earlier", auditor.file("old"), "--consistency", auditor.file("grown"))
    assert (0, 700) == (
        (found := auditor.verify("--checkpoint", auditor.file("new"), *options))[0], found[1]["grew_from"]
    )  # fmt: skip
    assert 1 == auditor.verify("--checkpoint", auditor.file("old"), *options)[0]


async def test_export__again_is_one_export_and_its_proof(pool: Pool, auditor: Auditor) -> None:
    """A job that exports every day verifies every day: an export that stands is gone on with, or not touched."""
    await sealed(pool, 300)
    await signed(pool, auditor.key)
    await sealed(pool, 3)
    files = ("--output", auditor.file("log"), "--proof", auditor.file("log.proof"))
    verify = (auditor.file("log"), "--proof", auditor.file("log.proof"))
    first = auditor.machine.run("indexer", "audit", "export", *files)
    assert (0, "exported up to position 300: resume with --after 300; 3 entries behind it are not signed yet") == (
        first.exit_code, first.error_lines[-1]
    )  # fmt: skip
    held = (auditor.directory / "log").read_bytes()
    again = auditor.machine.run("indexer", "audit", "export", *files)
    assert (64, held) == (again.exit_code, (auditor.directory / "log").read_bytes())
    assert "--append" in again.error
    assert (0, 300) == ((found := auditor.verify(*verify))[0], found[1]["entries"])
    await signed(pool, auditor.key)
    for entries in (303, 303):  # with something new, and with nothing
        auditor.made("export", *files, "--append")
        assert (0, entries) == ((found := auditor.verify(*verify))[0], found[1]["entries"])
    auditor.made("export", "--output", auditor.file("plain"))
    plain = auditor.machine.run(
        "indexer", "audit", "export", "--output", auditor.file("plain"), *files[2:], "--append"
    )
    assert (64, True) == (plain.exit_code, "made without --proof" in plain.error)
    assert (2, None) == auditor.verify(auditor.file("plain"), "--proof", auditor.file("log.proof"))
    assert [] == list(auditor.directory.glob(".*unfinished"))


async def test_export__does_not_go_on_in_another_log(pool: Pool, auditor: Auditor) -> None:
    """A file of a log that was put back to an earlier state is kept as it is."""
    await sealed(pool, 30)
    await signed(pool, auditor.key)
    auditor.export("log")
    held = (auditor.directory / "log").read_bytes()
    lines = held.splitlines(keepends=True)
    for kept in (
        held.replace(b'"v29"', b'"v30"'),
        held + lines[-1].replace(b'"position":30', b'"position":31'),
    ):
        (auditor.directory / "log").write_bytes(kept)
        done = auditor.machine.run(
            "indexer", "audit", "export", "--append", "--output", auditor.file("log"),
            "--proof", auditor.file("log.proof"),
        )  # fmt: skip
        assert (64, kept) == (done.exit_code, (auditor.directory / "log").read_bytes())
        assert "is not in this log" in done.error


async def test_command__an_empty_checkpoint_is_none_of_this_log(pool: Pool, auditor: Auditor) -> None:
    """A checkpoint whose download failed was given all the same: the one within the proof does not stand in."""
    await sealed(pool, 5)
    await signed(pool, auditor.key)
    auditor.export("log")
    (auditor.directory / "kept").write_bytes(b"")
    proven = (auditor.file("log"), "--proof", auditor.file("log.proof"))
    exit_code, said = auditor.verify(*proven, "--checkpoint", auditor.file("kept"))
    assert (1, "proof") == (exit_code, said["problem"]["fault"])
    missing = auditor.machine.run(
        "indexer", "audit", "verify", auditor.file("none"), "--key", auditor.file("key")
    )
    assert (2, True) == (missing.exit_code, f"{auditor.file('none')} cannot be read" in missing.error)


async def test_command__says_what_it_lacks(pool: Pool, auditor: Auditor) -> None:
    """Missing files and arguments are exit code 2, a checkpoint by another key is 1, and each says why."""
    await sealed(pool, 5)
    assert 1 == auditor.machine.run("indexer", "audit", "export", "--proof", auditor.file("x")).exit_code
    await signed(pool, auditor.key)
    auditor.export("all")
    for options in (
        (),
        (auditor.file("none"), "--proof", auditor.file("all.proof")),
        (auditor.file("all"), "--proof", auditor.file("none")),
        (auditor.file("all"),),
        ("--earlier", auditor.file("all")),
    ):
        assert (2, None) == auditor.verify(*options), options
    for options in (("--format", "csv"), ("--tag", "v1")):
        done = auditor.machine.run("indexer", "audit", "export", "--proof", auditor.file("x"), *options)
        assert (64, 1) == (done.exit_code, len(done.error_lines))
    (auditor.directory / "key").write_text(str(SignerKey.generate(auditor.key.name).verifier))
    exit_code, said = auditor.verify(auditor.file("all"), "--proof", auditor.file("all.proof"))
    assert (1, "proof") == (exit_code, said["problem"]["fault"])
    (auditor.directory / "key").write_text("no key")
    assert (2, None) == auditor.verify(auditor.file("all"), "--proof", auditor.file("all.proof"))


async def test_key__that_does_not_sign_is_not_printed(pool: Pool, auditor: Auditor, tmp_path: Path) -> None:
    """Who asks in the wrong place gets no key, and none is made there; before anything is signed one is."""
    elsewhere = {"INDEXER_DATA_DIR": str(tmp_path / "elsewhere")}

    def ask(*options: str, **given: str | None) -> tuple[int, str, str]:
        done = auditor.machine.run("indexer", "audit", "key", *options, **given)
        return done.exit_code, done.output.strip(), done.error

    nobody = ask(INDEXER_DATABASE_URL=None, **elsewhere)
    assert (64, "", True) == (*nobody[:2], "none is made" in nobody[2])
    await sealed(pool, 3)
    await signed(pool, auditor.key)
    refused = ask(**elsewhere)
    assert (64, "", True) == (
        *refused[:2],
        f"is signed by {auditor.key.verifier}, and there is no key" in refused[2],
    )
    assert not (tmp_path / "elsewhere" / "audit.key").exists()
    file = tmp_path / "new.key"
    made = ask("--make", str(file))
    assert (0, 0o600) == (made[0], stat.S_IMODE(file.stat().st_mode))
    assert 64 == ask("--make", str(file))[0]
    other = ask(INDEXER_AUDIT_KEY_FILE=str(file))
    assert (64, "", True) == (*other[:2], f"the key here is {made[1]}" in other[2])
    file.chmod(0o644)
    alone = ask(INDEXER_AUDIT_KEY_FILE=str(file), INDEXER_DATABASE_URL=None)
    assert (0, made[1], True, True) == (
        *alone[:2],
        "not compared" in alone[2],
        "everybody on this" in alone[2],
    )


async def test_key__is_replaced_only_when_told_to(pool: Pool, auditor: Auditor) -> None:
    """A server with another key signs once the operator has said so; both keys' checkpoints stay on record."""
    await sealed(pool, 3)
    await signed(pool)
    await sealed(pool, 1)
    with pytest.raises(AnotherKeySigns):
        await signed(pool, auditor.key)
    auditor.made("key", "--replace")
    auditor.made("key", "--replace")
    notes = [row["note"] for row in await pool.fetch("SELECT note FROM audit_checkpoint ORDER BY id")]
    verify_note(notes[0], KEY.verifier)
    verify_note(notes[1], VerifierKey.parse(auditor.made("key")))
    assert [3, 4] == [Checkpoint.parse(note).size for note in notes]
    details = [row["detail"] for row in await pool.fetch("SELECT detail FROM audit_staged")]
    assert [{"key": str(auditor.key.verifier), "replaced": str(KEY.verifier)}] == details


async def test_server__killed_between_seal_and_checkpoint(pool: Pool, auditor: Auditor) -> None:
    """Entries sealed by a server that was killed before it signed are signed by the next one."""
    machine = auditor.machine
    try:
        machine.server = machine.start("indexer", "serve", INDEXER_AUDIT_CHECKPOINT_INTERVAL="1h")
        machine.until(machine._is_ready, "the server to be ready")
        await stage(pool, 40, begin=datetime(2026, 1, 1, tzinfo=UTC))
        machine.until_applied()
        machine.end(machine.server, signal.SIGKILL)
        sealed_entries = len(await exported(pool))
        assert 40 == sealed_entries
        machine.server = machine.start("indexer", "serve", INDEXER_AUDIT_CHECKPOINT_INTERVAL="0s")
        machine.until(machine._is_ready, "the server to be ready again")

        def signed_all() -> bool:
            answer = machine.ask("/api/v1/audit/checkpoint")
            return answer.status_code == 200 and Checkpoint.parse(answer.text).size == sealed_entries

        machine.until(signed_all, "a checkpoint of everything")
    finally:
        machine.stop()
    auditor.export("all")
    assert 0 == auditor.verify(auditor.file("all"), "--proof", auditor.file("all.proof"))[0]
