"""Find a real Distribution registry, or get one: a binary, a container image, a build, a Debian package.

In this order, 3.x before 2.8 where either will do:

1. ``REGISTRY_V3_BIN``, ``REGISTRY_BIN`` in the environment
2. a container engine (docker, podman) that answers in two seconds and gets Distribution's image
3. ``registry`` or ``docker-registry`` on PATH
4. ``go install`` of Distribution 3.1.1, kept in the user's cache
5. Debian's ``docker-registry`` (2.8), downloaded and unpacked without root, kept in the user's cache

What is found is asked for its version; a name proves nothing. Run as a program it prints what it found.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Way: TypeAlias = "Callable[[], FoundRegistry | None]"

GO_MODULE = "github.com/distribution/distribution/v3/cmd/registry"
GO_VERSION = "v3.1.1"
IMAGES = {2: "registry:2.8.3", 3: "registry:3"}
ENGINE_ANSWERS_WITHIN_SECONDS = 2
PULL_WITHIN_SECONDS = 60
OLDER = 2
HINTS = {
    None: "no container registry found and none could be fetched; install docker, podman, Go or Debian's "
    "docker-registry, or set REGISTRY_V3_BIN to a Distribution binary",
    2: "no Distribution 2.8 found; install Debian's docker-registry or set REGISTRY_BIN",
    3: "no Distribution 3 found; install Go or a container engine, or set REGISTRY_V3_BIN",
}


@dataclass(frozen=True, slots=True)
class FoundRegistry:
    """A registry that can be started: a program of this machine, or an image and the engine to run it."""

    version: str
    origin: str
    binary: Path | None = None
    engine: str | None = None
    image: str | None = None

    @property
    def major(self) -> int:
        """2 or 3: they differ in what a client sees."""
        return int(self.version.split(".")[0])

    def to_text(self) -> str:
        """Write it down for another process, which then need not look again."""
        return json.dumps(
            [self.version, self.origin, self.binary and str(self.binary), self.engine, self.image]
        )


def from_text(text: str) -> FoundRegistry:
    """Read what ``to_text`` wrote."""
    version, origin, binary, engine, image = json.loads(text)
    return FoundRegistry(version, origin, Path(binary) if binary else None, engine, image)


class NoRegistryError(Exception):
    """None was found; the message says why, for each way that was tried."""


def say_on_stderr(message: str) -> None:
    """Tell a person what takes a moment."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def find(
    version: int | None = None,
    *,
    engines_last: bool = False,
    patience_seconds: float | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> FoundRegistry:
    """Return the first registry that works, of one major version or, with none given, the newer.

    ``engines_last``: for tests, which kill and restart registries; that is quicker without an engine between.
    ``patience_seconds``: how long a build may take where Debian's package would do instead. The compiler
    keeps what it has done, so the next run ends it.
    """
    tried: list[str] = []
    named = from_environment(version)
    if named is not None:
        return named
    in_a_hurry = patience_seconds if version is None and has_second_way() else None
    by_program: list[Way] = [partial(from_path, 3), partial(from_go, tried, say, in_a_hurry)]
    by_engine: Way = partial(from_engine, 3, tried)
    threes: list[Way] = [*by_program, by_engine] if engines_last else [by_engine, *by_program]
    twos: list[Way] = [
        partial(from_path, 2),
        partial(from_debian, tried, say),
        partial(from_engine, 2, tried),
    ]
    for way in (*(threes if version != OLDER else ()), *(twos if version in {None, OLDER} else ())):
        found: FoundRegistry | None = way()
        if found is not None:
            return found
    raise NoRegistryError("; ".join([HINTS[version], *tried]))


# --- the ways --------------------------------------------------------------------------------------------


def from_environment(version: int | None) -> FoundRegistry | None:
    """Take what the user named; a name that leads nowhere is an error, not a reason to look on."""
    for name in ("REGISTRY_V3_BIN", "REGISTRY_BIN"):
        given = os.environ.get(name)
        if not given:
            continue
        found = examine(Path(given), name)
        if found is None:
            raise NoRegistryError(f"{name}={given} is not a Distribution registry that runs here")
        if version in {None, found.major}:
            return found
    return None


def from_path(version: int) -> FoundRegistry | None:
    """Look for an installed program."""
    for name in ("registry", "docker-registry"):
        path = shutil.which(name)
        found = examine(Path(path), "PATH") if path else None
        if found is not None and found.major == version:
            return found
    return None


def from_engine(version: int, tried: list[str]) -> FoundRegistry | None:
    """Ask an engine for the registry's image, pulling it if need be."""
    image = IMAGES[version]
    for engine in ("docker", "podman"):
        if not shutil.which(engine):
            continue
        if not succeeds([engine, "info"], ENGINE_ANSWERS_WITHIN_SECONDS):
            tried.append(f"{engine} does not answer")
            continue
        present = succeeds([engine, "image", "inspect", image], 10)
        if not present and not succeeds([engine, "pull", "--quiet", image], PULL_WITHIN_SECONDS):
            tried.append(f"{engine} cannot pull {image}")
            continue
        answered = version_of([engine, "run", "--rm", image, "--version"], 30)
        if answered is not None and answered.startswith(f"{version}."):
            return FoundRegistry(answered, engine, engine=engine, image=image)
        tried.append(f"{engine} cannot run {image}")
    return None


def from_go(tried: list[str], say: Callable[[str], None], patience: float | None) -> FoundRegistry | None:
    """Build Distribution 3 with the user's Go; a minute or two, once."""
    target = go_binary()
    go = shutil.which("go")
    if go is None and not target.exists():
        tried.append("no Go toolchain")
        return None
    with cache_lock(target.parent):
        if go is not None and not target.exists():
            say(f"Building Distribution {GO_VERSION} with Go (once; a minute or two) …")
            problem = build(go, target, say, patience)
            if problem:
                tried.append(problem)
                return None
    return examine(target, "go install")


def build_release(version: str, say: Callable[[str], None] = say_on_stderr) -> FoundRegistry:
    """Build one exact release of Distribution 3 (``v3.0.0``) with the user's Go, once; tests run its collector."""
    target = cache_directory() / f"registry-{version}"
    go = shutil.which("go")
    with cache_lock(target.parent):
        if not target.exists():
            if go is None:
                raise NoRegistryError(f"no Go toolchain to build Distribution {version} with")
            say(f"Building Distribution {version} with Go (once; a minute or two) …")
            problem = build(go, target, say, None, version=version)
            if problem:
                raise NoRegistryError(problem)
    found = built(version)
    if found is None:
        raise NoRegistryError(f"{target} is not a Distribution registry that runs here")
    return found


def build(
    go: str, target: Path, say: Callable[[str], None], patience: float | None, *, version: str = GO_VERSION
) -> str | None:
    """Run ``go install`` beside the target and move the result in place; return what went wrong, if so."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOBIN": scratch,
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -trimpath",
        }
        command = [go, "install", "-ldflags=-s -w", f"{GO_MODULE}@{version}"]
        log = Path(scratch, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=scratch)
            try:
                finished = wait_with_progress(process, say, patience)
            finally:
                end(process)
        if not finished:
            say("  … that takes too long now; the next run goes on from here")
            return f"go install took longer than {patience:.0f} s"
        if process.returncode != 0:
            return f"go install failed: {last_line(log)}"
        Path(scratch, "registry").replace(target)
    return None


def wait_with_progress(
    process: subprocess.Popen[bytes], say: Callable[[str], None], patience: float | None
) -> bool:
    """Wait for the build, saying every quarter minute that it still goes on; False when patience ran out."""
    started = time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(
                timeout=15 if patience is None else max(0.1, min(15, started + patience - time.monotonic()))
            )
            return True
        elapsed = time.monotonic() - started
        if patience is not None and elapsed >= patience:
            return False
        say(f"  … still building, {elapsed:.0f} s")


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a build that is still running; asked like this, Go lets its compilers end and keeps their work."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        process.wait()


def from_debian(tried: list[str], say: Callable[[str], None]) -> FoundRegistry | None:
    """Download Debian's package and unpack it in the cache: no root, nothing installed."""
    target = debian_binary()
    if not has_apt() and not target.exists():
        tried.append("no apt-get")
        return None
    with cache_lock(target.parent):
        if not target.exists():
            say("Fetching Debian's docker-registry …")
            problem = unpack_debian(target)
            if problem:
                tried.append(problem)
                return None
    return examine(target, "Debian package")


def has_second_way() -> bool:
    """Tell whether a 2.8 is at hand if building a 3 takes too long."""
    return debian_binary().exists() or has_apt() or from_path(OLDER) is not None


def has_apt() -> bool:
    """Tell whether Debian's packages can be fetched at all."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg"))


def unpack_debian(target: Path) -> str | None:
    """Fetch with the machine's package lists, else with fresh ones of our own; return what went wrong."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        download = ["download", "docker-registry"]
        if not apt(scratch, [], download):
            own = private_lists(Path(scratch))
            if not apt(scratch, own, ["update"]) or not apt(scratch, own, download):
                return "apt-get could not download docker-registry"
        package = next(Path(scratch).glob("docker-registry_*.deb"), None)
        if package is None or not succeeds(["dpkg", "-x", str(package), f"{scratch}/unpacked"], 60):
            return "docker-registry could not be unpacked"
        Path(scratch, "unpacked", "usr", "bin", "docker-registry").replace(target)
    return None


def apt(directory: str, options: list[str], arguments: list[str]) -> bool:
    """Run apt-get in a directory; as root it need not change to its own user, who cannot write there."""
    as_root = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    return succeeds(["apt-get", "-qq", *as_root, *options, *arguments], PULL_WITHIN_SECONDS, directory)


def private_lists(scratch: Path) -> list[str]:
    """Point apt at lists of our own, for machines without any and users who may not write the shared ones."""
    for name in ("lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    return ["-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]


# --- asking and keeping ----------------------------------------------------------------------------------


def examine(path: Path, origin: str) -> FoundRegistry | None:
    """Ask a program for its version; None where it is none that runs here, or no Distribution."""
    version = version_of([str(path), "--version"], 10)
    return FoundRegistry(version, origin, binary=path) if version else None


def version_of(command: list[str], timeout_seconds: float) -> str | None:
    """Read ``… github.com/distribution/distribution/v3 v3.1.1``; other programs are called registry, too."""
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    answered = re.search(r"\S*/distribution(?:/v3)? v?(\d+\.\d+\.\d+\S*)", answer.stdout)
    return answered[1] if answered else None


def succeeds(command: list[str], timeout_seconds: float, directory: str | None = None) -> bool:
    """Run a command for its exit code."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=timeout_seconds,
            cwd=directory,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def built(version: str) -> FoundRegistry | None:
    """Return the registry of one exact version (``v3.0.0``) that was built before; None where it was not."""
    path = cache_directory() / f"registry-{version}"
    return examine(path, "go install") if path.exists() else None


def cache_directory() -> Path:
    """Name the user's cache, where what was fetched outlives the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "registry-indexer"


def go_binary() -> Path:
    """Name the built registry; by version, so that a newer pin builds anew."""
    return cache_directory() / f"registry-{GO_VERSION}"


def debian_binary() -> Path:
    """Name the unpacked registry."""
    return cache_directory() / "docker-registry-debian"


@contextlib.contextmanager
def cache_lock(directory: Path) -> Iterator[None]:
    """Let one process at a time fetch; the others then find it done."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def last_line(log: Path) -> str:
    """Give the end of a program's words."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def main() -> None:
    """Print version, origin and place of what was found; ``2`` or ``3`` asks for that version."""
    versions: list[int | None] = [int(argument) for argument in sys.argv[1:]]
    for version in versions or [None]:
        try:
            found = find(version)
        except NoRegistryError as error:
            sys.exit(str(error))
        print(found.version, found.origin, found.binary or f"{found.engine} {found.image}", sep="\t")


if __name__ == "__main__":
    main()
