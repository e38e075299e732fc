"""Feeds of the real server, killed between delivery and cursor: nothing is lost, what is repeated keeps its id."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

from tests.fixtures.feeding import lines_of
from tests.fixtures.installation import API_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.postgres import PostgresServer


@dataclass
class Sink:
    """An HTTP server that holds the answer to a batch back while ``holds`` is set."""

    events: list[dict[str, Any]] = field(default_factory=list)
    taken: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@pytest.fixture
def sink() -> Iterator[Sink]:
    found = Sink()
    found.goes_on.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.events += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.taken.set()
            found.goes_on.wait()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    found.goes_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def push(number: int) -> bytes:
    event = {
        "id": f"11111111-2222-4333-8444-{number:012}",
        "timestamp": "2026-01-01T00:00:00Z",
        "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 1,
            "digest": f"sha256:{number:064x}",
            "repository": "team/app",
            "tag": f"v{number}",
        },
    }
    return json.dumps({"events": [event]}).encode()


def configure(installation: Installation, text: str) -> None:
    """Start the server again with a file of feeds."""
    (installation.directory / "feeds.toml").write_text(text, encoding="utf-8")
    if installation.server is not None and installation.server.poll() is None:
        installation.end(installation.server)
    serve(installation)


def serve(installation: Installation) -> None:
    feeds = str(installation.directory / "feeds.toml")
    installation.server = installation.start("indexer", "serve", INDEXER_FEEDS_FILE=feeds)
    installation.until(installation._is_ready, "indexer serve to be ready")


def shown(installation: Installation) -> dict[str, dict[str, Any]]:
    return {feed["name"]: feed for feed in installation.get("/api/v1/status")["feeds"]}


def until_delivered(installation: Installation) -> None:
    installation.until_applied()

    def delivered() -> bool:
        head = installation.get("/api/v1/status")["audit_position"]
        return all(feed["position"] == head for feed in shown(installation).values())

    installation.until(delivered, "every feed to be at the end of the log")


def test_feeds__killed_between_delivery_and_cursor(
    installation: Installation, postgres_server: PostgresServer, sink: Sink, tmp_path: Path
) -> None:
    """Three times kill -9 while the sink has a batch and the cursor does not know: every entry arrives, in order."""

    async def expire_leases() -> None:
        connection = await asyncpg.connect(installation.database_url)
        await connection.execute("UPDATE feed SET lease_until = '-infinity'")
        await connection.close()

    path = tmp_path / "audit.ndjson"
    configure(
        installation,
        f'[[feed]]\nname = "web"\nkind = "http"\nurl = "{sink.url}"\nbatch = 3\nfrom = "beginning"\n'
        f'[[feed]]\nname = "disk"\nkind = "file"\npath = "{path}"\nbatch = 2\nfrom = "beginning"\n',
    )
    for round_ in range(3):
        sink.goes_on.clear()
        sink.taken.clear()
        for number in range(10):
            assert installation.post(push(10 * round_ + number)) == 202
        assert sink.taken.wait(60)
        installation.end(installation.server, signal.SIGKILL)
        sink.goes_on.set()
        postgres_server.run(expire_leases())
        serve(installation)
        until_delivered(installation)
    head = installation.get("/api/v1/status")["audit_position"]
    everything = list(range(1, head + 1))
    arrived = {event["id"]: event for event in sink.events}
    assert everything == [int(event["sequence"]) for event in arrived.values()]
    assert len(sink.events) > head
    assert all(arrived[event["id"]] == event for event in sink.events)
    assert everything == [int(line["sequence"]) for line in lines_of(path)]
    assert list(arrived.values()) == lines_of(path)


def test_commands__list_replay_dead_remove(installation: Installation, tmp_path: Path) -> None:
    """What operators do to feeds: see how they fare, deliver again, forget one; metrics and status say the same."""
    path = tmp_path / "audit.ndjson"
    configure(installation, f'[[feed]]\nname = "disk"\nkind = "file"\npath = "{path}"\n')
    assert installation.post(push(1)) == 202
    until_delivered(installation)
    head = installation.get("/api/v1/status")["audit_position"]
    listed = installation.run("indexer", "feeds", "list", "--json").json["feeds"]
    assert [("disk", "file", head, 0, 0)] == [
        (feed["name"], feed["kind"], feed["position"], feed["behind"], feed["dead"]) for feed in listed
    ]
    assert f"position {head}, 0 behind" in installation.run("indexer", "feeds", "list").output

    replayed = installation.run("indexer", "feeds", "replay", "disk", "--from", "1", "--json")
    assert {"feed": "disk", "from": 1} == replayed.json
    installation.until(lambda: len(list(tmp_path.glob("audit.ndjson.2*"))) == 1, "the replay")
    head += 1  # what the operator did is an entry itself
    installation.until(
        lambda: head == installation.get("/api/v1/status")["audit_position"], "the replay's own entry"
    )
    until_delivered(installation)
    assert list(range(1, head + 1)) == [int(line["sequence"]) for line in lines_of(path)]
    assert 1 == shown(installation)["disk"]["replays"]

    beyond = installation.run("indexer", "feeds", "replay", "disk", "--from", str(head + 2))
    assert (1, f"indexer: --from {head + 2}: the log has the positions 1 to {head}\n") == (
        beyond.exit_code, beyond.error
    )  # fmt: skip
    assert {"feed": "disk", "dead": []} == installation.run("indexer", "feeds", "dead", "disk", "--json").json
    for verb in ("replay", "dead", "remove"):
        unknown = installation.run("indexer", "feeds", verb, "nobody")
        assert unknown.exit_code == 1
        assert "there is no feed 'nobody'" in unknown.error
    installation.until(
        lambda: 'indexer_feed_lag_positions{feed="disk"} 0.0' in installation.ask("/metrics").text,
        "the gauge",
    )
    configure(installation, "")
    assert "disk is forgotten" in installation.run("indexer", "feeds", "remove", "disk").output
    assert {} == shown(installation)
    did = installation.audit("&source=operator")
    assert ["operator.feed_replayed", "operator.feed_removed"] == [entry["action"] for entry in did]
    assert {"feed": "disk", "from_position": 1} == did[0]["detail"]


def test_server__does_not_start_on_a_wrong_file(installation: Installation) -> None:
    """A wrong file of feeds is one line that names feed and key, and exit code 64."""
    (installation.directory / "feeds.toml").write_text('[[feed]]\nname = "a"\nkind = "pigeon"\n')
    done = installation.run(
        "indexer", "serve", INDEXER_FEEDS_FILE=str(installation.directory / "feeds.toml"),
        INDEXER_LISTEN="127.0.0.1:0",
    )  # fmt: skip
    assert done.exit_code == 64
    assert any("INDEXER_FEEDS_FILE: feed 'a': kind: must be one of" in line for line in done.error_lines)


def test_stream__of_the_real_server(installation: Installation) -> None:
    """What is pushed arrives in an open stream, woken by the sealer; an open stream does not keep the server alive."""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {API_TOKEN}"}
    query = {"from": "beginning", "action": "tag.created"}
    with httpx.stream(
        "GET", f"{installation.url}/api/v1/feed", params=query, headers=headers, timeout=60
    ) as response:
        lines = response.iter_lines()
        for number in range(3):
            assert installation.post(push(number)) == 202
            data = next(line for line in lines if line.startswith("data: "))
            assert json.loads(data.removeprefix("data: "))["subject"] == f"team/app:v{number}"
        assert installation.server is not None
        installation.server.send_signal(signal.SIGTERM)
        assert [line for line in lines if line.startswith("data: ")] == []
    assert installation.server.wait(60) == 0
