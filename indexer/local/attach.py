"""Launcher: becomes another program, under the given user, that ends when its parent does.

Run by path, with ``--signal 2 --parent 4711 [--user 65534:65534 | --userns] -- PROGRAM …``. Changing the user and
asking for the parent's death signal must happen after the fork and before the exec, where Python code of a process with
threads may not run, so this is a program of its own. The user comes first: the kernel clears the death signal when it
changes. The process id stays the same through the exec.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
OVERFLOW_ID = 65534  # "nobody" on every Linux; the one other user that exists without anyone creating it
CANNOT = 71  # EX_OSERR, which none of the programs uses itself


def enter_user_namespace() -> None:
    """Enter a user namespace in which we are nobody; outside we are root still, so root's files open."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a user namespace")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{OVERFLOW_ID} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{OVERFLOW_ID} {gid} 1", encoding="ascii")


def become_user(user: str) -> None:
    """Give up root for good; no supplementary group is kept."""
    uid, gid = (int(part) for part in user.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def end_with_parent(signal_number: int, parent: int) -> None:
    """Ask the kernel for a signal when the parent ends; exit at once if it has ended already.

    Linux only; elsewhere the next start finds the orphan and stops it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(CANNOT)


def main() -> None:
    """Change the user, ask for the parent's death signal, become the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("--userns", action="store_true")
    parser.add_argument("command", nargs="+")
    wanted = parser.parse_args()
    try:
        if wanted.userns:
            enter_user_namespace()
        elif wanted.user:
            become_user(wanted.user)
        end_with_parent(wanted.signal, wanted.parent)
        os.execv(wanted.command[0], wanted.command)  # noqa: S606 - no shell wanted
    except OSError as error:
        sys.stderr.write(f"{wanted.command[0]}: {error}\n")
        sys.exit(CANNOT)


if __name__ == "__main__":
    main()
