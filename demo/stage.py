"""The parts, from first start to last stop: a registry, ``indexer up``, and a registry that keeps quiet.

All of them are the real programs. They live in a temporary directory and on free ports of 127.0.0.1, end with
this process (on Linux even if it is killed), and leave nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from tools import registry_binary
from tools.ports import free_port
from tools.registry_server import ATTACH, Endpoint, RegistryFailedError, RegistryServer, RegistrySettings
from tools.sample_images import Pusher

if TYPE_CHECKING:
    from types import TracebackType

READY_WITHIN_SECONDS = 90.0
ENDS_WITHIN_SECONDS = 30.0
WALKS_WITHIN_SECONDS = 120.0
LAST_LINES = 15

# Distribution reads bcrypt alone, which Python does not write: hashed beforehand, `<name>-password` each.
HTPASSWD = """\
ci:$2y$04$registrydemousersforc.J0ORte9MSeQ3DiLuy1SGIxPCPlDmxUa
alice:$2y$04$registrydemousersalic.IZc/FN0.JcUPLRgqnsm6ssyJyIJT9vm
reconciler:$2y$04$registrydemousersreco.IMNmQNyITA4/2rAhgdncXUrMf1IAEne
"""

LAYERS_ONLY = {"mediatypes": ["application/octet-stream"]}
"""What to leave out. Pulls stay in, unlike on a busy registry: the listing counts them."""


class DemoError(Exception):
    """Something did not go as it must; the message says what."""


class Stage:
    """Everything that runs. Use it as a context."""

    def __init__(self, found: registry_binary.FoundRegistry) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="registry-indexer-demo-"))
        self.directory.chmod(0o711)  # as root, PostgreSQL runs as somebody else and has to reach its data
        self.api_token = secrets.token_urlsafe(12)
        self.operator_token = secrets.token_urlsafe(12)
        self.listen = f"127.0.0.1:{free_port()}"
        self._notifications_token = secrets.token_urlsafe(24)
        storage = self.directory / "storage"
        post_to = Endpoint(self.notifications_url, self._notifications_token, ignore=LAYERS_ONLY)
        self.registry = self._registry(found, "registry", storage, [post_to])
        self.quiet_registry = self._registry(found, "quiet-registry", storage, [])
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """Where the indexer answers."""
        return f"http://{self.listen}"

    @property
    def notifications_url(self) -> str:
        """Where the registry posts."""
        return f"{self.base_url}/notifications"

    @property
    def up_log(self) -> Path:
        """What ``indexer up`` and its programs say."""
        return self.directory / "indexer-up.log"

    def start(self) -> None:
        """Start the registry and ``indexer up``, and return once both answer."""
        self._start_up()
        try:
            self.registry.start()
        except RegistryFailedError as error:
            raise DemoError(str(error)) from error
        self._wait_until_ready()

    def client(self, user: str, *, quiet: bool = False) -> Pusher:
        """Talk to the registry as one of its users; ``quiet``: by the process that sends no notifications."""
        registry = self.quiet_registry if quiet else self.registry
        return Pusher(registry.url, username=user, password=f"{user}-password", user_agent="demo/1")

    def reconcile(self) -> dict[str, Any]:
        """Run ``reconciler once`` and return its report."""
        done = subprocess.run(  # noqa: S603 - our own command
            [command("reconciler"), "once", "--json"],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=WALKS_WITHIN_SECONDS,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise DemoError(
                f"reconciler once ended with {done.returncode}: {done.stdout} {done.stderr[-2000:]}"
            )
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def wait(self) -> None:
        """Stay until ``indexer up`` ends, which it should not do by itself."""
        if self._up is not None:
            raise DemoError(f"indexer up ended with {self._up.wait()}")

    def stop(self) -> None:
        """Stop everything in good order and remove every trace."""
        if self._up is not None and self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._up.wait(timeout=ENDS_WITHIN_SECONDS)
            self._up.kill()
            self._up.wait()
        self.quiet_registry.stop()
        self.registry.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_words(self) -> str:
        """Say how the log of ``indexer up`` ends."""
        if not self.up_log.exists():
            return "it said nothing"
        return "\n".join(self.up_log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])

    def _registry(
        self, found: registry_binary.FoundRegistry, name: str, storage: Path, notifications: list[Endpoint]
    ) -> RegistryServer:
        directory = self.directory / name
        directory.mkdir()
        passwords = directory / "htpasswd"
        passwords.write_text(HTPASSWD, encoding="ascii")
        settings = RegistrySettings(
            directory=directory,
            storage_dir=storage,
            notifications=notifications,
            extra={"auth": {"htpasswd": {"realm": "registry", "path": str(passwords)}}},
        )
        return RegistryServer(found, settings)

    def _environment(self) -> dict[str, str]:
        """Keep the user's own settings away; this is the whole configuration."""
        ours = ("INDEXER_", "RECONCILER_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "INDEXER_DATA_DIR": str(self.directory / "data"),
            "INDEXER_LISTEN": self.listen,
            "INDEXER_NOTIFICATIONS_TOKEN": self._notifications_token,
            "INDEXER_API_TOKENS": self.api_token,
            "INDEXER_OPERATOR_TOKENS": f"operator:{self.operator_token}",
            "INDEXER_REGISTRY_HOST": self.registry.host,
            "RECONCILER_REGISTRY_URL": self.registry.url,
            "RECONCILER_REGISTRY_USERNAME": "reconciler",
            "RECONCILER_REGISTRY_PASSWORD": "reconciler-password",
        }

    def _start_up(self) -> None:
        tied = [sys.executable, "-I", "-S", str(ATTACH), "--signal", str(int(signal.SIGTERM))]
        with self.up_log.open("wb") as log:
            self._up = subprocess.Popen(  # noqa: S603 - our own command
                [*tied, "--parent", str(os.getpid()), "--", command("indexer"), "up"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us; we stop it in good order
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if self._up is not None and self._up.poll() is not None:
                raise DemoError(f"indexer up ended with {self._up.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.base_url}/readyz", timeout=5).is_success:
                    return
            time.sleep(0.05)
        raise DemoError(f"not ready after {READY_WITHIN_SECONDS:.0f} s")


def command(name: str) -> str:
    """Give the path of one of our commands, installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def find_registry() -> registry_binary.FoundRegistry:
    """Take the registry that ``dev.py`` found, or look for one."""
    named = os.environ.get("DEMO_REGISTRY")
    if named:
        return registry_binary.from_text(named)
    try:
        return registry_binary.find()
    except registry_binary.NoRegistryError as error:
        raise DemoError(str(error)) from error
