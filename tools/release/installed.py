"""A fresh environment with what is to be published in it, and what runs there.

Whatever runs there sees neither the source tree nor the caller's settings.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dev
from tools.release import ReleaseError
from tools.release.contents import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.registry_binary import FoundRegistry

MAIN_JOB: Final = ("demo", "tools")
"""Components of the source tree that the main job needs beside the product."""
NOT_HANDED_ON: Final = ("INDEXER_", "RECONCILER_", "PYTHON", "VIRTUAL_ENV")
PIN: Final = re.compile(r"^([a-z0-9.-]+)==([^\s;]+)", re.MULTILINE)
DISTRIBUTIONS: Final = """
import importlib.metadata, json
print(json.dumps([
    {
        "name": each.metadata["Name"],
        "version": each.version,
        "summary": each.metadata.get("Summary", ""),
        "licence": each.metadata.get("License-Expression") or "",
        "licence_text": each.metadata.get("License") or "",
        "classifiers": each.metadata.get_all("Classifier") or [],
        "requires": each.requires or [],
    }
    for each in importlib.metadata.distributions()
]))
"""
ORIGINS: Final = (
    f"import {', '.join(PACKAGES)}; print({', '.join(f'{each}.__file__' for each in PACKAGES)}, sep='\\n')"
)
POSTGRES: Final = "from indexer.local.binaries import find_binaries; print(find_binaries().postgres)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A package of an environment, as its own metadata describes it."""

    name: str
    version: str
    summary: str
    licence: str
    licence_text: str
    classifiers: Sequence[str]
    requires: Sequence[str]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in a directory of its own."""

    directory: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.directory / "bin" / "python"

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a command of the environment outside of the source tree and return what it printed."""
        name, *rest = map(str, command)
        done = subprocess.run(
            [str(self.directory / "bin" / name), *rest],
            cwd=self.directory,
            env=clean(os.environ) | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ReleaseError(
                f"{' '.join([name, *rest])} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def distributions(self) -> list[Distribution]:
        """List what is installed, by name."""
        found = [Distribution(**each) for each in json.loads(self.run("python", "-I", "-c", DISTRIBUTIONS))]
        return sorted(found, key=lambda each: normal(each.name))

    def postgres_version(self) -> str:
        """Return the version of the embedded server's programs."""
        postgres = Path(self.run("python", "-I", "-c", POSTGRES).strip())
        return self.run(postgres, "--version").split()[2]


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep what concerns the machine, and leave out what would lead back to the caller's own installation."""
    return {name: value for name, value in environment.items() if not name.startswith(NOT_HANDED_ON)}


def normal(name: str) -> str:
    """Return a package's name as locks and package URLs write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_environment(directory: Path, lock: Path, wheel: Path) -> Environment:
    """Install the lock by its hashes, from the machine's own index, and then the wheel, from no index at all.

    Without an index the wheel can only be installed if the lock holds all that it and its extra ``local`` ask for.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    made = Environment(directory)
    dev.install(lock, made.python)
    requirement = f"{wheel.name.split('-')[0].replace('_', '-')}[local] @ {wheel.resolve().as_uri()}"
    dev.put_into(made.python, ["--no-index", requirement])
    return made


def check_environment(environment: Environment, lock: Path, version: str) -> None:
    """Raise ``ReleaseError`` unless the environment holds the wheel, what the lock pins, and nothing else."""
    pinned = dict(PIN.findall(lock.read_text(encoding="utf-8")))
    found = {normal(each.name): each.version for each in environment.distributions()}
    ours = found.pop("registry-indexer", None)
    if ours != version:
        raise ReleaseError(f"installed is registry-indexer {ours}, and not {version}")
    strange = {name: each for name, each in found.items() if pinned.get(name) != each}
    if strange:
        raise ReleaseError(f"the environment holds what {lock.name} does not pin: {strange}")
    for origin in environment.run("python", "-I", "-c", ORIGINS).split():
        if not Path(origin).is_relative_to(environment.directory):
            raise ReleaseError(f"{origin} is not the installed program")
    for command in PACKAGES:
        said = environment.run(command, "--version").strip()
        if version not in said.split():
            raise ReleaseError(f"{command} --version says {said}, and not {version}")


def run_main_job(environment: Environment, root: Path, registry: FoundRegistry) -> None:
    """Run the demo from the installed program: only the demo itself and what starts its registry are the checkout's."""
    stage = environment.directory.with_name("main-job")
    for room in MAIN_JOB:
        shutil.copytree(root / room, stage / room, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [environment.python, "-m", "demo", "--once"],
        cwd=stage,
        env=clean(os.environ) | {"DEMO_REGISTRY": registry.to_text()},
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode != 0:
        raise ReleaseError(f"the main job ended with {done.returncode}; what it said is above")
