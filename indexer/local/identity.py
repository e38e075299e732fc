"""The user that the embedded PostgreSQL runs as; it refuses to run as root.

Under root it is the user ``registry-indexer``, if that exists and can reach programs and data; else *nobody* in a user
namespace, which is root outside of it; and the real *nobody* only where neither works, since every other program that
runs as nobody could read the data and signal the server. No user is created, and no permission of a directory that we
did not make is changed.
"""

from __future__ import annotations

import enum
import os
import pwd
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from indexer.common.errors import ConfigurationError
from indexer.local import attach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.local.binaries import Binaries


OWN_USER: Final = "registry-indexer"


class Strategy(enum.Enum):
    """How the server gets a user other than root."""

    DIRECT = "direct"
    USER = "user"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that the server runs as, and how it becomes that user."""

    strategy: Strategy
    uid: int
    gid: int

    def wrap(self, command: Sequence[str], death_signal: signal.Signals) -> list[str]:
        """Return a command with the launcher in front, so that it runs as this user and ends with this process."""
        launcher = [sys.executable, "-I", "-S", attach.__file__, "--signal", str(int(death_signal))]
        launcher += ["--parent", str(os.getpid())]
        match self.strategy:
            case Strategy.USER:
                launcher += ["--user", f"{self.uid}:{self.gid}"]
            case Strategy.NAMESPACE:
                launcher += ["--userns"]
            case Strategy.DIRECT:
                pass
        return [*launcher, "--", *command]

    def own(self, path: Path) -> None:
        """Give a file that we made to the server's user; in a namespace that is our own user."""
        if self.strategy is Strategy.USER:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose_identity(binaries: Binaries, data_dir: Path, cluster: Path) -> Identity:
    """Return who runs the server: the owner of existing data, else the least privileged user who can.

    Raises ``ConfigurationError`` where there is none.
    """
    if os.geteuid() != 0:
        return direct_identity(cluster)
    if cluster.exists():
        owner = cluster.stat()
        if owner.st_uid != 0:
            return Identity(Strategy.USER, owner.st_uid, owner.st_gid)
    else:
        own = own_identity()
        if own is not None and reaches(own, binaries, data_dir):
            return own
    namespace = Identity(Strategy.NAMESPACE, 0, 0)
    if can_run(namespace, [str(binaries.postgres), "--version"]):
        return namespace
    nobody = nobody_identity()
    if not cluster.exists() and reaches(nobody, binaries, data_dir):
        return nobody
    raise ConfigurationError(
        "PostgreSQL does not run as root, and neither way around that works here: user namespaces are "
        f"not allowed, and the user nobody cannot reach {binaries.postgres} and {data_dir}; set "
        "INDEXER_DATA_DIR to a directory that others may enter (like /var/lib/registry-indexer), or run indexer up as "
        "an ordinary user"
    )


def direct_identity(cluster: Path) -> Identity:
    """Return our own user; raise ``ConfigurationError`` where the data belongs to another."""
    uid, gid = os.geteuid(), os.getegid()
    if cluster.exists() and cluster.stat().st_uid != uid:
        owner = user_name(cluster.stat().st_uid)
        raise ConfigurationError(
            f"{cluster} belongs to {owner}; run as that user or set another INDEXER_DATA_DIR"
        )
    return Identity(Strategy.DIRECT, uid, gid)


def own_identity() -> Identity | None:
    """Return the user ``registry-indexer``, if an operator created it."""
    try:
        entry = pwd.getpwnam(OWN_USER)
    except KeyError:
        return None
    return Identity(Strategy.USER, entry.pw_uid, entry.pw_gid)


def shared_account(identity: Identity) -> str | None:
    """Return a warning where other programs run as the server's user, too; None: they do not."""
    if identity.strategy is not Strategy.USER or identity.uid != nobody_identity().uid:
        return None
    return (
        "PostgreSQL runs as nobody: any other program that does can read its data and end it. Make a user for it "
        f"(`useradd --system {OWN_USER}`) and, while indexer up does not run, give it the data "
        f"(`chown -R {OWN_USER}: <INDEXER_DATA_DIR>/postgres`), or run indexer up as an ordinary user"
    )


def nobody_identity() -> Identity:
    """Return the user *nobody*, by its usual number where the machine does not list it."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(Strategy.USER, attach.OVERFLOW_ID, attach.OVERFLOW_ID)
    return Identity(Strategy.USER, entry.pw_uid, entry.pw_gid)


def reaches(identity: Identity, binaries: Binaries, data_dir: Path) -> bool:
    """Return whether that user can run the programs there. Tried out, since modes, ACLs and mounts all count."""
    shared = binaries.postgres.parent.parent / "share"
    script = 'test -x "$1" -a -x "$2" -a -x "$4" && { test ! -e "$3" || test -r "$3"; } && "$1" --version'
    arguments = [str(path) for path in (binaries.postgres, binaries.initdb, shared, data_dir)]
    return can_run(identity, ["/bin/sh", "-c", script, "sh", *arguments])


def can_run(identity: Identity, command: Sequence[str]) -> bool:
    """Return whether a command runs as that user and succeeds."""
    wrapped = identity.wrap(command, signal.SIGKILL)
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            wrapped, capture_output=True, check=False, timeout=30, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def user_name(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
