"""The key that signs the log: in a file that only we may read, made where there is none and the log has none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from indexer.audit.note import NoteRefused, SignerKey
from indexer.common.errors import ConfigurationError
from indexer.settings import Settings

FILE = "audit.key"
"""Under the data directory."""

_LONGEST_FILE_BYTES = 4096


def find_key(settings: Settings) -> SignerKey | None:
    """Return the key that is in place; None: none is named, and none was made. Raises ``ConfigurationError``."""
    path = path_of(settings)
    if settings.indexer_audit_key_file is None and not path.exists():
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE_BYTES).decode("ascii", "replace")
        key = SignerKey.parse(text)
    except OSError as error:
        raise ConfigurationError(f"INDEXER_AUDIT_KEY_FILE: {path} cannot be read: {error.strerror}") from None
    except NoteRefused as error:
        raise ConfigurationError(f"INDEXER_AUDIT_KEY_FILE: {path}: {error}") from None
    if key.name != settings.indexer_audit_origin:
        raise ConfigurationError(
            f"INDEXER_AUDIT_ORIGIN is {settings.indexer_audit_origin}, but the key in {path} is that of {key.name}: "
            "set the origin to the key's name, or give the log a key of its own"
        )
    return key


def make_key(settings: Settings) -> SignerKey:
    """Return the key that is in place, made under the data directory where there is none.

    Only for a log that nobody signs yet, or that shall get another key: a second key signs nothing. Raises
    ``ConfigurationError``.
    """
    if settings.indexer_audit_key_file is None:
        _make(path_of(settings), name=settings.indexer_audit_origin)
    key = find_key(settings)
    assert key is not None  # noqa: S101 - made above, or named
    return key


def write_new_key(path: Path, *, name: str) -> SignerKey:
    """Make a key in a file that is not there yet. Raises ``ConfigurationError``."""
    key = SignerKey.generate(name)
    try:
        _write(path, key)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: a key is never replaced") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    return key


def path_of(settings: Settings) -> Path:
    """Return where the key is looked for."""
    return settings.indexer_audit_key_file or settings.indexer_data_dir / FILE


def exposed(settings: Settings) -> str | None:
    """Say that others than its owner can read or write the key, if they can; None: they cannot, or there is none."""
    path = path_of(settings)
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return judge_mode(path, mode, named=settings.indexer_audit_key_file is not None)


def judge_mode(path: Path, mode: int, *, named: bool) -> str | None:
    """Say whether the mode of a key's file lets others at it; a ``named`` one may be its group's, as secrets are."""
    others = mode & (0o027 if named else 0o077)
    if not others:
        return None
    whoever = "everybody on this machine" if others & 0o007 else "its group"
    what = "write" if others & 0o022 else "read"
    return (
        f"{whoever} can {what} the key {path} (mode {mode & 0o777:04o}), and who has it can sign another log: "
        f"chmod {'640' if named else '600'}"
    )


def _make(path: Path, *, name: str) -> None:
    """Make a key where there is none; of several processes that do, one wins and all use its key."""
    if path.exists():
        return
    made = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.unlink(missing_ok=True)
        _write(made, SignerKey.generate(name))
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"INDEXER_DATA_DIR: the key {path} cannot be made: {error.strerror}"
        ) from None


def _write(path: Path, key: SignerKey) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.secret_text() + "\n")
        file.flush()
        os.fsync(file.fileno())
