"""An S3 on this machine for registries under test: moto's server, which keeps objects in memory.

It lives as long as its process: a registry may be stopped, killed and started again on it. It asks for no credentials.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.ports import free_port
from tools.registry_server import ATTACH

READY_WITHIN_SECONDS = 60
ROOT = "/content"
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
"""moto checks no signature, but answers a request that changes something without this header with 403."""


class S3FailedError(Exception):
    """It did not start, or said no; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket, for one registry or several processes of it."""

    server: S3Server
    name: str

    def storage(self) -> dict[str, Any]:
        """Return what a registry's configuration says, laid over that of ``RegistrySettings``, to store here."""
        return {
            "storage": {
                "filesystem": None,
                "s3": {
                    "accesskey": "test",
                    "secretkey": "test",
                    "region": "us-east-1",
                    "regionendpoint": self.server.url,
                    "bucket": self.name,
                    "forcepathstyle": True,
                    "secure": False,
                    "rootdirectory": ROOT,
                },
                "redirect": {"disable": True},
            }
        }

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys under a prefix, sorted."""
        keys: list[str] = []
        while True:
            start = f"&start-after={quote(keys[-1])}" if keys else ""
            body = self.server.ask("GET", f"/{self.name}?list-type=2&prefix={quote(prefix)}{start}")
            page = [piece.partition("</Key>")[0] for piece in body.split("<Key>")[1:]]
            keys += page
            if not page or "<IsTruncated>true" not in body:
                return keys

    def copy_object(self, source: str, target: str) -> None:
        """Copy an object, behind the registry's back; nothing where it is not there any more."""
        self.server.ask("PUT", f"/{self.name}/{target}", {"x-amz-copy-source": f"/{self.name}/{source}"})

    def delete_object(self, key: str) -> None:
        """Delete an object, behind the registry's back."""
        self.server.ask("DELETE", f"/{self.name}/{key}")


class S3Server:
    """One S3, from ``start`` to ``stop``."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._port}"

    def bucket(self, name: str) -> Bucket:
        """Make a bucket."""
        self.ask("PUT", f"/{name}")
        return Bucket(self, name)

    def start(self) -> None:
        """Start it and return once it answers."""
        server = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(self._port)]
        tie = [sys.executable, "-I", "-S", str(ATTACH), "--signal", "9", "--parent", str(os.getpid()), "--"]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*tie, *server], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                words = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise S3FailedError(f"moto_server did not start: {' / '.join(words[-3:])}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; its content goes with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> str:
        """Ask and return the body; raise ``S3FailedError`` if it may not be asked for."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, headers={"Authorization": AUTHORIZATION} | (headers or {}))
            answer = connection.getresponse()
            body = answer.read().decode("utf-8", "replace")
            if answer.status == http.client.FORBIDDEN:
                raise S3FailedError(f"{method} {path}: 403 {body}")
            return body
        finally:
            connection.close()
