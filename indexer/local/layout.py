"""The files of an embedded server: where they are, what we write into them, and the settings it runs with."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote

from indexer.common.errors import ConfigurationError
from indexer.local.identity import Identity, Strategy, user_name

DATABASE: Final = "indexer"
"""Name of the database and of the role that owns it."""

PORT: Final = 5432  # only part of the socket's file name; nothing listens on TCP
LONGEST_SOCKET_DIRECTORY: Final = 89  # sun_path holds 107 bytes and "/.s.PGSQL.5432.lock" must fit behind
LARGEST_LOG_BYTES: Final = 16 * 1024 * 1024


def make_private_directory(path: Path) -> None:
    """Make the data directory if it is missing; one that exists keeps its mode.

    Under root other users may pass through it, not list it: the server's user must reach its cluster.
    """
    try:
        path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"INDEXER_DATA_DIR {path} cannot be made: {error.strerror}") from error


def make_socket_directory(data_dir: Path, name: str, identity: Identity) -> Path:
    """Make a directory for the server's socket that only its user (and root) can enter, and return it.

    Below ``data_dir`` where the path fits into a socket address; else ``name`` in the temporary directory, which must
    be hard to guess.
    """
    directory = data_dir / "run"
    if len(os.fsencode(directory)) > LONGEST_SOCKET_DIRECTORY:
        directory = Path(short_temporary_directory(), name)
    directory.mkdir(mode=0o700, exist_ok=True)
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid not in {os.geteuid(), identity.uid}:
        raise ConfigurationError(f"{directory} is not a directory of ours; remove it")
    directory.chmod(0o700)
    identity.own(directory)
    return directory


def short_temporary_directory() -> str:
    """Return the temporary directory, or ``/tmp`` where its path is too long for a socket."""
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) < LONGEST_SOCKET_DIRECTORY // 2:
        return usual
    return "/tmp"  # noqa: S108 - the name is unguessable


def remove_temporary_directory(socket_dir: Path | None) -> None:
    """Remove a socket directory that was made for one run; the one below the data directory stays."""
    if socket_dir is None or not socket_dir.name.startswith("indexer-pg-"):
        return
    for leftover in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        with contextlib.suppress(OSError):
            (socket_dir / leftover).unlink()
    with contextlib.suppress(OSError):
        socket_dir.rmdir()


def write_access_rules(cluster: Path, identity: Identity) -> None:
    """Write who may connect: our own user, and root.

    The kernel names the user at the other end of the socket, so no password is needed. In a user namespace it names
    every user "nobody"; there the mode of the directory, which only root can enter, protects the socket.
    """
    if identity.strategy is Strategy.NAMESPACE:
        write_owned(cluster / "pg_hba.conf", "local all all trust\n", identity)
        return
    write_owned(cluster / "pg_hba.conf", "local all all peer map=indexer\n", identity)
    users = sorted({user_name(os.geteuid()), user_name(0)})
    lines = [f'indexer "{user}" {DATABASE}\n' for user in users]
    write_owned(cluster / "pg_ident.conf", "".join(lines), identity)


def write_owned(path: Path, text: str, identity: Identity) -> None:
    """Write a file for the server; never through a symbolic link that its user may have put there."""
    held = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(held, "w", encoding="utf-8") as file:
        file.write(text)
    identity.own(path)


def server_options(socket_dir: Path, *, durable: bool) -> dict[str, str]:
    """Return the server's settings; they go on its command line, so a new version of ours brings new ones."""
    options = {
        "listen_addresses": "",  # the socket alone: no port to clash, nothing to reach from outside
        "unix_socket_directories": f'"{socket_dir}"',
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "cluster_name": "indexer",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "random_page_cost": "1.1",  # flash disks
        "jit": "off",  # our queries take milliseconds; compiling one takes longer
        "wal_compression": "off",  # measured: it costs more than it saves here
        "checkpoint_timeout": "15min",  # fewer full-page images while a full reconcile writes much
        "max_wal_size": "2GB",
        "autovacuum_naptime": "15s",
        "log_checkpoints": "off",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return options


def server_environment() -> dict[str, str]:
    """Return the server's environment: without libpq's variables, and with messages in English, since we read some."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def rotate_log(log: Path) -> int:
    """Rotate the log where it is too large, keeping one old one; return the size of the current one in bytes."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
    return log.stat().st_size if log.exists() else 0


def read_log_from(log: Path, position: int) -> str:
    """Return what the server wrote after a position, as one line."""
    try:
        text = log.read_bytes()[position:].decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.split())


def sync_directory(path: Path) -> None:
    """Make a rename in a directory durable."""
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def socket_url(socket_dir: Path) -> str:
    """Return the URL of our database at a socket; it names the port, so that PGPORT has no effect."""
    return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(str(socket_dir), safe='/')}&port={PORT}"
