"""``reconciler doctor`` and ``status`` from outside: on real registries, with every link broken for real."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import json
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.fixtures.installation import Installation, serving
from tests.fixtures.postgres import own_database
from tools.ports import free_port
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.postgres import PostgresServer
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

IMPATIENT = ("--patience", "1500ms")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Examined:
    """What one examination came to."""

    exit_code: int
    report: dict[str, Any]

    @property
    def outcomes(self) -> dict[str, str]:
        return {check["check"]: check["outcome"] for check in self.report["checks"]}

    @property
    def broken(self) -> str | None:
        assert self.exit_code == (0 if self.report["ok"] else 1)
        broken: str | None = self.report["broken"]
        return broken

    def causes(self, check: str) -> list[str]:
        """The likely causes named for a check, in their order."""
        return [
            cause["likely"]
            for each in self.report["checks"]
            if each["check"] == check
            for cause in each["causes"]
        ]

    def found(self, check: str) -> str:
        return "".join(each["found"] for each in self.report["checks"] if each["check"] == check)


def examine(
    installation: Installation,
    registry: RegistryServer | str,
    *options: str,
    debug: bool = True,
    **settings: str,
) -> Examined:
    """Run ``reconciler doctor``; ``debug``: it is told where the registry's counters are."""
    url = registry if isinstance(registry, str) else registry.url
    if debug and not isinstance(registry, str):
        settings["RECONCILER_REGISTRY_DEBUG_URLS"] = registry.debug_url
    done = installation.run(
        "reconciler", "doctor", "--json", *options, **{"RECONCILER_REGISTRY_URL": url, **settings}
    )
    assert done.error == ""
    return Examined(done.exit_code, done.json)


@pytest.fixture(scope="module")
def server_only(
    postgres_server: PostgresServer, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation without a reconciler, shared by tests of what is broken before it."""
    with (
        own_database(postgres_server, template=migrated) as url,
        serving(url, tmp_path_factory.mktemp("doctor") / "installation") as installed,
    ):
        yield installed


def test_doctor__all_is_well(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """With every part running, every link holds, the canary is gone again, and the exit code is 0."""
    endpoint = replace(installation.endpoint, ignore={"mediatypes": ["application/octet-stream"]})
    registry = start_registry(registry_version, notifications=[endpoint])
    installation.start("reconciler", "run", RECONCILER_REGISTRY_URL=registry.url)
    examined = examine(installation, registry)
    assert set(examined.outcomes.values()) == {"ok"}, examined.report
    assert examined.broken is None
    assert examined.found("tag listed") == "by the API"
    listed = get(registry.host, "/v2/registry-indexer-doctor/canary/tags/list")
    assert json.loads(listed).get("tags") in (None, [])
    status = installation.run("reconciler", "status", "--json").json
    assert status["inbox"]["waiting"] == status["inbox"]["quarantine"] == 0
    assert {row["loop"] for row in status["loops"]} >= {
        "ingest",
        "seal",
        "verify",
        "resolve",
        "measure",
        "reconcile",
    }
    assert status["last_run"]["outcome"] == "complete"
    assert sum(row["events"] for row in status["instances"]) >= 3  # one push, two deletes


def test_doctor__for_people(installation: Installation, start_registry: StartRegistry) -> None:
    """On a terminal each link has its line, and the last line is the verdict; status has words, too."""
    registry = start_registry(3, notifications=[installation.endpoint])
    installation.start("reconciler", "run", RECONCILER_REGISTRY_URL=registry.url)
    done = installation.run("reconciler", "doctor", RECONCILER_REGISTRY_URL=registry.url)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("ok       settings              complete; INDEXER_PROXY_SECRET is not set")
    assert lines[-1] == "all is well (1 warning, 1 skipped)"
    (pulls,) = [line for line in lines if line.startswith("warning  pulls")]
    assert "every tag shows as never pulled" in pulls
    status = installation.run("reconciler", "status")
    assert status.exit_code == 0
    assert "0 waiting to be applied, 0 in quarantine" in status.output.splitlines()[0]


def test_doctor__read_only(server_only: Installation, start_registry: StartRegistry) -> None:
    """With --read-only nothing is pushed, and everything before the canary is checked."""
    registry = start_registry(3, notifications=[server_only.endpoint])
    examined = examine(server_only, registry, "--read-only")
    assert examined.broken is None
    assert examined.outcomes["canary pushed"] == "skipped"
    assert json.loads(get(registry.host, "/v2/_catalog"))["repositories"] == []


def test_doctor__timeout_without_unit(
    server_only: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """``timeout: 500`` is found in the registry's own variables, before and after the canary is lost."""
    registry = start_registry(
        registry_version, notifications=[replace(server_only.endpoint, timeout="500ns")]
    )
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.broken == "registry's endpoint"
    assert "500 nanoseconds" in examined.causes("registry's endpoint")[0]
    assert "500 nanoseconds" in examined.causes("notification arrived")[0]
    assert examined.outcomes["canary removed"] == "ok"


@pytest.mark.full
def test_doctor__timeout_without_unit_unseen(
    server_only: Installation, start_registry: StartRegistry
) -> None:
    """Without a debug address the usual causes are listed, and how to learn which it is."""
    registry = start_registry(3, notifications=[replace(server_only.endpoint, timeout="500ns")])
    examined = examine(server_only, registry, *IMPATIENT, debug=False)
    assert examined.broken == "notification arrived"
    causes = examined.causes("notification arrived")
    assert any("500 nanoseconds" in cause for cause in causes)
    assert causes[-1] == "the registry's counters are not known, so these causes cannot be told apart"


def test_doctor__registry_sends_another_token(
    server_only: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """A wrong token in the registry's configuration is named, without printing either."""
    wrong = "another-secret-of-the-test"
    registry = start_registry(registry_version, notifications=[replace(server_only.endpoint, token=wrong)])
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.broken == "registry's endpoint"
    assert "another token" in examined.causes("registry's endpoint")[0]
    assert any("answered 401" in cause for cause in examined.causes("notification arrived"))
    assert wrong not in json.dumps(examined.report)


@pytest.mark.full
def test_doctor__registry_sends_another_token_unseen(
    server_only: Installation, start_registry: StartRegistry
) -> None:
    """Without a debug address our own door tells of the wrong token."""
    registry = start_registry(3, notifications=[replace(server_only.endpoint, token="another")])
    examined = examine(server_only, registry, *IMPATIENT, debug=False)
    assert examined.broken == "notification arrived"
    assert "refused by our endpoint" in examined.causes("notification arrived")[0]


@pytest.mark.full
def test_doctor__proxy_redirects(
    server_only: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """A redirect on the way is found by asking the endpoint's own address; the registry counts it as success."""
    with redirecting() as proxy:
        registry = start_registry(
            registry_version, notifications=[replace(server_only.endpoint, url=f"{proxy}/notifications")]
        )
        examined = examine(server_only, registry, *IMPATIENT)
        assert examined.broken == "registry's endpoint"
        assert "answers 301" in examined.causes("registry's endpoint")[0]
        lost = examined.causes("notification arrived")[0]
        assert "answered 200 where the indexer answers 202" in lost
        door = examine(server_only, registry, "--indexer-url", proxy, "--read-only")
        assert door.broken == "indexer"
        assert "redirects" in door.causes("indexer")[0]


@pytest.mark.full
def test_doctor__no_notifications_configured(
    server_only: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """A registry that was never told to notify anyone is named as the first broken link."""
    registry = start_registry(registry_version)
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.broken == "registry's endpoint"
    assert "not configured to send" in examined.causes("registry's endpoint")[0]
    assert "not configured to send" in examined.causes("notification arrived")[0]


@pytest.mark.full
def test_doctor__ignore_block_swallows_manifests(
    server_only: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """An ignore block with the manifests' media type is found by configuration, and by the deletion's news."""
    ignore = {"mediatypes": ["application/octet-stream", MANIFEST], "actions": ["pull"]}
    registry = start_registry(registry_version, notifications=[replace(server_only.endpoint, ignore=ignore)])
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.broken == "registry's endpoint"
    assert "drops pushes" in examined.causes("registry's endpoint")[0]
    unseen = examine(server_only, registry, *IMPATIENT, debug=False)
    assert unseen.broken == "notification arrived"
    assert "ignore block drops manifests" in unseen.causes("notification arrived")[0]


@pytest.mark.full
def test_doctor__endpoint_unreachable(server_only: Installation, start_registry: StartRegistry) -> None:
    """An address that nobody listens at shows in the registry's counters as attempts without an answer."""
    nowhere = f"http://127.0.0.1:{free_port()}/notifications"
    registry = start_registry(2, notifications=[replace(server_only.endpoint, url=nowhere)])
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.broken == "notification arrived"
    assert "without any answer" in examined.causes("notification arrived")[0]
    assert examine(server_only, registry, "--read-only").broken == "registry's endpoint"


def test_doctor__nobody_verifies(server_only: Installation, start_registry: StartRegistry) -> None:
    """Without a running reconciler the tag is in the inventory and not verified, and that is said."""
    registry = start_registry(3, notifications=[server_only.endpoint])
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.outcomes["tag in inventory"] == "ok"
    assert examined.broken == "tag verified"
    assert "no `reconciler run` has ever run" in examined.causes("tag verified")[0]
    assert (
        examined.found("deletion arrived")
        == "the delete event arrived, and the tag is gone from the inventory"
    )


def test_doctor__worker_stopped(installation: Installation, start_registry: StartRegistry) -> None:
    """A worker that hangs leaves the notification in the inbox; how the worker fares is said."""
    registry = start_registry(3, notifications=[installation.endpoint])

    async def examine_locked() -> Examined:
        blocker = await asyncpg.connect(installation.database_url)
        try:
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE applied_event IN ACCESS EXCLUSIVE MODE")
                return await asyncio.to_thread(examine, installation, registry, *IMPATIENT)
        finally:
            await blocker.close()

    examined = asyncio.run(examine_locked())
    assert examined.broken == "tag in inventory"
    assert "waits in the inbox" in examined.found("tag in inventory")
    assert "ingest" in examined.causes("tag in inventory")[0]


def test_doctor__server_has_another_token(server_only: Installation, start_registry: StartRegistry) -> None:
    """A token that the running server does not know is refused at the door."""
    registry = start_registry(3, notifications=[server_only.endpoint])
    examined = examine(
        server_only, registry, "--read-only", INDEXER_NOTIFICATIONS_TOKEN="not-the-servers-token"
    )
    assert examined.broken == "receiver"
    assert "another INDEXER_NOTIFICATIONS_TOKEN" in examined.causes("receiver")[0]


def test_doctor__server_away(server_only: Installation, start_registry: StartRegistry) -> None:
    """A server that does not listen where it should is named."""
    registry = start_registry(3)
    nowhere = f"http://127.0.0.1:{free_port()}"
    examined = examine(server_only, registry, "--read-only", "--indexer-url", nowhere)
    assert examined.broken == "indexer"
    assert examined.outcomes["receiver"] == "skipped"


def test_doctor__registry_unreachable(server_only: Installation) -> None:
    """A registry that does not answer is named, and nothing is pushed."""
    examined = examine(server_only, f"http://127.0.0.1:{free_port()}")
    assert examined.broken == "registry"
    assert examined.outcomes["credentials"] == examined.outcomes["canary pushed"] == "skipped"


def test_doctor__not_a_registry(server_only: Installation) -> None:
    """A page of HTML in the registry's place is named as what it is."""
    with answering(200, {"Content-Type": "text/html"}, b"<html>sign in</html>") as page:
        examined = examine(server_only, page)
    assert examined.broken == "registry"
    assert "no registry" in examined.causes("registry")[0]


def test_doctor__credentials(server_only: Installation, start_registry: StartRegistry) -> None:
    """Missing and wrong passwords are told apart, right ones are taken, and none is printed."""
    registry = start_registry(3, htpasswd=True, notifications=[server_only.endpoint])
    none = examine(server_only, registry, "--read-only")
    assert none.broken == "credentials"
    assert "no user name" in none.causes("credentials")[0]
    wrong = examine(
        server_only,
        registry,
        "--read-only",
        RECONCILER_REGISTRY_USERNAME=HTPASSWD_USER,
        RECONCILER_REGISTRY_PASSWORD="guessed",
    )
    assert wrong.broken == "credentials"
    assert "guessed" not in json.dumps(wrong.report)
    right = examine(
        server_only,
        registry,
        "--read-only",
        RECONCILER_REGISTRY_USERNAME=HTPASSWD_USER,
        RECONCILER_REGISTRY_PASSWORD=HTPASSWD_PASSWORD,
    )
    assert right.broken is None
    assert HTPASSWD_PASSWORD not in json.dumps(right.report)


def test_doctor__deletes_switched_off(
    server_only: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """Distribution's default, no deletes, is a warning: the canary stays, and is named for removal by hand."""
    registry = start_registry(
        registry_version,
        notifications=[server_only.endpoint],
        extra={"storage": {"delete": {"enabled": False}}},
    )
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.outcomes["deletes"] == examined.outcomes["canary removed"] == "warning"
    assert examined.outcomes["deletion arrived"] == "skipped"


@pytest.mark.full
def test_doctor__read_only_registry(server_only: Installation, start_registry: StartRegistry) -> None:
    """A registry in maintenance refuses the push, and that is said."""
    registry = start_registry(
        3,
        notifications=[server_only.endpoint],
        extra={"storage": {"maintenance": {"readonly": {"enabled": True}}}},
    )
    examined = examine(server_only, registry, *IMPATIENT)
    assert examined.broken == "canary pushed"
    assert "read-only" in examined.causes("canary pushed")[0]


def test_doctor__unknown_setting(server_only: Installation) -> None:
    """A wrong setting is the first finding, not the end of the examination's report."""
    examined = examine(server_only, "http://127.0.0.1:1", RECONCILER_REGISTRY_ULR="http://127.0.0.1:1")
    assert examined.broken == "settings"
    assert "did you mean RECONCILER_REGISTRY_URL" in examined.found("settings")


def test_doctor__database_refuses(server_only: Installation) -> None:
    """A database that is not there, and one without our schema, are told apart."""
    missing = examine(server_only, "http://127.0.0.1:1", INDEXER_DATABASE_URL=other(server_only, "nowhere"))
    assert missing.broken == "database"
    empty = examine(server_only, "http://127.0.0.1:1", INDEXER_DATABASE_URL=other(server_only, "postgres"))
    assert empty.broken == "schema"


def other(installed: Installation, database: str) -> str:
    """The URL of another database on the installation's server."""
    return urlunsplit(urlsplit(installed.database_url)._replace(path=f"/{database}"))


def get(host: str, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(host, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


@contextlib.contextmanager
def answering(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A server that answers every request alike."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_target = self.path == "/elsewhere"
            self.send_response(200 if is_target else status)
            for name, value in () if is_target else headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the base class calls them so

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def redirecting() -> contextlib.AbstractContextManager[str]:
    """A proxy as so many are set up: whatever is asked, go elsewhere."""
    return answering(301, {"Location": "/elsewhere"}, b"moved")
