"""The embedded PostgreSQL's launcher, on a real server: starts, crashes, leftovers, users."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from indexer.common.errors import ConfigurationError
from indexer.local import identity as identities
from indexer.local.binaries import find_binaries
from indexer.local.identity import Identity, Strategy, can_run, choose_identity, nobody_identity
from indexer.local.pid_file import PidFile
from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings, find_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: it is about what root must do differently"
)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory that other users may enter; pytest's own are closed to them."""
    outer = Path(tempfile.mkdtemp(prefix="indexer-test-"))
    outer.chmod(0o711)
    yield outer / "data"
    shutil.rmtree(outer, ignore_errors=True)


def embedded(data_dir: Path, *, durable: bool = False, lock_timeout_seconds: float = 5.0) -> EmbeddedPostgres:
    settings = EmbeddedSettings(data_dir, durable=durable, lock_timeout_seconds=lock_timeout_seconds)
    return EmbeddedPostgres(settings)


@contextlib.asynccontextmanager
async def running(data_dir: Path, *, durable: bool = False) -> AsyncIterator[EmbeddedPostgres]:
    server = embedded(data_dir, durable=durable)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_start__cold(data_dir: Path) -> None:
    """From nothing to a database that answers and that a process beside us finds; no TCP port is opened."""
    async with running(data_dir) as server:
        assert (
            await query(server.database_url, "SELECT current_database() || current_user") == "indexerindexer"
        )
        assert await query(server.database_url, "SHOW listen_addresses") == ""
        assert find_running(data_dir) == server.database_url
    assert find_running(data_dir) is None


async def test_start__durable_by_default(data_dir: Path) -> None:
    """Unless a test asks otherwise, commits survive a power cut."""
    server = EmbeddedPostgres(EmbeddedSettings(data_dir=data_dir))
    await server.start()
    try:
        settings = [
            await query(server.database_url, f"SHOW {name}") for name in ("fsync", "full_page_writes")
        ]
    finally:
        await server.stop()
    assert settings == ["on", "on"]


async def test_start__keeps_data(data_dir: Path) -> None:
    """What was committed is there after a stop and a start."""
    async with running(data_dir) as server:
        await query(server.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
    async with running(data_dir) as server:
        assert await query(server.database_url, "SELECT number FROM kept") == 7


async def test_start__after_kill(data_dir: Path) -> None:
    """A killed server is noticed, and starts again on the same object with what was committed."""
    async with running(data_dir, durable=True) as server:
        await query(server.database_url, "CREATE TABLE kept AS SELECT generate_series(1, 20000) AS number")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await server.wait() == -signal.SIGKILL
        assert find_running(data_dir) is None
        await server.start()
        assert await query(server.database_url, "SELECT count(*) FROM kept") == 20000


async def test_start__unfinished_cluster(data_dir: Path) -> None:
    """What an interrupted first start left behind is not taken for a cluster."""
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    async with running(data_dir) as server:
        assert await query(server.database_url, "SELECT 1") == 1


async def test_start__stale_pid_file(data_dir: Path) -> None:
    """A pid file of a process that is gone says "ready" for ever; nobody believes it."""
    async with running(data_dir):
        left_behind = (data_dir / "postgres" / "postmaster.pid").read_text()
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_pid_file(data_dir, left_behind, gone.pid)
    assert find_running(data_dir) is None
    async with running(data_dir) as server:
        assert await query(server.database_url, "SELECT 1") == 1


@pytest.mark.parametrize("place", ["elsewhere", "in the data directory"])
async def test_start__pid_file_names_a_stranger(data_dir: Path, place: str) -> None:
    """A stranger with a dead server's process id is neither believed nor harmed, wherever it works."""
    async with running(data_dir):
        left_behind = (data_dir / "postgres" / "postmaster.pid").read_text()
    directory = data_dir / "postgres" if place == "in the data directory" else Path("/")
    with subprocess.Popen(["sleep", "60"], cwd=directory) as stranger:
        try:
            write_pid_file(data_dir, left_behind, stranger.pid)
            assert find_running(data_dir) is None
            async with running(data_dir) as server:
                assert await query(server.database_url, "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def write_pid_file(data_dir: Path, text: str, pid: int) -> None:
    path = data_dir / "postgres" / "postmaster.pid"
    owner = path.parent.stat()
    path.write_text(f"{pid}\n{text.partition(chr(10))[2]}")
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
    path.chmod(0o600)


async def test_start__orphan(data_dir: Path) -> None:
    """A server that outlived its starter is stopped, cleanly, and its work is kept."""
    orphan = embedded(data_dir)
    await orphan.start()
    await query(orphan.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
    orphan._lock.release()  # as the kernel does when the starter ends
    async with running(data_dir) as server:
        assert orphan.pid is None
        assert await query(server.database_url, "SELECT number FROM kept") == 7
    log = (data_dir / "postgres.log").read_text()
    assert "not properly shut down" not in log


async def test_start__starter_killed(data_dir: Path) -> None:
    """When the starter is killed the server ends too (Linux), and plainly starting again works at once."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings\n"
        "async def main():\n"
        "    server = EmbeddedPostgres(EmbeddedSettings(data_dir=Path(sys.argv[1]), durable=False))\n"
        "    await server.start(); print(server.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, data_dir], cwd=ROOT, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    async with running(data_dir) as server:
        assert await query(server.database_url, "SELECT 1") == 1
        assert server.pid != pid


async def test_start__second_starter(data_dir: Path) -> None:
    """Two starters never share a data directory; the second is told who has it."""
    async with running(data_dir):
        with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}"):
            await embedded(data_dir, lock_timeout_seconds=0.1).start()


async def test_start__other_major_version(data_dir: Path) -> None:
    """Data of another PostgreSQL is refused with the ways out, and left as it is."""
    async with running(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(ConfigurationError, match=r"written by PostgreSQL 14.*pg_upgrade"):
        await embedded(data_dir).start()


async def test_start__programs_missing(data_dir: Path) -> None:
    """A directory without PostgreSQL's programs is named."""
    with pytest.raises(ConfigurationError, match="does not hold PostgreSQL's programs"):
        await EmbeddedPostgres(EmbeddedSettings(data_dir=data_dir, bin_dir=Path("/nowhere"))).start()


async def test_start__long_path(data_dir: Path) -> None:
    """Where the path is too long for a socket it lies elsewhere, also after a crash, and is then removed."""
    deep = data_dir.joinpath(*["a-rather-long-name"] * 6)
    async with running(deep) as server:
        address = server.database_url
        assert str(deep) not in address
        assert find_running(deep) == address
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.wait()
        await server.start()
        assert server.database_url == address
        assert await query(address, "SELECT 1") == 1
        pid_file = PidFile.read(deep / "postgres")
        assert pid_file is not None
        assert pid_file.socket_dir is not None
        assert pid_file.socket_dir.exists()
    assert not pid_file.socket_dir.exists()


async def test_start__unwritable_place(tmp_path: Path) -> None:
    """A data directory that cannot be made is an error of one line."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made"):
        await embedded(tmp_path / "file" / "data").start()


@as_root
async def test_root__in_a_namespace(data_dir: Path) -> None:
    """Root's server shares its user with nobody else, though nobody could reach the data, and root may connect."""
    if choose(data_dir) is not Strategy.NAMESPACE:
        pytest.skip("user namespaces are not allowed on this machine, or there is a user registry-indexer")
    async with running(data_dir) as server:
        assert server.pid is not None
        assert Path(f"/proc/{server.pid}").stat().st_uid == 0
        assert (data_dir / "postgres").stat().st_uid == 0
        assert await query(server.database_url, "SELECT current_user") == "indexer"
        assert not can_enter(data_dir / "run", uid=nobody_identity().uid)
        assert server.shared_account is None


def without_namespaces(identity: Identity, command: Sequence[str]) -> bool:
    """Stand for a machine on which user namespaces are not allowed."""
    return identity.strategy is not Strategy.NAMESPACE and can_run(identity, command)


@as_root
async def test_root__as_nobody(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resort runs as nobody and says what is wrong with that; another program of nobody's may not connect."""
    monkeypatch.setattr(identities, "can_run", without_namespaces)
    monkeypatch.setattr(identities, "own_identity", lambda: None)
    if not can_run(nobody_identity(), [str(find_binaries().postgres), "--version"]):
        pytest.skip("PostgreSQL lies where another user cannot run it")
    async with running(data_dir) as server:
        assert server.pid is not None
        assert Path(f"/proc/{server.pid}").stat().st_uid == nobody_identity().uid
        psql = find_binaries().postgres.with_name("psql")
        if not psql.exists():
            pytest.skip("this PostgreSQL has no psql beside it")
        assert "useradd --system registry-indexer" in (server.shared_account or "")
        as_nobody = nobody_identity()
        refused = subprocess.run(
            [psql, server.database_url, "-c", "SELECT 1"],
            user=as_nobody.uid,
            group=as_nobody.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "authentication failed" in refused.stderr


@as_root
async def test_root__below_a_closed_directory(data_dir: Path) -> None:
    """Where nobody cannot reach the data, a user namespace serves, and no mode is changed."""
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    inside = closed / "data"
    inside.mkdir()
    if choose(inside) is not Strategy.NAMESPACE:
        pytest.skip("user namespaces are not allowed on this machine")
    async with running(inside, durable=True) as server:
        await query(server.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.wait()
        await server.start()
        assert await query(server.database_url, "SELECT number FROM kept") == 7
    assert oct(closed.stat().st_mode & 0o777) == oct(0o700)


@as_root
async def test_root__below_a_closed_directory__stranger(data_dir: Path) -> None:
    """In a namespace root could signal the stranger of a stale pid file, and PostgreSQL still starts."""
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    inside = closed / "data"
    inside.mkdir()
    if choose(inside) is not Strategy.NAMESPACE:
        pytest.skip("user namespaces are not allowed on this machine")
    await test_start__pid_file_names_a_stranger(inside, "elsewhere")
    assert oct(closed.stat().st_mode & 0o777) == oct(0o700)


def choose(data_dir: Path) -> Strategy | None:
    try:
        return choose_identity(find_binaries(), data_dir, data_dir / "postgres").strategy
    except ConfigurationError:
        return None


@as_root
async def test_ordinary_user(data_dir: Path) -> None:
    """An ordinary user runs the server as itself; root may look at the database, others may not."""
    user = nobody_identity()
    python = next((each for each in (sys.executable, "/usr/bin/python3") if usable(each)), None)
    if python is None:
        pytest.skip("no Python here that another user can run")
    data_dir.mkdir()
    os.chown(data_dir, user.uid, user.gid)
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings\n"
        "async def main():\n"
        "    settings = EmbeddedSettings(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), durable=False)\n"
        "    server = EmbeddedPostgres(settings)\n"
        "    await server.start(); print(server.database_url, flush=True)\n"
        "    await asyncio.to_thread(sys.stdin.read); await server.stop()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", program, data_dir, find_binaries().postgres.parent),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    try:
        assert find_running(data_dir) == url
        assert await query(url, "SELECT current_user") == "indexer"
        assert not can_enter(data_dir / "run", uid=12345)
    finally:
        process.stdin.close()
        assert await process.wait() == 0


def usable(python: str) -> bool:
    """Tell whether an ordinary user can run this Python, it is one that we support, and it can read the checkout."""
    question = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import indexer; sys.exit(sys.version_info < (3, 11))"
    )
    return can_run(nobody_identity(), [python, "-c", question])


def can_enter(directory: Path, *, uid: int) -> bool:
    asked = subprocess.run(["test", "-x", directory], user=uid, group=uid, extra_groups=[], check=False)
    return asked.returncode == 0
