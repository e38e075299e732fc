"""Where an embedded server's files lie, what is written in them, and with which settings it runs."""

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

    Root's can be passed through, not read, by others: the server's user must get to its cluster.
    """
    try:
        path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"INDEXER_DATA_DIR {path} cannot be made: {error.strerror}") from error


def make_socket_directory(data_dir: Path, name: str, identity: Identity) -> Path:
    """Give the server a directory for its socket that only its user (and root) can enter.

    Beside the data where the path fits into a socket address, else a short one of the given name, which must
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
    """Give the temporary directory unless it is itself too long for a socket."""
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) < LONGEST_SOCKET_DIRECTORY // 2:
        return usual
    return "/tmp"  # noqa: S108 - the name is unguessable


def remove_temporary_directory(socket_dir: Path | None) -> None:
    """Remove a socket directory that was made for one run; the one beside the data stays."""
    if socket_dir is None or not socket_dir.name.startswith("indexer-pg-"):
        return
    for leftover in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        with contextlib.suppress(OSError):
            (socket_dir / leftover).unlink()
    with contextlib.suppress(OSError):
        socket_dir.rmdir()


def write_access_rules(cluster: Path, identity: Identity) -> None:
    """Say who may connect: we, and root.

    The kernel vouches for the user at the other end of the socket, so there is no password to keep. In a user
    namespace it names every user "nobody"; there the directory, which only root can enter, is the guard.
    """
    if identity.strategy is Strategy.NAMESPACE:
        write_owned(cluster / "pg_hba.conf", "local all all trust\n", identity)
        return
    write_owned(cluster / "pg_hba.conf", "local all all peer map=indexer\n", identity)
    users = sorted({user_name(os.geteuid()), user_name(0)})
    lines = [f'indexer "{user}" {DATABASE}\n' for user in users]
    write_owned(cluster / "pg_ident.conf", "".join(lines), identity)


def write_owned(path: Path, text: str, identity: Identity) -> None:
    """Write a file for the server; never through a link that its user may have put there."""
    held = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(held, "w", encoding="utf-8") as file:
        file.write(text)
    identity.own(path)


def server_options(socket_dir: Path, *, durable: bool) -> dict[str, str]:
    """List our settings, each with its reason; on the command line, so a new version brings its own."""
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
        "checkpoint_timeout": "15min",  # fewer full-page images while a walk rewrites much
        "max_wal_size": "2GB",
        "log_checkpoints": "off",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return options


def server_environment() -> dict[str, str]:
    """Keep libpq's variables away from the server, and its words in English: we read some of them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def rotate_log(log: Path) -> int:
    """Keep one old log; return the size of the present one."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
    return log.stat().st_size if log.exists() else 0


def read_log_from(log: Path, position: int) -> str:
    """Read what the server wrote after a point, as one line."""
    try:
        text = log.read_bytes()[position:].decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.split())


def sync_directory(path: Path) -> None:
    """Make a rename survive a power cut."""
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def socket_url(socket_dir: Path) -> str:
    """Write the URL of our database behind a socket; the port is named so that PGPORT has no say."""
    return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(str(socket_dir), safe='/')}&port={PORT}"
