"""The logs of the real nginx and Caddy, written as docs/how-to says, read by ``indexer serve`` beside notifications."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

from tests.fixtures.proxies import PROXIES, proxied
from tests.fixtures.requests import REQUESTS
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER
from tools.sample_images import oci_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

    Send = Callable[..., httpx.Response]

HOW_TO = Path(__file__).parents[2] / "docs/how-to/read-the-access-log.md"
KNOWN = (HTPASSWD_USER, HTPASSWD_PASSWORD)
WRONG = (HTPASSWD_USER, "wrong")
ELSEWHERE = "127.0.0.2"
"""Where the client is; the proxy speaks to the registry from 127.0.0.1."""


def documented(name: str, log: Path) -> str:
    """What the page tells operators of a proxy to write, with the test's file."""
    found = re.search(rf"^```{name}\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    text, times = re.subn(r"/var/log/\w+/registry\.log", str(log), found[1])
    assert times == 1
    return text


@pytest.fixture(params=PROXIES)
def client(
    request: pytest.FixtureRequest,
    installation: Installation,
    start_registry: StartRegistry,
    registry_version: int,
    tmp_path: Path,
) -> Iterator[tuple[str, Send, Path]]:
    """A proxy before a registry with passwords: its name, a client, and the log, which ``indexer serve`` reads."""
    registry = start_registry(registry_version, htpasswd=True, notifications=[installation.endpoint])
    directory = tmp_path / "proxy"
    directory.mkdir()
    log = tmp_path / "logs" / "registry.log"
    log.parent.mkdir()
    installation.end(installation.server)
    installation.server = installation.start("indexer", "serve", INDEXER_ACCESS_LOG=str(log))
    installation.until(lambda: _is_up(installation), "the server that reads the log")
    written = documented(request.param, log)
    with (
        proxied(request.param, registry, installation, directory, log=written) as address,
        httpx.Client(
            base_url=f"http://{address}",
            headers={"User-Agent": "client/1", "Content-Type": oci_image("a").media_type},
            # A connection for each request: a proxy closes one on which it refused a body.
            transport=httpx.HTTPTransport(
                local_address=ELSEWHERE, limits=httpx.Limits(max_keepalive_connections=0)
            ),
        ) as http,
    ):
        yield request.param, http.request, log


def _is_up(installation: Installation) -> bool:
    try:
        return REQUESTS.get(f"{installation.url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def push(send: Send, repository: str, tag: str) -> None:
    """Push an image as clients do: without a password first."""
    image = oci_image(tag)
    assert 401 == send("POST", f"/v2/{repository}/blobs/uploads/").status_code
    for blob in image.blobs:
        assert 404 == send("HEAD", f"/v2/{repository}/blobs/{blob.digest}", auth=KNOWN).status_code
        upload = send("POST", f"/v2/{repository}/blobs/uploads/", auth=KNOWN).headers["Location"]
        url = f"{upload}{'&' if '?' in upload else '?'}digest={blob.digest}"
        assert 201 == send("PUT", url, content=blob.data, auth=KNOWN).status_code
    path = f"/v2/{repository}/manifests/{tag}"
    assert 201 == send("PUT", path, content=image.manifest.data, auth=KNOWN).status_code


def read(installation: Installation, log: Path, *, lines: int) -> list[dict[str, Any]]:
    """Wait until the log has that many lines of the client and all is read; let the minute pass; return the lines."""

    def of_client() -> list[dict[str, Any]]:
        written = log.read_text(encoding="utf-8") if log.exists() else ""
        return [json.loads(line) for line in written.splitlines() if "client/1" in line]

    installation.until(lambda: len(of_client()) == lines, f"{lines} lines in the log")
    size = log.stat().st_size
    installation.until(
        lambda: ask(installation, "SELECT sum(read_to) FROM access_log_file") == size, "the log to be read"
    )
    ask(installation, "UPDATE access_log_pending SET received_at = received_at - interval '1 hour'")
    installation.until(
        lambda: ask(installation, "SELECT count(*) FROM access_log_pending") == 0, "the entries"
    )
    installation.until_applied()
    return of_client()


def ask(installation: Installation, statement: str) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(installation.database_url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def instant_of(line: dict[str, Any]) -> datetime:
    """When a line says it happened."""
    return datetime.fromtimestamp(float(line["ts"] if "ts" in line else line["time"]), tz=UTC)


def asked_by(line: dict[str, Any]) -> tuple[str, str]:
    """What a line says was asked: method and path."""
    request = line.get("request", line)
    return request["method"], request["uri"]


def test_log__of_a_real_proxy(client: tuple[str, Send, Path], installation: Installation) -> None:
    """What was refused is entered with who, from where, with what, when; a push once, by its notification."""
    name, send, log = client
    push(send, "team/app", "v1")
    asked = [
        ("PUT", "/v2/team/app/manifests/v2", WRONG, 401),
        ("PUT", "/v2/team/app/manifests/v2", None, 401),  # a challenge, settled by the next
        ("PUT", "/v2/team/app/manifests/v3", KNOWN, 400),
        ("GET", "/v2/team/app/manifests/none", KNOWN, 404),
        ("HEAD", "/v2/team/app/manifests/none", KNOWN, 404),
        ("PUT", "/v2/secret/app/manifests/v1", None, 401),
    ]
    answers = [send(*what, auth=auth, content=b"x" if what[0] == "PUT" else None) for *what, auth, _ in asked]
    assert [status for *_, status in asked] == [answer.status_code for answer in answers]
    send("OPTIONS", "/v2/team/app/manifests/v1", auth=KNOWN)  # as GitLab does: deploy/ answers it for 2.8
    lines = read(installation, log, lines=2 + 3 * len(oci_image("v1").blobs) + len(asked) + 1)

    entries = installation.audit()
    of_log = [entry for entry in entries if entry["source"] == "access-log"]
    who = HTPASSWD_USER if name == "nginx" else None
    expected = {
        ("request.denied", "team/app", "v2", "PUT", 401, True, who),
        ("request.failed", "team/app", "v3", "PUT", 400, None, who),
        ("request.failed", "team/app", "none", "GET", 404, None, who),
        ("request.denied", "secret/app", "v1", "PUT", 401, None, None),
    }
    shown = [
        (
            entry["action"],
            entry["repository"] or entry["detail"]["named_repository"],
            entry["tag"],
            entry["request"]["method"],
            entry["detail"]["status"],
            entry["detail"].get("wrong_password"),
            (entry["actor"] or {}).get("name"),
        )
        for entry in of_log
    ]
    assert (expected, len(expected)) == (set(shown), len(shown))

    told = [entry for entry in entries if entry["tag"] == "v1" and entry["repository"] == "team/app"]
    assert {"notification"} == {entry["source"] for entry in told}
    assert [1] == [sum(entry["action"] == "tag.created" for entry in told)]
    for entry in [*of_log, *told]:
        assert (ELSEWHERE, "client/1") == (entry["request"]["address"], entry["request"]["user_agent"])

    said = [(*asked_by(line), instant_of(line)) for line in lines]
    for entry in of_log:
        repository = entry["repository"] or entry["detail"]["named_repository"]
        path = f"/v2/{repository}/manifests/{entry['tag']}"
        at = datetime.fromisoformat(entry["occurred_at"])
        rounded = timedelta(microseconds=1)  # a float of seconds has no exact microsecond
        assert any(
            (method, said_path) == (entry["request"]["method"], path) and abs(said_at - at) <= rounded
            for method, said_path, said_at in said
        )
        assert entry["occurred_at"] < entry["recorded_at"]
