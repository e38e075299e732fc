"""The key that signs the log: in a file that only we may read, made where there is none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from indexer.audit.note import NoteRefused, SignerKey
from indexer.errors import ConfigurationError
from indexer.settings import Settings

FILE = "audit.key"
"""Under the data directory."""

_LONGEST_FILE_BYTES = 4096


def read_key(settings: Settings) -> SignerKey:
    """Return the key; makes one under the data directory unless a file is named. Raises ``ConfigurationError``."""
    named = settings.indexer_audit_key_file
    path = named or settings.indexer_data_dir / FILE
    if named is None:
        _make(path, name=settings.indexer_audit_origin)
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


def _make(path: Path, *, name: str) -> None:
    """Make a key where there is none; of several processes that do, one wins and all use its key."""
    if path.exists():
        return
    made = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            made.unlink()
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(SignerKey.generate(name).secret_text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"INDEXER_DATA_DIR: the key {path} cannot be made: {error.strerror}"
        ) from None
