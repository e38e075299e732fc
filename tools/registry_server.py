"""Start, stop and kill a real registry on this machine, with a configuration made for the occasion.

For the demo and the tests: it listens on 127.0.0.1, keeps its content in a directory, allows deletes, and
posts notifications where it is told to. Start it from a thread that lives as long as it should: on Linux it
ends with that thread.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from indexer.local import attach
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.registry_binary import FoundRegistry

ATTACH = Path(attach.__file__)
READY_WITHIN_SECONDS = 30
ENDS_WITHIN_SECONDS = 10

# Distribution reads bcrypt alone, which Python does not write: one user, hashed beforehand.
HTPASSWD_USER = "tester"
HTPASSWD_PASSWORD = "tester-password"  # noqa: S105 - guards a registry of a test
HTPASSWD_LINE = "tester:$2y$04$registryindexertests..bOLoqJx5LmDNrdWLnxx0btmiAXg9vC."

QUIET = {"mediatypes": ["application/octet-stream"], "actions": ["pull"]}
"""What an index has no use for: blob events and pulls. Both keys: 2.8 passes over actions alone."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the registry posts its notifications. Retries are quick, since nobody here waits gladly."""

    url: str
    token: str | None = None
    name: str = "indexer"
    timeout: str = "5s"
    threshold: int = 1
    backoff: str = "200ms"
    ignore: Mapping[str, Sequence[str]] = field(default_factory=lambda: QUIET)
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def config(self, url: str) -> dict[str, Any]:
        """Write it in the words of the registry's configuration."""
        headers = dict(self.headers)
        if self.token is not None:
            headers["Authorization"] = [f"Bearer {self.token}"]
        return {
            "name": self.name,
            "url": url,
            "headers": headers,
            "timeout": self.timeout,
            "threshold": self.threshold,
            "backoff": self.backoff,
            "ignore": dict(self.ignore),
        }


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What a registry should be like.

    ``extra`` is merged into the configuration last, for what has no field here.
    ``tls``: paths of a certificate and its key. ``htpasswd``: ask for the user of this module.
    """

    directory: Path
    storage_dir: Path | None = None
    notifications: Sequence[Endpoint] = ()
    htpasswd: bool = False
    tls: tuple[Path, Path] | None = None
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class RegistryFailedError(Exception):
    """The registry did not start, or said no; the message holds its last words."""


class RegistryServer:
    """One registry from ``start`` to ``stop``; it keeps its ports over ``restart``."""

    def __init__(self, found: FoundRegistry, settings: RegistrySettings) -> None:
        self.found = found
        self.version = found.version
        self.storage_dir = settings.storage_dir or settings.directory / "storage"
        self.log_path = settings.directory / "registry.log"
        self._settings = settings
        self._config_path = settings.directory / "config.yml"
        self._port = settings.port or free_port()
        self._debug_port = free_port()
        self._name = f"registry-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL, as a client needs it."""
        return f"{'https' if self._settings.tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def debug_url(self) -> str:
        """Address of ``/debug/vars`` and, on 3.x, ``/metrics``."""
        return f"http://127.0.0.1:{self._debug_port}"

    @property
    def host(self) -> str:
        """Host and port, as image references have it."""
        return f"127.0.0.1:{self._port}"

    @property
    def major(self) -> int:
        """2 or 3."""
        return self.found.major

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and return once it answers."""
        self.storage_dir.mkdir(parents=True, exist_ok=True)
        self._config_path.write_text(json.dumps(self.config(), indent=2), encoding="utf-8")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
            )
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not (self._answers() and self._debug_answers()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RegistryFailedError(f"registry {self.version} did not start: {self._last_words()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end (it drops its queue of notifications even then), and insist after a while."""
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=ENDS_WITHIN_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop it and start it again: same address, same content, empty queue, new instance id."""
        self.stop()
        self.start()

    def garbage_collect(self, *options: str) -> str:
        """Run the registry's own collector on the storage and return what it printed."""
        done = subprocess.run(
            self._command("garbage-collect", *options),
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        if done.returncode != 0:
            raise RegistryFailedError(f"garbage-collect failed: {done.stderr.strip()}")
        return done.stdout

    def start_collecting(self, *options: str) -> subprocess.Popen[str]:
        """Start the registry's own collector; it waits wherever nobody reads what it prints, one page of it ahead."""
        return subprocess.Popen(
            self._command("garbage-collect", *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            pipesize=4096,
            env=environment(),
        )

    def config(self) -> dict[str, Any]:
        """Write the configuration; as JSON, which is YAML too."""
        settings = self._settings
        http_section: dict[str, Any] = {
            "addr": f"{self._listen_host}:{self._port}",
            "secret": "not-a-secret-on-loopback",
            "debug": {"addr": f"{self._listen_host}:{self._debug_port}", "prometheus": {"enabled": True}},
        }
        if settings.tls:
            http_section["tls"] = {"certificate": str(settings.tls[0]), "key": str(settings.tls[1])}
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage_dir)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http_section,
        }
        if settings.notifications:
            posts = settings.notifications
            endpoints = [each.config(self._seen_from_registry(each.url)) for each in posts]
            config["notifications"] = {"endpoints": endpoints}
        if settings.htpasswd:
            passwords = settings.directory / "htpasswd"
            passwords.write_text(f"{HTPASSWD_LINE}\n", encoding="ascii")
            config["auth"] = {"htpasswd": {"realm": "registry", "path": str(passwords)}}
        merge(config, settings.extra)
        return config

    def _command(self, verb: str, *options: str) -> list[str]:
        if self.found.binary is not None:
            program = [str(self.found.binary), verb, *options, str(self._config_path)]
            tie = [sys.executable, "-I", "-S", str(ATTACH), "--signal", str(int(signal.SIGKILL))]
            return [*tie, "--parent", str(os.getpid()), "--", *program]
        return [*self._engine_command(verb), verb, *options, str(self._config_path)]

    def _engine_command(self, verb: str) -> list[str]:
        """Run the image with the same paths inside as outside, and where possible the same address."""
        engine, image = str(self.found.engine), str(self.found.image)
        command = [engine, "run", "--rm", "--env", "OTEL_TRACES_EXPORTER=none"]
        for directory in {self._settings.directory, self.storage_dir}:
            command += ["--volume", f"{directory}:{directory}"]
        if engine == "docker" and os.geteuid() != 0:
            command += ["--user", f"{os.geteuid()}:{os.getegid()}"]  # so that we may delete what it wrote
        if verb == "serve":
            command += ["--name", self._name]
        if self._shares_network:
            command += ["--network", "host"]
        else:
            for port in (self._port, self._debug_port):
                command += ["--publish", f"127.0.0.1:{port}:{port}"]
        return [*command, image]

    @property
    def _shares_network(self) -> bool:
        """On Linux an engine can use the machine's own network; elsewhere it runs in a machine of its own."""
        return self.found.engine is None or sys.platform == "linux"

    @property
    def _listen_host(self) -> str:
        return "127.0.0.1" if self._shares_network else "0.0.0.0"  # noqa: S104 - inside a container of its own

    def _seen_from_registry(self, url: str) -> str:
        """Name this machine as the registry's container has to call it."""
        if self._shares_network:
            return url
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.replace("127.0.0.1", "host.docker.internal")))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if self.found.engine is None:
            self._process.send_signal(number)
            return
        order = ["kill", "--signal", number.name, self._name]
        subprocess.run([self.found.engine, *order], check=False, capture_output=True)

    def _answers(self) -> bool:
        """Tell whether the API answers; asking for a password is an answer."""
        connection: http.client.HTTPConnection
        if self._settings.tls:
            context = ssl._create_unverified_context()  # noqa: S323, SLF001 - is it up, not who is it
            connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=2, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/v2/")
                return connection.getresponse().status in {200, 401}
            except (OSError, http.client.HTTPException):
                return False

    def notification_counters(self, url: str) -> dict[str, int]:
        """Return its counters of an endpoint: ``Pending``, ``Events``, ``Successes``, ``Failures``, ``Errors``.

        All are 0 where it has no such endpoint.
        """
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self._debug_port, timeout=10)
        ) as connection:
            connection.request("GET", "/debug/vars")
            endpoints = json.load(connection.getresponse())["registry"]["notifications"]["endpoints"] or []
        metrics: dict[str, int] = next((each["Metrics"] for each in endpoints if each["url"] == url), {})
        return {
            name: metrics.get(name, 0) for name in ("Pending", "Events", "Successes", "Failures", "Errors")
        }

    def _debug_answers(self) -> bool:
        """Tell whether the debug address listens: the registry opens it beside the API's, and not always before."""
        try:
            with socket.create_connection(("127.0.0.1", self._debug_port), timeout=2):
                return True
        except OSError:
            return False

    def _last_words(self) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace").strip()
        return " / ".join(text.splitlines()[-3:])


def environment() -> dict[str, str]:
    """Keep variables away that the registry would take for its configuration, and tracing off.

    Those of AWS too: the client in 2.8 does not start with a bundle of authorities that it cannot put to use.
    """
    foreign = ("REGISTRY_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "OTEL_TRACES_EXPORTER": "none"}


def merge(config: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Lay ``extra`` over the configuration, section by section; None takes a section out."""
    for key, value in extra.items():
        if value is None:
            config.pop(key, None)
        elif isinstance(value, dict) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value
