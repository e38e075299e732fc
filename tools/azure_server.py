"""An Azure blob storage on this machine for registries under test: Azurite, from npm, kept outside the checkout.

    python3 dev.py peers azurite

Prints where it is. Needs Node.js; to fetch it, npm. It keeps its blobs in a directory, until the test ends.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

from tools.ports import free_port
from tools.registry_binary import cache_directory, cache_lock
from tools.registry_server import ATTACH

VERSION = "3.35.0"
PROGRAM = Path("node_modules/azurite/dist/src/blob/main.js")
FETCH_WITHIN_SECONDS = 600
READY_WITHIN_SECONDS = 60
ROOT = "/content"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key that every emulator of Azure has, published by Microsoft."""
API = "2021-08-06"


class NoAzureError(Exception):
    """Azurite cannot be had here, did not start, or said no; says why."""


def find(*, fetch: bool = True) -> Path:
    """Return where Azurite is; ``fetch`` it if it must be. Raise ``NoAzureError`` where there is no way."""
    if shutil.which("node") is None:
        raise NoAzureError("Azurite needs Node.js, and node is not on PATH")
    directory = cache_directory() / f"azurite-{VERSION}"
    with cache_lock(directory.parent):
        if (directory / "complete").exists():
            return directory / PROGRAM
        npm = shutil.which("npm")
        if npm is None or not fetch:
            raise NoAzureError("Azurite was not fetched (python3 dev.py peers azurite, needs npm)")
        directory.mkdir(parents=True, exist_ok=True)
        print(f"Fetching Azurite {VERSION} with npm (once) …", file=sys.stderr, flush=True)
        command = [npm, "install", "--prefix", str(directory), "--no-audit", "--no-fund", "--no-save"]
        try:
            done = subprocess.run(
                [*command, f"azurite@{VERSION}"],
                capture_output=True,
                text=True,
                timeout=FETCH_WITHIN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoAzureError(f"Azurite was not fetched within {FETCH_WITHIN_SECONDS} s") from None
        if done.returncode or not (directory / PROGRAM).exists():
            raise NoAzureError(f"npm install azurite@{VERSION}: {done.stderr.strip()[-300:]}")
        (directory / "complete").touch()
    return directory / PROGRAM


@dataclass(frozen=True, slots=True)
class Container:
    """One container, for one registry."""

    server: AzureServer
    name: str

    def storage(self) -> dict[str, Any]:
        """Return what a registry's configuration says, laid over that of ``RegistrySettings``, to store here."""
        return {
            "storage": {
                "filesystem": None,
                "azure": {
                    "accountname": ACCOUNT,
                    "accountkey": KEY,
                    "container": self.name,
                    "realm": "core.windows.net",
                    "serviceurl": self.server.url,
                    "credentials": {"type": "shared_key"},
                    "rootdirectory": ROOT,
                },
                "redirect": {"disable": True},
            }
        }


class AzureServer:
    """One blob storage, from ``start`` to ``stop``, in ``directory``."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The account's URL."""
        return f"http://127.0.0.1:{self._port}/{ACCOUNT}"

    def container(self, name: str) -> Container:
        """Make a container."""
        status, body = self._put(f"/{ACCOUNT}/{name}", "restype:container", "restype=container")
        if status != http.client.CREATED:
            raise NoAzureError(f"the container {name} was not made: {status} {body}")
        return Container(self, name)

    def start(self) -> None:
        """Start it and return once it answers."""
        server = [
            *(
                shutil.which("node") or "node",
                str(self._program),
                "--silent",
                "--disableTelemetry",
                "--skipApiVersionCheck",
            ),
            *("--blobHost", "127.0.0.1", "--blobPort", str(self._port), "--location", str(self._directory)),
        ]
        tie = [sys.executable, "-I", "-S", str(ATTACH), "--signal", "9", "--parent", str(os.getpid()), "--"]
        log_path = self._directory / "azurite.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*tie, *server], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                words = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise NoAzureError(f"Azurite did not start: {' / '.join(words[-3:])}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def _put(self, path: str, canonical: str, query: str) -> tuple[int, str]:
        """Ask to make something, signed with the account's key ("Authorize with Shared Key", API 2021-08-06)."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": API}
        signed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        text = "PUT" + "\n" * 12 + signed + f"/{ACCOUNT}{path}\n{canonical}"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("PUT", f"{path}?{query}", headers=headers | {"Content-Length": "0"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
