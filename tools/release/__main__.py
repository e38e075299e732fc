"""The steps of a release, in order; ``python3 dev.py release`` comes here.

Exit 0: what is in the output directory may be published. 1: it may not, and why.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools import registry_binary
from tools.release import ReleaseError
from tools.release.contents import check_sdist, check_wheel, checksums, sha256
from tools.release.installed import check_environment, make_environment, run_main_job
from tools.release.sbom import write_sbom

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements.lock"
SUMS: Final = "SHA256SUMS"


def main() -> int:
    """Read the arguments, build, and explain a failure in a line."""
    parser = argparse.ArgumentParser(prog="dev.py release", description="Build and try what is published.")
    parser.add_argument(
        "--draft", action="store_true", help="build what is not final yet, and say what is missing"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where to (dist)")
    wanted = parser.parse_args()
    try:
        release(wanted.output, draft=wanted.draft)
    except (ReleaseError, registry_binary.NoRegistryError) as error:
        sys.stderr.write(f"dev.py release: {error}\n")
        return 1
    return 0


def release(output: Path, *, draft: bool) -> None:
    """Build, check, install, run, describe; nothing is in ``output`` before all of it went well."""
    version = project_version()
    unfinished = [*what_is_not_final(ROOT, version)]
    if unfinished and not draft:
        raise ReleaseError(f"{version} is not final: {'; '.join(unfinished)}. --draft builds it all the same")
    registry = wanted_registry()
    with tempfile.TemporaryDirectory(prefix="registry-indexer-release-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o711)  # as root, PostgreSQL runs as somebody else and has to reach its programs
        built = directory / "built"
        sdist = build("sdist", ROOT, built)
        check_sdist(sdist, ROOT)
        wheel = build("wheel", unpack(sdist, directory / "source"), built)
        check_wheel(wheel, ROOT)
        say(f"built {sdist.name}, and from it {wheel.name}")
        environment = make_environment(directory / "environment", LOCK, wheel)
        check_environment(environment, LOCK, version)
        say(f"installed in an environment of its own, from {LOCK.name}; now the main job from there")
        run_main_job(environment, ROOT, registry)
        bill = built / f"registry-indexer-{version}.cdx.json"
        text = write_sbom(
            environment.distributions(),
            postgres=environment.postgres_version(),
            wheel_sha256=sha256(wheel),
            made_at=now(),
        )
        bill.write_text(text, encoding="utf-8")
        shutil.copyfile(LOCK, built / LOCK.name)
        (built / SUMS).write_text(checksums([*built.iterdir()]), encoding="utf-8")
        hand_over(built, output)
    for each in unfinished:
        say(f"not final: {each}")


def project_version() -> str:
    """Return the version that is being released."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def what_is_not_final(root: Path, version: str) -> Iterator[str]:
    """Name what has to be done before this version may be published."""
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        yield f"CHANGELOG.md has no section [{version}] with a date"
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=False
    )
    if status.returncode != 0 or status.stdout:
        yield "the source tree holds what is not committed"


def wanted_registry() -> registry_binary.FoundRegistry:
    """Take the registry that was found already, or find one."""
    named = os.environ.get("DEMO_REGISTRY")
    return registry_binary.from_text(named) if named else registry_binary.find()


def build(target: str, source: Path, directory: Path) -> Path:
    """Build one archive from a source tree and return its path."""
    before = {*directory.glob("*")}
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    made = {*directory.glob("*")} - before
    if done.returncode != 0 or len(made) != 1:
        raise ReleaseError(f"the {target} could not be built: {done.stdout}{done.stderr}")
    return made.pop()


def unpack(sdist: Path, directory: Path) -> Path:
    """Unpack a source archive and return the directory in it."""
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, filter="data")
    (top,) = directory.iterdir()
    return top


def now() -> datetime:
    """Return the time the release was made, or the one that a reproducible build is given."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)


def hand_over(built: Path, output: Path) -> None:
    """Move every file to where it is published from; the checksums last, so that they never speak of older files."""
    output.mkdir(parents=True, exist_ok=True)
    (output / SUMS).unlink(missing_ok=True)
    for path in sorted(built.iterdir(), key=lambda each: each.name == SUMS):
        shutil.copyfile(path, output / path.name)
        say(f"{output / path.name}")


def say(message: str) -> None:
    """Report progress; standard output stays empty."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
