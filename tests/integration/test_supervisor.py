"""What ``indexer up`` does with its processes, shown with small programs in place of the two real ones."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]  # comes with the developer's tools; its stubs do not

from indexer.common.errors import ConfigurationError
from indexer.local.announcement import announcement, reachable_url
from indexer.local.pid_file import PidFile
from indexer.local.processes import birth
from indexer.local.supervisor import UpSettings, notifications_token, up
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
BACK_WITHIN_SECONDS = 60

# Stands for both programs: says who and how it is, answers /readyz where it is the server, ends when asked.
PROGRAM = """
import http.server, json, os, signal, sys
kind = sys.argv[1]
with open(os.environ["TEST_LOG"], "a") as log:
    print(json.dumps({"kind": kind, "pid": os.getpid(), "event": "start",
        "url": os.environ["INDEXER_DATABASE_URL"],
        "token": os.environ["INDEXER_NOTIFICATIONS_TOKEN"]}), file=log)
def end(*_):
    with open(os.environ["TEST_LOG"], "a") as log:
        print(json.dumps({"kind": kind, "pid": os.getpid(), "event": "end"}), file=log)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
if os.environ.get("TEST_REFUSE") == kind:
    sys.exit(64)
if kind == "reconciler":
    signal.pause()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
host, port = os.environ["INDEXER_LISTEN"].split(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""

UP = """
import asyncio, os, sys
from pathlib import Path
from indexer.common.errors import IndexerError
from indexer.local import supervisor
supervisor.python = lambda module, verb: [sys.executable, sys.argv[1], module]
settings = supervisor.UpSettings(data_dir=Path(sys.argv[2]), registry_url="http://127.0.0.1:1",
    listen=os.environ["INDEXER_LISTEN"])
try:
    sys.exit(asyncio.run(supervisor.up(settings)))
except IndexerError as error:
    sys.exit(f"{error}")
"""


class Up:
    """One ``indexer up`` seen from outside, on a directory that outlives it."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = directory / "log"
        self.output = directory / "output"
        self._program = directory / "program.py"
        self._program.write_text(PROGRAM)
        self._environment = {
            **os.environ,
            "INDEXER_LISTEN": self.url.removeprefix("http://"),
            "TEST_LOG": str(self.log),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        command = [sys.executable, "-c", UP, str(self._program), str(self.data_dir)]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment | environment, stdout=output, stderr=output
            )

    def signal(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=60)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(timeout=60)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        if self.is_running():
            self.signal(signal.SIGTERM)

    def forget(self, *, but_last_starts: bool = False) -> None:
        """Take out of the log what earlier tests did; of each program that runs its start may stay."""
        starts = {each["kind"]: each for each in self.events() if each["event"] == "start"}
        kept = starts.values() if but_last_starts else ()
        self.log.write_text("".join(f"{json.dumps(each)}\n" for each in kept))
        if not but_last_starts:
            self.output.write_text("")

    def events(self) -> list[dict[str, str | int]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    def started(self, kind: str) -> list[int]:
        return [
            int(each["pid"]) for each in self.events() if (each["kind"], each["event"]) == (kind, "start")
        ]

    def postgres(self) -> int | None:
        pid_file = PidFile.read(self.data_dir / "postgres")
        return pid_file.pid if pid_file is not None and pid_file.ready else None

    def ready(self) -> bool:
        address = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def announced(self) -> bool:
        return "indexer is up" in self.output.read_text()


def eventually(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """An ``up`` for several tests, each of which leaves it as a later start can take it."""
    one = Up(tmp_path_factory.mktemp("up"))
    yield one
    one.end()


@pytest.fixture
def system(shared: Up) -> Up:
    """A running ``up`` that is ready, and whose programs have both written that they started, once."""
    if not shared.is_running():
        shared.forget()
        shared.start()
    eventually(shared.announced)
    eventually(lambda: shared.ready() and shared.started("indexer") and shared.started("reconciler"))
    shared.forget(but_last_starts=True)
    return shared


@pytest.mark.parametrize("kind", ["indexer", "reconciler"])
def test_up__program_killed(system: Up, kind: str) -> None:
    """A killed program is back by itself, and the others are left alone."""
    others = {each: system.started(each) for each in ("indexer", "reconciler") if each != kind}
    os.kill(system.started(kind)[0], signal.SIGKILL)
    eventually(lambda: len(system.started(kind)) == 2, BACK_WITHIN_SECONDS)
    eventually(system.ready, BACK_WITHIN_SECONDS)
    assert {each: system.started(each) for each in others} == others


def test_up__postgres_killed(system: Up) -> None:
    """A killed PostgreSQL is back by itself under the same address; no program is restarted for it."""
    before = system.postgres()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually(lambda: system.postgres() not in {None, before}, BACK_WITHIN_SECONDS)
    assert (len(system.started("indexer")), len(system.started("reconciler"))) == (1, 1)


def test_up__killed_itself(system: Up) -> None:
    """After a kill of ``up``, plainly starting again on the same directory works, with the same token."""
    token = (system.data_dir / "notifications-token").read_text()
    first = system.started("indexer")[0]
    system.signal(signal.SIGKILL)
    system.output.write_text("")
    system.start()
    eventually(system.announced, BACK_WITHIN_SECONDS)
    assert (system.data_dir / "notifications-token").read_text() == token
    assert birth(first) == ""


def test_up__leftover_programs(system: Up) -> None:
    """Programs that outlived their ``up`` (no death signal, or a deaf one) are ended by the next."""
    stopped = system.started("indexer")[0]
    os.kill(stopped, signal.SIGSTOP)  # a stopped process takes no SIGTERM
    system.signal(signal.SIGKILL)
    system.output.write_text("")
    system.start()
    eventually(system.announced, BACK_WITHIN_SECONDS)
    assert birth(stopped) == ""


def test_up__second_on_the_same_directory(system: Up) -> None:
    """A second ``up`` on a directory in use is refused, and the first goes on."""
    command = [sys.executable, "-c", UP, "-", str(system.data_dir)]
    environment = {**os.environ, "INDEXER_LISTEN": "127.0.0.1:1"}
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "is in use by process" in second.stderr
    assert system.ready()


def test_up__starts_and_ends_in_order(system: Up) -> None:
    """All are started with the same database and token; one signal ends reconciler, server, database."""
    pids = [system.started("indexer")[0], system.started("reconciler")[0], system.postgres() or 0]
    token_file = system.data_dir / "notifications-token"
    assert {event["token"] for event in system.events()} == {token_file.read_text().strip()}
    assert {str(event["url"]).partition("?")[0] for event in system.events()} == {
        "postgresql://indexer@/indexer"
    }
    assert system.signal(signal.SIGINT) == 0
    ended = [event["kind"] for event in system.events() if event["event"] == "end"]
    assert ended == ["reconciler", "indexer"]
    assert [birth(pid) for pid in pids] == ["", "", ""]
    assert token_file.read_text().strip() not in system.output.read_text()


@pytest.mark.parametrize("kind", ["indexer", "reconciler"])
def test_up__program_refuses_its_configuration(tmp_path: Path, kind: str) -> None:
    """A program that ends at once with the exit code for configuration is not started for ever."""
    running = Up(tmp_path)
    running.start(TEST_REFUSE=kind)
    assert running.wait() == 1
    assert "refuses its configuration" in running.output.read_text()
    assert len(running.started(kind)) == 2


def test_up__another_server_at_its_address(tmp_path: Path) -> None:
    """Where somebody else answers at the server's address nothing is started, and he is not announced as ours."""
    running = Up(tmp_path)
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_server((host, int(port))):
        running.start()
        assert running.wait() == 1
    said = running.output.read_text()
    assert f"cannot listen on {host}:{port}" in said
    assert "Traceback" not in said
    assert not running.announced()
    assert (running.started("indexer"), running.started("reconciler"), running.postgres()) == ([], [], None)


@pytest.mark.parametrize("readable", [True, False])
def test_announcement__says_who_may_read(readable: bool) -> None:
    """An API that answers 401 to everybody is not announced without a word."""
    said = announcement(
        base_url="http://127.0.0.1:5005",
        registry_url="http://127.0.0.1:5000",
        database="here",
        token_place="there",
        readable=readable,
    )
    assert readable == ("INDEXER_API_TOKENS" not in said)
    assert "console" not in said


def test_announcement__decides_about_pulls_knowingly() -> None:
    """The section it prints counts pulls; one line less of a comment ignores them, and both say what that costs."""
    said = announcement(base_url="http://here", registry_url="http://there", database="d", token_place="t")
    section = said.partition("  notifications:")[2].partition("\nEnd with")[0]

    def ignored(text: str) -> dict[str, list[str]]:
        (endpoint,) = yaml.safe_load(f"notifications:{text}")["notifications"]["endpoints"]
        return dict(endpoint["ignore"])

    blobs = {"mediatypes": ["application/octet-stream"]}
    assert blobs == ignored(section)
    assert blobs | {"actions": ["pull"]} == ignored(section.replace("# actions:", "actions:"))
    assert "pulls_known: false" in section
    assert "INDEXER_PULL_DETAIL" in section


async def test_up__without_registry(tmp_path: Path) -> None:
    """Without a registry to look at, ``up`` says which setting is missing and makes nothing."""
    with pytest.raises(ConfigurationError, match="RECONCILER_REGISTRY_URL is not set"):
        await up(UpSettings(data_dir=tmp_path / "data", registry_url=None))
    assert not (tmp_path / "data").exists()


def test_notifications_token__made_once(tmp_path: Path) -> None:
    """A token is made, kept for the next start, and readable by its owner alone; a given one is preferred."""
    token, place = notifications_token(None, tmp_path)
    assert notifications_token(None, tmp_path) == (token, place)
    assert stat.S_IMODE(Path(place).stat().st_mode) == 0o600
    assert notifications_token("given", tmp_path) == ("given", "INDEXER_NOTIFICATIONS_TOKEN")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:5005", "http://127.0.0.1:5005"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        (":80", "http://127.0.0.1:80"),
        ("indexer.internal:80", "http://indexer.internal:80"),
    ],
)
def test_reachable_url(listen: str, url: str) -> None:
    """An address to listen on everywhere is reached on this machine."""
    assert reachable_url(listen) == url
