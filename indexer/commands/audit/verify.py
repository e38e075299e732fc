"""``indexer audit verify``: files against files, without a database and settings; or the database against itself."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import cyclopts

from indexer.commands.common import (
    AsJson,
    database_url,
    print_error,
    read_settings,
    run_async,
)
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import printable

if TYPE_CHECKING:
    from indexer.audit.note import Checkpoint, VerifierKey
    from indexer.audit.verify import VerifyResult

EXIT_NOTHING_VERIFIED = 2

GZIP = b"\x1f\x8b"
"""How a compressed file begins."""


def audit_verify(
    export: Annotated[Path | None, cyclopts.Parameter(help="An export that was made with --proof.")] = None,
    /,
    *,
    key: Annotated[
        Path | None, cyclopts.Parameter(help="File with the log's public key, from `indexer audit key`.")
    ] = None,
    checkpoint: Annotated[
        Path | None, cyclopts.Parameter(help="File with the checkpoint. Default: the one in the proof.")
    ] = None,
    proof: Annotated[
        Path | None,
        cyclopts.Parameter(
            help="File with the proof of the export. Without it the export must be the whole log."
        ),
    ] = None,
    earlier: Annotated[
        Path | None,
        cyclopts.Parameter(help="File with an older checkpoint. The log must begin with what it counts."),
    ] = None,
    consistency: Annotated[
        Path | None,
        cyclopts.Parameter(help="File with the proof that it does, from `indexer audit consistency`."),
    ] = None,
    database: Annotated[
        bool,
        cyclopts.Parameter(negative=(), help="Instead compare the log in the database with its Merkle tree."),
    ] = False,
    config: Annotated[
        Path | None, cyclopts.Parameter(name="--config", help="TOML file with settings, for --database.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Verify an export, or that an older checkpoint is the beginning of a newer one.

    Only --database needs a database and settings. Exit code 0: everything is as it was signed; 1: it is not, and the
    first entry that was altered, removed or inserted is named; 2: nothing was verified, because a file is missing or
    the export was made without --proof.
    """
    try:
        if database:
            _check_alone(export, checkpoint, proof, earlier, consistency)
            return _verify_database(config, key=None if key is None else _key(key), json=json)
        wanted = _read_files(
            export,
            key=key,
            checkpoint=checkpoint,
            proof=proof,
            earlier=earlier,
            consistency=consistency,
            progress=not json,
        )
        return _print_verified(_verify(wanted), json=json)
    except ConfigurationError as error:
        print_error(error)
        return EXIT_NOTHING_VERIFIED


def _check_alone(*files: Path | None) -> None:
    if any(file is not None for file in files):
        raise ConfigurationError(
            "--database compares the database with itself: it takes no export and no proof"
        )


def _read_files(
    export: Path | None,
    *,
    key: Path | None,
    checkpoint: Path | None,
    proof: Path | None,
    earlier: Path | None,
    consistency: Path | None,
    progress: bool,
) -> _Files:
    if key is None:
        raise ConfigurationError(
            "--key is missing: the file with the log's public key, from `indexer audit key`"
        )
    if (earlier is None) != (consistency is None):
        raise ConfigurationError("--earlier and --consistency go together")
    if export is None and earlier is None:
        raise ConfigurationError("nothing to verify: name an export, or --earlier and --consistency")
    if export is not None:
        _check_readable(export)
    return _Files(
        export=export,
        key=_key(key),
        checkpoint=None if checkpoint is None else _text(checkpoint),
        proof=None if proof is None else _read(proof),
        earlier=None if earlier is None else _text(earlier),
        consistency=None if consistency is None else _read(consistency),
        progress=progress,
    )


def _print_verified(said: dict[str, Any], *, json: bool) -> int:
    """Print what verification came to; return the exit code."""
    if json:
        sys.stdout.write(json_dumps(said) + "\n")
    elif said["problem"] is None:
        sys.stdout.write(f"verified: {_good(said)}\n")
    else:
        sys.stdout.write(f"NOT verified: {printable(said['problem']['what'])}\n")
    return 0 if said["verified"] else exit_codes.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What the verifier is given, read; the export is read as it is verified."""

    export: Path | None
    key: VerifierKey
    checkpoint: str | None
    proof: bytes | None
    earlier: str | None
    consistency: bytes | None
    progress: bool


def _verify(files: _Files) -> dict[str, Any]:
    from indexer.audit.note import NoteRefused  # noqa: PLC0415
    from indexer.audit.proofs import ProofRefused, check_consistency, parse_part  # noqa: PLC0415
    from indexer.audit.verify import NotProvable, verify_export  # noqa: PLC0415

    said: dict[str, Any] = {"verified": False, "log": str(files.key), "size": None, "problem": None}
    try:
        proof = None if files.proof is None else parse_part(files.proof.splitlines())
        # A file that is empty was given all the same: the proof's own checkpoint must not stand in for it.
        note = files.checkpoint if files.checkpoint is not None else None if proof is None else proof.note
        if note is None:
            raise ConfigurationError("no checkpoint: name it by --checkpoint, or a proof that holds one")
        checkpoint = _signed(note, files.key)
        said["size"] = checkpoint.size
        if files.earlier is not None and files.consistency is not None:
            before = _signed(files.earlier, files.key)
            check_consistency(files.consistency, first=before, second=checkpoint)
            said["grew_from"] = before.size
        if files.export is not None:
            with _lines(files.export, progress=files.progress) as lines:
                said |= _shown(verify_export(lines, checkpoint=checkpoint, proof=proof))
    except NotProvable as error:
        raise ConfigurationError(f"{files.export}: {error}") from None
    except (NoteRefused, ProofRefused) as error:
        said["problem"] = {"fault": "proof", "position": None, "what": str(error)}
    said["verified"] = said["problem"] is None
    return said


def _signed(note: str, key: VerifierKey) -> Checkpoint:
    from indexer.audit.note import Checkpoint, verify_note  # noqa: PLC0415

    verify_note(note, key)
    return Checkpoint.parse(note)


def _shown(verdict: VerifyResult) -> dict[str, Any]:
    problem = verdict.problem
    return {
        "first": verdict.first,
        "last": verdict.last,
        "entries": verdict.verified,
        "erased": verdict.erased,
        "problem": None
        if problem is None
        else {"fault": problem.fault, "position": problem.position, "what": problem.what},
    }


def _good(said: dict[str, Any]) -> str:
    parts = []
    if "grew_from" in said:
        parts.append(f"the log of {said['size']} entries begins with the one of {said['grew_from']}")
    if "entries" in said:
        erased = f", {said['erased']} of them with people erased" if said["erased"] else ""
        parts.append(
            f"entries {said['first']} to {said['last']} of {said['size']} are as they were signed{erased}"
        )
    return "; ".join(parts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _text(path: Path) -> str:
    return _read(path).decode("utf-8", "replace")


def _key(path: Path) -> VerifierKey:
    from indexer.audit.note import NoteRefused, VerifierKey  # noqa: PLC0415

    try:
        return VerifierKey.parse(_text(path))
    except NoteRefused as error:
        raise ConfigurationError(f"--key {path}: {error}") from None


@contextmanager
def _lines(path: Path, *, progress: bool) -> Iterator[Iterable[bytes]]:
    """Open an export, or an archive as it is compressed; on a terminal a bar shows how far it was read."""
    try:
        with path.open("rb") as file, _watched(file, path.stat().st_size, progress=progress) as watched:
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            yield gzip.GzipFile(fileobj=watched) if packed else watched
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


@contextmanager
def _watched(file: BinaryIO, size: int, *, progress: bool) -> Iterator[BinaryIO]:
    if not progress or not sys.stderr.isatty():
        yield file
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and rarely wanted
    from rich.progress import wrap_file  # noqa: PLC0415

    console = Console(stderr=True)
    with wrap_file(file, size, description="verifying", console=console, transient=True) as watched:
        yield watched


def _verify_database(config: Path | None, *, key: VerifierKey | None, json: bool) -> int:
    """Compare the whole log in the database with its tree, and that with what was signed."""
    from functools import partial  # noqa: PLC0415

    from indexer.audit.self_check import check_everything  # noqa: PLC0415
    from indexer.store.pool import close_pool, connection, open_pool  # noqa: PLC0415
    from indexer.store.self_check import Damage  # noqa: PLC0415

    settings = read_settings(config, logs=True)

    async def work() -> tuple[int, int, list[Damage]]:
        pool = await open_pool(database_url(settings), size=2, application="indexer audit verify")
        found: list[Damage] = []
        first = last = 0
        try:
            async for begin, head, damages in check_everything(
                partial(connection, pool), verifier=None if key is None else str(key)
            ):
                first, last = first or begin + 1, head
                found += damages
        finally:
            await close_pool(pool)
        return first, last, found

    first, last, found = run_async(work())
    said: dict[str, Any] = {
        "verified": not found,
        "first": first,
        "last": last,
        "size": last,
        "entries": last - first + 1 - len([damage for damage in found if damage.position]),
        "erased": 0,
        "problem": None,
    }
    if found:
        said["problem"] = {
            "fault": found[0].fault,
            "position": found[0].position or None,
            "what": found[0].what,
        }
    return _print_verified(said, json=json)
