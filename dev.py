#!/usr/bin/env python3
"""The developer's machine: one command for each thing a developer does, on nothing but Python and pip.

Only the standard library is used, so that a fresh clone runs with just ``python3``. The first call makes
``.venv`` from a hash-pinned lock, with uv where it is on PATH and with ``pip --python`` elsewhere; that works
without ensurepip and under PEP 668. Later calls compare a stamp and start at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import venv
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
RUN_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements.dev.lock"
STAMP = VENV / "installed.stamp"
OLDEST_PYTHON = (3, 11)
OLDEST_PIP = (22, 3)  # the first that has ``--python``
MEMORY = Path("/dev/shm")  # noqa: S108 - used as /tmp is: for directories of our own
RUN_PREFIX = "registry-indexer-test-"
MEMORY_NEEDED_BYTES = 8 << 30  # the everyday run has 1 GiB there, with four processes
DEMO_PATIENCE_SECONDS = (
    60  # for building a registry where a package would do: the demo is a matter of two minutes
)
CHECKED = ("dev.py", "indexer", "reconciler", "tools", "tests", "benchmarks", "demo")


def stop(message: str) -> NoReturn:
    """End with one line that says what is wrong and what to do."""
    sys.exit(f"dev.py: {message}")


def say(message: str) -> None:
    """Tell the developer what takes a moment; standard output belongs to the command."""
    print(message, file=sys.stderr, flush=True)


# --- the environment -------------------------------------------------------------------------------------


def ensure_environment(lock: Path) -> None:
    """Make ``.venv`` hold everything in ``lock`` and the two commands; do nothing where it does already."""
    if not lock.exists():
        stop(f"{lock.name} is missing; restore it with git or make it with: python3 dev.py lock")
    with only_one():
        if PYTHON.exists() and installed_stamp() in acceptable_stamps(lock):
            return
        if not runs_this_python(PYTHON):
            shutil.rmtree(VENV, ignore_errors=True)
            venv.create(VENV, with_pip=False, symlinks=True)
        STAMP.unlink(missing_ok=True)
        install(lock)
        link_project()
        STAMP.write_text(stamp(lock), encoding="utf-8")


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Let one ``dev.py`` at a time touch ``.venv``; the lock is on this file, so nothing is left behind."""
    with Path(__file__).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def stamp(lock: Path) -> str:
    """Name what makes an environment stale: script, project file, lock, Python, place."""
    parts = [sys.version, str(ROOT)]
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ROOT / "pyproject.toml", lock)]
    parts += [hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def acceptable_stamps(lock: Path) -> set[str]:
    """Accept the developer's environment where the smaller one would do: it holds all of it."""
    return {stamp(path) for path in (lock, DEV_LOCK) if path.exists()}


def installed_stamp() -> str:
    """Say what the environment was made from; empty where its making was interrupted."""
    try:
        return STAMP.read_text(encoding="utf-8")
    except OSError:
        return ""


def runs_this_python(python: Path) -> bool:
    """Tell whether the environment is whole and of the Python that runs this script."""
    question = "import sys; print(sys.version)"
    try:
        answer = subprocess.run(
            [python, "-c", question], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == sys.version.strip()


def install(lock: Path, python: Path = PYTHON) -> None:
    """Install the lock; nothing may be built or added to it."""
    say(f"Installing {lock.name} into {python.parents[1].name} (once; about half a minute) …")
    put_into(python, ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)])


def put_into(python: Path, wanted: list[str]) -> None:
    """Install into an environment with uv, else with pip."""
    uv = shutil.which("uv")
    if uv and run_quietly([uv, "pip", "install", "--quiet", "--python", str(python), *wanted]):
        return
    installer = python_with_pip()
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    as_root = ["--root-user-action", "ignore"]
    pip = [installer, "-m", "pip", "--python", str(python), "install", *quiet, *as_root, *wanted]
    environment = {**os.environ, "PIP_USER": "no", "PIP_REQUIRE_VIRTUALENV": "no"}
    if subprocess.run(pip, env=environment, check=False).returncode != 0:
        stop(f"pip could not install {wanted[-1]}; its own words are above")


def run_quietly(command: list[str]) -> bool:
    """Run a command whose failure has a second way; show its words only then."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        say(f"{command[0]} failed, going on with pip: {done.stderr.strip()}")
    return done.returncode == 0


def python_with_pip() -> str:
    """Find a pip: of this Python, or of the one its environment was made from; else stop with one line."""
    for python in (sys.executable, str(Path(sys.base_prefix, "bin", "python3"))):
        asked = subprocess.run(
            [python, "-m", "pip", "--version"], capture_output=True, text=True, check=False
        )
        version = re.match(r"pip (\d+)\.(\d+)", asked.stdout)
        if version is not None:
            break
    else:
        stop("neither uv nor pip is here; install one, on Debian: apt-get install python3-pip")
    if (int(version[1]), int(version[2])) < OLDEST_PIP:
        found = f"{version[1]}.{version[2]}"
        stop(
            f"pip {found} is too old, 22.3 is needed; on most machines: python3 -m pip install --upgrade pip"
        )
    return python


def link_project() -> None:
    """Make the source tree importable and its commands runnable, as an editable install would.

    Written by hand because an editable install needs a build backend inside the environment, and this needs
    nothing: a ``.pth`` line, the metadata that ``importlib.metadata`` reads, and one script a command.
    """
    import tomllib  # noqa: PLC0415 - absent before 3.11, and main() wants to say so itself

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = VENV / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "registry_indexer.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    for stale in site.glob("registry_indexer-*.dist-info"):
        shutil.rmtree(stale)
    info = site / f"registry_indexer-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "INSTALLER").write_text("dev.py\n", encoding="utf-8")
    for name, target in project["scripts"].items():
        write_command(VENV / "bin" / name, *target.split(":"))


def write_command(path: Path, module: str, function: str) -> None:
    """Write a script that calls one function; by /bin/sh, since a ``#!`` line takes no spaces."""
    path.write_text(
        f"#!/bin/sh\n'''exec' {shlex.quote(str(PYTHON))} \"$0\" \"$@\"\n' '''\n"
        "import sys\n"
        f"from {module} import {function}\n"
        f"sys.exit({function}())\n",
        encoding="utf-8",
    )
    path.chmod(0o755)


# --- the verbs -------------------------------------------------------------------------------------------


def become(*command: str | Path) -> NoReturn:
    """FeedLease into the command, so that signals and the exit code are its own."""
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(command[0], [str(part) for part in command])  # noqa: S606 - no shell wanted


def all_pass(*commands: list[str]) -> NoReturn:
    """Run every command, even after one failed, and say which did."""
    failed = [
        command for command in commands if subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    ]
    for command in failed:
        say(f"failed: {' '.join(Path(part).name if part.startswith('/') else part for part in command)}")
    sys.exit(1 if failed else 0)


def tool(name: str) -> str:
    """Give the path of a program of the environment."""
    return str(VENV / "bin" / name)


def present(*names: str) -> list[str]:
    """Keep the files, and the directories with Python in them: not every part need exist."""
    return [name for name in names if (ROOT / name).is_file() or any((ROOT / name).rglob("*.py"))]


def demo(arguments: list[str]) -> NoReturn:
    """Show the main job end to end on real parts; --once exits after checking what it shows."""
    with looking_for_registry():
        ensure_environment(RUN_LOCK)
    become(PYTHON, "-m", "demo", *arguments)


@contextlib.contextmanager
def looking_for_registry() -> Iterator[None]:
    """Find (at the first time: fetch or build) the demo's registry while the environment is being made."""
    search = threading.Thread(target=find_registry, daemon=True)
    search.start()
    yield
    search.join()
    if not os.environ.get("DEMO_REGISTRY"):
        sys.exit(1)


def find_registry() -> None:
    """Tell the demo what was found; it reads DEMO_REGISTRY with ``tools.registry_binary.from_text``."""
    from tools import registry_binary  # noqa: PLC0415 - needs 3.11, which main() checks first

    try:
        found = registry_binary.find(patience_seconds=DEMO_PATIENCE_SECONDS)
    except registry_binary.NoRegistryError as error:
        say(f"dev.py: {error}")
        return
    os.environ["DEMO_REGISTRY"] = found.to_text()


def test(arguments: list[str]) -> NoReturn:
    """Run the tests that this machine can run, some 10 minutes; --full: the long runs too; --coverage; pytest's."""
    ensure_environment(DEV_LOCK)
    rest = [each for each in arguments if each != "--coverage"]
    keep_bytecode()
    if "--full" not in rest:
        keep_files_in_memory()
    pytest = ["-m", "pytest", *side_by_side(rest), *rest]
    if rest == arguments:
        become(PYTHON, *pytest)
    coverage = [str(PYTHON), "-m", "coverage"]
    for left in ROOT.glob(".coverage*"):
        left.unlink()
    ended = subprocess.run([*coverage, "run", *pytest], cwd=ROOT, check=False).returncode
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)
    subprocess.run([*coverage, "report"], cwd=ROOT, check=False)
    sys.exit(ended)


def keep_bytecode() -> None:
    """Let modules be compiled once, into `.venv` where none are wanted beside the sources: a run loads them often."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(VENV / "bytecode"))


def keep_files_in_memory() -> None:
    """Let tests keep their files in memory where there is plenty: the database of one test is 600 files.

    On a disk, making them takes up to 20 times the CPU. The long run stays on the disk, as operators are; so does
    whoever sets TMPDIR, and a machine without a large directory in memory from which programs may be started.
    """
    if "TMPDIR" in os.environ:
        return
    with contextlib.suppress(OSError):
        free_memory_of_ended_runs()
        found = os.statvfs(MEMORY)
        unused = min(found.f_bavail * found.f_frsize, available_memory_bytes())
        if unused >= MEMORY_NEEDED_BYTES and not found.f_flag & os.ST_NOEXEC:
            ours = MEMORY / f"{RUN_PREFIX}{os.getpid()}"  # pytest will be this process
            ours.mkdir(exist_ok=True)
            ours.chmod(0o711)  # root's PostgreSQL runs as another user
            os.environ["TMPDIR"] = str(ours)


def free_memory_of_ended_runs() -> None:
    """Remove what runs have left that ended, or were killed."""
    for left in MEMORY.glob(f"{RUN_PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(RUN_PREFIX)).exists():
            shutil.rmtree(left, ignore_errors=True)


def available_memory_bytes() -> int:
    """Ask Linux how much memory can be had without swapping."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def side_by_side(arguments: list[str]) -> list[str]:
    """Let tests run in twice as many processes as there are cores, since some of their time is waiting.

    A file stays in one process, since what its tests share (a filled database, a broker) is made once a process.
    """
    alone = {"-n", "--numprocesses", "--collect-only", "--co", "--pdb", "--help", "--version", "--fixtures"}
    if any(each.partition("=")[0] in alone for each in arguments):
        return []
    return ["-n", str(2 * (os.cpu_count() or 1)), "--dist", "loadfile", "--no-loadscope-reorder"]


def peers(arguments: list[str]) -> NoReturn:
    """Get real registries, brokers and clients for the tests: peers NAME …; alone it lists the names."""
    from tools import peers as real  # noqa: PLC0415 - needs 3.11, which main() checks first

    sys.exit(real.main(arguments))


def lint(arguments: list[str]) -> NoReturn:
    """Check style, formatting, the import contracts, and that schema.sql is what the migrations say."""
    ensure_environment(DEV_LOCK)
    paths = arguments or present(*CHECKED)
    all_pass(
        [tool("ruff"), "check", *paths],
        [tool("ruff"), "format", "--check", *paths],
        [str(PYTHON), tool("lint-imports"), "--cache-dir", ".import_linter_cache"],
        [str(PYTHON), "-m", "tools.schema", "--check"],
    )


def types(arguments: list[str]) -> NoReturn:
    """Check the types, strictly."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "mypy", *(arguments or present(*CHECKED)))


def fmt(arguments: list[str]) -> NoReturn:
    """Format the code and repair what can be repaired safely."""
    ensure_environment(DEV_LOCK)
    paths = arguments or present(*CHECKED)
    all_pass([tool("ruff"), "check", "--fix", "--quiet", *paths], [tool("ruff"), "format", *paths])


def bench(arguments: list[str]) -> NoReturn:
    """Measure: bench NAME runs benchmarks/NAME.py, bench alone lists the names."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    if not arguments:
        print("\n".join(names) or "no benchmarks yet")
        sys.exit(0)
    name, *rest = arguments
    if name not in names:
        stop(f"there is no benchmark {name!r}; there are: {', '.join(names) or 'none'}")
    ensure_environment(DEV_LOCK)
    become(PYTHON, ROOT / "benchmarks" / f"{name}.py", *rest)


def docs(arguments: list[str]) -> NoReturn:
    """Run the examples in the documentation and follow its links."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "pytest", "tests/docs", *arguments)


def chaos(arguments: list[str]) -> NoReturn:
    """Let everything fail at random and compare what is left; chaos --help names seeds, storages and versions."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "tests.chaos", *arguments)


def openapi(arguments: list[str]) -> NoReturn:
    """Write the description of the HTTP API anew, after a change of it: indexer/api/openapi.json."""
    ensure_environment(DEV_LOCK)
    write = "from indexer.api.openapi import write_document; write_document()"
    become(PYTHON, "-c", write, *arguments)


def chart(arguments: list[str]) -> NoReturn:
    """Write the table of values in the README of the Helm chart anew, after a change of values.yaml."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "tools.chart", *arguments)


def pin(arguments: list[str]) -> NoReturn:
    """Write deploy/compose.pinned.yaml: the images of deploy/ by the digests they have now (needs skopeo)."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "tools.pin", *arguments)


def dashboard(arguments: list[str]) -> NoReturn:
    """Write the dashboard for Grafana anew, after a change of tools/dashboard.py: deploy/grafana/dashboard.json."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "tools.dashboard", *arguments)


def schema(arguments: list[str]) -> NoReturn:
    """Write schema.sql anew, after a change of a migration; --check only compares."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "tools.schema", *arguments)


def release(arguments: list[str]) -> NoReturn:
    """Build what is published into dist/ and run the main job from it, freshly installed; --draft: not final yet."""
    ensure_environment(DEV_LOCK)
    become(PYTHON, "-m", "tools.release", *arguments)


def lock(arguments: list[str]) -> None:
    """Resolve the dependencies anew into the two locks; arguments go to the resolver, e.g. --upgrade.

    One lock serves Python 3.11 to 3.14 on Linux and macOS, holds wheels only, and names no index: whoever
    installs uses their own. Both hold the extra ``local``: the demo and the tests bring their own PostgreSQL.
    """
    with tempfile.TemporaryDirectory() as scratch:
        resolve = [*uv_command(Path(scratch)), "pip", "compile", "pyproject.toml", "--universal", "--quiet"]
        resolve += ["--python-version", ".".join(map(str, OLDEST_PYTHON)), "--no-python-downloads"]
        resolve += ["--generate-hashes", "--only-binary", ":all:", "--extra", "local"]
        resolve += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        for command in (
            [*resolve, *arguments, "-o", RUN_LOCK.name],
            [*resolve, *arguments, "--group", "dev", "-c", RUN_LOCK.name, "-o", DEV_LOCK.name],
        ):
            if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
                stop("the dependencies do not resolve; the resolver's own words are above")
    for path in (RUN_LOCK, DEV_LOCK):
        if "://" in path.read_text(encoding="utf-8"):
            stop(f"{path.name} names an address; it must not be committed like this")


def uv_command(scratch: Path) -> list[str]:
    """Find the resolver, or fetch it for this once."""
    if uv := shutil.which("uv"):
        return [uv]
    pip = [python_with_pip(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--target", str(scratch), "uv"], check=False).returncode != 0:
        stop("the locks are made by uv; install it first: python3 -m pip install uv")
    return [str(scratch / "bin" / "uv")]


VERBS: dict[str, Callable[[list[str]], None]] = {
    verb.__name__: verb
    for verb in (
        demo,
        test,
        peers,
        lint,
        types,
        fmt,
        bench,
        chaos,
        docs,
        openapi,
        schema,
        chart,
        dashboard,
        pin,
        release,
        lock,
    )
}


def main() -> None:
    """Run the verb, or list the verbs."""
    if sys.version_info < OLDEST_PYTHON:
        stop(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    verb, *arguments = sys.argv[1:] or ["help"]
    if verb in VERBS:
        try:
            VERBS[verb](arguments)
        except KeyboardInterrupt:
            sys.exit(130)
        return
    print("usage: python3 dev.py VERB [ARGUMENTS]\n")
    for name, function in VERBS.items():
        print(f"  {name:8} {(function.__doc__ or '').splitlines()[0]}")
    sys.exit(0 if verb in {"help", "-h", "--help"} else 2)


if __name__ == "__main__":
    main()
