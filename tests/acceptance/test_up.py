"""``indexer up`` from outside: the real commands, started as an operator would start them."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from indexer.local.identity import can_run, nobody_identity
from indexer.local.pid_file import PidFile
from tests.fixtures import programs
from tools.ports import free_port
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.registry_server import RegistryServer

ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
NOWHERE = "http://127.0.0.1:1"
COLD_WITHIN_SECONDS = 60
BACK_WITHIN_SECONDS = 60


class Up:
    """One ``indexer up`` on a directory of its own, with settings from the environment."""

    def __init__(self, directory: Path, registry_url: str = NOWHERE) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.address = f"127.0.0.1:{free_port()}"
        self.output = directory / "output"
        self.command = [str(COMMANDS / "indexer"), "up"]
        self.environment = {
            **{name: value for name, value in os.environ.items() if "INDEXER_" not in name},
            "INDEXER_DATA_DIR": str(self.data_dir),
            "INDEXER_LISTEN": self.address,
            "INDEXER_ANONYMOUS_READ": "true",
            "RECONCILER_REGISTRY_URL": registry_url,
        }
        self.user: int | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user is not None else None,
            )

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; 0 where it was never started."""
        if self.process is None:
            return 0
        if self.is_running():
            self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def pid_of(self, name: str) -> int | None:
        """Process id of ``serve``, ``run`` or ``postgres``; None while it is away."""
        if name == "postgres":
            pid_file = PidFile.read(self.data_dir / "postgres")
            return pid_file.pid if pid_file and pid_file.ready else None
        with contextlib.suppress(OSError):
            for line in (self.data_dir / "up.processes").read_text().splitlines():
                title, pid, _ = line.split("\t")
                if title.endswith(f" {name}"):
                    return int(pid)
        return None

    def pids(self) -> list[int | None]:
        """Process ids of ``up`` itself, the server and the reconciler."""
        assert self.process is not None
        return [self.process.pid, self.pid_of("serve"), self.pid_of("run")]

    def titles(self) -> list[str]:
        """Under which names `ps` shows them; without those that are away."""
        shown = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                shown.append(Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0").decode())
        return shown

    def ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def get(self, path: str) -> str:
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=5)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
        assert answer.status == 200, body
        return body

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it, with the same variables."""
        return programs.run(command, cwd=self.directory, env=self.environment)


def eventually(true: Callable[[], object], seconds: float, what: Up) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what.output.read_text()[-4000:]
        time.sleep(0.05)


@contextlib.contextmanager
def a_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="indexer-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that other users may enter, as /var/lib has them."""
    with a_directory() as path:
        yield path


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    """An ``indexer up`` for several tests, each of which leaves it as a later start can take it."""
    with a_directory() as path:
        one = Up(path)
        yield one
        one.end()


@pytest.fixture
def running(shared: Up) -> Up:
    """An ``indexer up`` that is ready with all its parts, while its registry is not reachable."""
    if not shared.is_running():
        shared.start()
    eventually(lambda: shared.ready() and None not in shared.pids(), COLD_WITHIN_SECONDS, shared)
    return shared


@pytest.mark.parametrize("name", ["serve", "run", "postgres"])
def test_up__part_killed(running: Up, name: str) -> None:
    """A killed server, reconciler or PostgreSQL is back by itself."""
    before = running.pid_of(name)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually(lambda: running.pid_of(name) not in {None, before}, BACK_WITHIN_SECONDS, running)
    eventually(running.ready, BACK_WITHIN_SECONDS, running)


def test_up__killed_itself(running: Up) -> None:
    """After a kill of ``up`` itself, plainly starting it again on the same directory works at once."""
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    running.start()
    eventually(running.ready, BACK_WITHIN_SECONDS, running)


def test_up__stale_pid_file_names_a_stranger(running: Up) -> None:
    """After a crash the server's process id may be someone else's; that one is left alone."""
    pid_file = running.data_dir / "postgres" / "postmaster.pid"
    _, _, rest = pid_file.read_text().partition("\n")
    running.end()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            pid_file.write_text(f"{stranger.pid}\n{rest}")
            owner = pid_file.parent.stat()
            os.chown(pid_file, owner.st_uid, owner.st_gid)
            running.start()
            eventually(running.ready, BACK_WITHIN_SECONDS, running)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_up__serves_without_its_registry(running: Up) -> None:
    """It starts and serves while the registry is unreachable, shows under its names, ends by one Ctrl-C."""
    assert '"items":[]' in running.get("/api/v1/repositories").replace(" ", "")
    # Ready is said of the server alone: the reconciler may still be loading, and then has Python's name.
    eventually(lambda: running.titles() == ["indexer up", "indexer serve", "reconciler run"], 60, running)
    pids = running.pids()
    assert running.end(signal.SIGINT) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_up__reconciler_beside_it(directory: Path, registry: RegistryServer) -> None:
    """``reconciler once`` finds the embedded database by the same variables; the API shows the result."""
    with contextlib.closing(Pusher(registry.url)) as pusher:
        pusher.push("team/app", oci_image("one"), "v1")
    one = Up(directory, registry.url)
    one.environment["RECONCILER_INTERVAL"] = "24h"
    one.start()
    try:
        eventually(one.ready, COLD_WITHIN_SECONDS, one)
        with contextlib.closing(Pusher(registry.url)) as pusher:
            pusher.push("team/app", oci_image("two"), "v2")  # nobody is told of this one
        done = one.run("reconciler", "once", "--json")
        assert done.returncode == 0, done.stderr
        assert '"v2"' in one.get("/api/v1/repositories/team/app/tags")
    finally:
        one.end()


def test_up__ordinary_user(directory: Path) -> None:
    """An ordinary user can run it all."""
    if os.geteuid() != 0:
        pytest.skip("this whole run is an ordinary user's")
    user = nobody_identity().uid
    python = next((each for each in (sys.executable, "/usr/bin/python3") if usable(each)), None)
    if python is None:
        pytest.skip(
            "no Python of this version here that another user can run, or no checkout that he can read"
        )
    site = next(path for path in sys.path if path.endswith("site-packages"))
    os.chown(directory, user, user)
    one = Up(directory)
    one.user = user
    one.command = [python, "-m", "indexer", "up"]
    one.environment |= {"PYTHONPATH": f"{ROOT}:{site}", "HOME": str(directory)}
    one.start()
    try:
        eventually(one.ready, COLD_WITHIN_SECONDS, one)
        pid = one.pid_of("postgres")
        assert Path(f"/proc/{pid}").stat().st_uid == user
        assert one.end() == 0
    finally:
        one.end()


def usable(python: str) -> bool:
    """Tell whether an ordinary user can run this Python, it takes the packages of ours, and can read the checkout."""
    question = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import indexer; "
        f"sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    )
    return can_run(nobody_identity(), [python, "-c", question])


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("RECONCILER_REGISTRY_URL", None, "RECONCILER_REGISTRY_URL"),
        ("INDEXER_NO_SUCH_THING", "1", "INDEXER_NO_SUCH_THING"),
        ("INDEXER_CONFIG", "/nowhere/indexer.toml", "/nowhere/indexer.toml"),
        ("RECONCILER_INTERVAL", "soon", "RECONCILER_INTERVAL"),
    ],
)
def test_up__misconfigured(directory: Path, setting: str, value: str | None, said: str) -> None:
    """A missing, unknown or wrong setting is one line that names it, exit code 64, and nothing is made."""
    one = Up(directory)
    one.environment.pop(setting, None)
    if value is not None:
        one.environment[setting] = value
    done = one.run("indexer", "up")
    assert done.returncode == 64
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not one.data_dir.exists()
