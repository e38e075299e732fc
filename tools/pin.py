"""Writes ``deploy/compose.pinned.yaml``: the images that ``deploy/`` names, by the digest they have now.

The files in the repository name images by tag (docs/adr/0067). Whoever builds a release or deploys runs this, so that
every later build and start has the same images, and moves them when they choose. Needs skopeo, and the registries of
the images.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
FILE = DEPLOY / "compose.pinned.yaml"
PYTHON = "PYTHON_IMAGE"
OURS = ("migrate", "indexer", "reconciler")
"""Services that are built from the Dockerfile."""

_HEAD = """\
# Made by `python3 dev.py pin`. The digests that the tags stood for then:
#   docker compose --file compose.yaml --file compose.pinned.yaml up --build
"""
_SECONDS = 120


def named_images() -> dict[str, str]:
    """Return the images that the files name: by service, and the base of our own by ``PYTHON_IMAGE``."""
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    services = re.findall(r"^  (\w+):\n    image: (\S+)$", compose, re.MULTILINE)
    base = re.search(rf"^ARG {PYTHON}=(\S+)$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    if base is None:
        raise ValueError(f"the Dockerfile has no ARG {PYTHON}")
    return {**dict(services), PYTHON: base[1]}


def digest_of(image: str, *, insecure: bool = False) -> str:
    """Return the digest of what a tag stands for (of an image for several platforms: of its index)."""
    command = [
        "skopeo",
        "inspect",
        "--raw",
        *(["--tls-verify=false"] if insecure else []),
        f"docker://{image}",
    ]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    if done.returncode != 0:
        raise ValueError(f"{image}: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}"


def pinned(images: Mapping[str, str], digest: Callable[[str], str]) -> str:
    """Return the text of the file."""
    whole = {name: f"{image}@{digest(image)}" for name, image in images.items()}
    lines = [_HEAD, "services:"]
    lines += [f'  {name}: {{image: "{image}"}}' for name, image in whole.items() if name != PYTHON]
    lines += [f'  {name}: {{build: {{args: {{{PYTHON}: "{whole[PYTHON]}"}}}}}}' for name in OURS]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the file, and say what is in it."""
    if shutil.which("skopeo") is None:
        sys.stderr.write("skopeo is needed; Debian and Ubuntu have it as a package\n")
        return 1
    try:
        text = pinned(named_images(), digest_of)
    except ValueError as error:
        sys.stderr.write(f"nothing was written: {error}\n")
        return 1
    FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
