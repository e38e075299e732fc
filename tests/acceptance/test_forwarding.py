"""Notifications of a real registry forwarded by the real server to an endpoint that behaves like GitLab's."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tools.sample_images import oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.installation import Installation
    from tools.sample_images import Pusher

SECRET = "notification-secret-of-the-test"
APP = "group/app"


@dataclass
class Gitlab:
    """What GitLab was sent; ``down`` answers 503 to everything."""

    events: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False
    url: str = ""

    def pushes(self) -> set[str]:
        """The tags whose push has arrived."""
        return {each["target"]["tag"] for each in self.events if each["target"].get("tag")}


@pytest.fixture
def gitlab() -> Iterator[Gitlab]:
    """An endpoint that wants the whole header, and takes known actions only."""
    kept = Gitlab()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Authorization"] != SECRET:
                status = 401
            elif kept.down:
                status = 503
            else:
                status = 200
                kept.events += json.loads(body)["events"]
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}"
    yield kept
    server.shutdown()
    server.server_close()


def restart(installation: Installation, gitlab: Gitlab, number: signal.Signals) -> None:
    """End the server with a signal, and start one that forwards."""
    installation.end(installation.server, number)
    installation.server = installation.start(
        "indexer", "serve", INDEXER_GITLAB_URL=gitlab.url, INDEXER_GITLAB_TOKEN=SECRET
    )
    installation.until(installation._is_ready, "the server that forwards")


@pytest.mark.full
def test_gitlab__gets_every_event_though_it_was_away_and_we_were_killed(
    installation: Installation, pusher: Pusher, gitlab: Gitlab
) -> None:
    """While GitLab is away pushes are indexed all the same; after kill -9 what waited is forwarded, none lost."""
    restart(installation, gitlab, signal.SIGTERM)
    pusher.push(APP, oci_image("forwarded"), "v1")
    installation.until(lambda: gitlab.pushes() == {"v1"}, "the first push at GitLab")

    gitlab.down = True
    for number in range(2, 7):
        pusher.push(APP, oci_image(f"forwarded {number}"), f"v{number}")
    installation.until(lambda: len(installation.tags(APP)) == 6, "the index to have all tags")
    assert gitlab.pushes() == {"v1"}
    assert installation.get("/api/v1/status")["gitlab_forwarding"]["waiting"] >= 5

    restart(installation, gitlab, signal.SIGKILL)
    gitlab.down = False
    installation.until(lambda: gitlab.pushes() == {f"v{n}" for n in range(1, 7)}, "all pushes at GitLab")
    for each in gitlab.events:
        assert each["action"] in ("push", "pull", "delete")
        assert "" not in each["target"].values()
    installation.until(
        lambda: installation.get("/api/v1/status")["gitlab_forwarding"]["waiting"] == 0, "nothing to wait"
    )
    assert SECRET not in installation.last_words()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"INDEXER_GITLAB_URL": "http://127.0.0.1:1"}, "INDEXER_GITLAB_TOKEN"),
        ({"INDEXER_GITLAB_TOKEN": SECRET}, "INDEXER_GITLAB_URL"),
        ({"INDEXER_GITLAB_URL": "ftp://gitlab", "INDEXER_GITLAB_TOKEN": SECRET}, "INDEXER_GITLAB_URL"),
    ],
)
def test_gitlab__settings_that_cannot_work_are_refused(
    bare_installation: Installation, settings: dict[str, str], named: str
) -> None:
    """Half of the settings, or an address that is none, ends the start with one line that names it."""
    done = bare_installation.run("indexer", "serve", **settings)
    assert done.exit_code == 64
    assert named in done.error
    assert SECRET not in done.error
