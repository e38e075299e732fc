"""Real clients of registries for the tests, built once with the machine's Go and kept outside the checkout.

    python3 dev.py peers oras regctl cosign

Prints where each is. A client on PATH is taken as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.registry_binary import cache_directory, cache_lock

CLIENTS = {
    "oras": "oras.land/oras/cmd/oras@v1.3.6",
    "regctl": "github.com/regclient/regclient/cmd/regctl@v0.11.7",
    "cosign": "github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5",
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "conformance": "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111",
}
BUILD_WITHIN_SECONDS = 1800
"""Cosign takes minutes."""


class NoClientError(Exception):
    """A client cannot be had here; says why."""


def find(name: str, *, build: bool = True) -> Path:
    """Return where a client is; ``build`` it if it must be. Raise ``NoClientError`` where there is no way."""
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    package = CLIENTS[name]
    directory = cache_directory() / f"{name}-{package.rsplit('@', 1)[1]}"
    target = directory / name
    with cache_lock(directory.parent):
        if target.exists():
            return target
        go = shutil.which("go")
        if go is None or not build:
            raise NoClientError(f"{name} is not on PATH and was not built (python3 dev.py peers {name})")
        directory.mkdir(parents=True, exist_ok=True)
        print(f"Building {package} with Go (once) …", file=sys.stderr, flush=True)
        try:
            done = subprocess.run(
                [go, "install", package],
                env={**os.environ, "GOBIN": str(directory), "CGO_ENABLED": "0"},
                capture_output=True,
                text=True,
                timeout=BUILD_WITHIN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoClientError(f"{name} was not built within {BUILD_WITHIN_SECONDS} s") from None
        if done.returncode:
            raise NoClientError(f"go install {package}: {done.stderr.strip()[-300:]}")
    return target
