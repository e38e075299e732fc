"""Whose process the embedded PostgreSQL is; it refuses to be root's.

Root therefore runs it as the user ``registry-indexer`` where there is one who can reach programs and data; else inside
a user namespace that looks like *nobody* from within and is root's from without; and as *nobody* only where neither
works: every other program that runs as nobody could then read the data and signal the server. No user is ever made, and
no permission of a directory that we did not make is ever changed.
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
    """How the server gets a user that is not root."""

    DIRECT = "direct"
    USER = "user"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class Identity:
    """The user the server runs as, and how to get there."""

    strategy: Strategy
    uid: int
    gid: int

    def wrap(self, command: Sequence[str], death_signal: signal.Signals) -> list[str]:
        """Put the launcher before a command, so that it runs as this user and ends with us."""
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
        """Hand a file that we made to the server's user; in a namespace that user is ourselves."""
        if self.strategy is Strategy.USER:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose_identity(binaries: Binaries, data_dir: Path, cluster: Path) -> Identity:
    """Decide who runs the server: the owner of existing data, else the least privileged who can."""
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
    """Run as ourselves; someone else's data is not ours to open."""
    uid, gid = os.geteuid(), os.getegid()
    if cluster.exists() and cluster.stat().st_uid != uid:
        owner = user_name(cluster.stat().st_uid)
        raise ConfigurationError(
            f"{cluster} belongs to {owner}; run as that user or set another INDEXER_DATA_DIR"
        )
    return Identity(Strategy.DIRECT, uid, gid)


def own_identity() -> Identity | None:
    """Return the user that an operator made for us, if there is one."""
    try:
        entry = pwd.getpwnam(OWN_USER)
    except KeyError:
        return None
    return Identity(Strategy.USER, entry.pw_uid, entry.pw_gid)


def shared_account(identity: Identity) -> str | None:
    """Say what is wrong with a server whose user is also that of other programs; None: nothing is."""
    if identity.strategy is not Strategy.USER or identity.uid != nobody_identity().uid:
        return None
    return (
        "PostgreSQL runs as nobody: any other program that does can read its data and end it. Make a user for it "
        f"(`useradd --system {OWN_USER}`) and, while indexer up does not run, give it the data "
        f"(`chown -R {OWN_USER}: <INDEXER_DATA_DIR>/postgres`), or run indexer up as an ordinary user"
    )


def nobody_identity() -> Identity:
    """Give the user that every machine has for programs that should own nothing."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(Strategy.USER, attach.OVERFLOW_ID, attach.OVERFLOW_ID)
    return Identity(Strategy.USER, entry.pw_uid, entry.pw_gid)


def reaches(identity: Identity, binaries: Binaries, data_dir: Path) -> bool:
    """Try it out rather than reason about modes, ACLs and mounts."""
    shared = binaries.postgres.parent.parent / "share"
    question = 'test -x "$1" -a -x "$2" -a -x "$4" && { test ! -e "$3" || test -r "$3"; } && "$1" --version'
    arguments = [str(path) for path in (binaries.postgres, binaries.initdb, shared, data_dir)]
    return can_run(identity, ["/bin/sh", "-c", question, "sh", *arguments])


def can_run(identity: Identity, command: Sequence[str]) -> bool:
    """Run a command as that user and see."""
    wrapped = identity.wrap(command, signal.SIGKILL)
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            wrapped, capture_output=True, check=False, timeout=30, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def user_name(uid: int) -> str:
    """Name a user; by number where the machine does not know it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
