"""A registry that is not one, is away, or says nonsense: nothing is deleted, exit code 1, one line says why."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest

from indexer.common import exit_codes
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fixtures.installation import Done, Installation
    from tests.fixtures.registries import StartRegistry

APP = "team/app"
HTML = b"<!doctype html><title>Sign in</title><p>Please sign in."
Handler = http.server.BaseHTTPRequestHandler


class Stranger(Handler):
    """Answers every request in the same way."""

    protocol_version = "HTTP/1.1"
    status = 200
    content_type = "text/html"
    body = HTML
    location: str | None = None

    def do_GET(self) -> None:  # noqa: N802 - the name http.server asks for
        self.send_response(self.status)
        self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(len(self.body)))
        if self.location is not None:
            self.send_header("Location", self.location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_HEAD = do_GET  # noqa: N815 - the name http.server asks for

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Truncating(Stranger):
    """Promises more than it sends."""

    content_type = "application/json"

    def do_GET(self) -> None:  # noqa: N802 - the name http.server asks for
        self.send_response(200)
        self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"repositories": [')
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815


Answering = type[Stranger]


def answering(**attributes: Any) -> Answering:
    return type("Answering", (Stranger,), attributes)


JSON = "application/json"
STRANGERS: dict[str, Answering] = {
    "a web page": answering(),
    "a web page for what is missing": answering(status=404),
    "a login page behind a redirect": answering(status=302, location="/login"),
    "a redirect in circles": answering(status=301, location="/v2/"),
    "500": answering(status=500, body=b"oops", content_type="text/plain"),
    "503 without end": answering(status=503, body=b""),
    "403": answering(status=403, content_type=JSON, body=b'{"errors":[{"code":"DENIED","message":"no"}]}'),
    "401 without a challenge": answering(status=401, content_type=JSON, body=b"{}"),
    "429": answering(status=429, body=b""),
    "an empty object": answering(content_type=JSON, body=b"{}"),
    "not JSON": answering(content_type=JSON, body=b"{]"),
    "JSON of another shape": answering(content_type=JSON, body=b'{"repositories": {"a": 1}, "tags": "x"}'),
    "204": answering(status=204, body=b""),
    "a cut connection": Truncating,
    "not HTTP-like": answering(status=299, body=b"\x00\x01"),
}


@pytest.fixture
def start_stranger() -> Iterator[Callable[[Answering], str]]:
    """A function that starts a server which is no registry; returns its URL."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(kind: Answering) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def filled(installation: Installation, start_registry: StartRegistry) -> Installation:
    """An installation that knows a few tags of a real registry."""
    registry = start_registry(3)
    installation.connect(registry)
    with Pusher(registry.url) as client:
        for number in range(3):
            client.push(APP, oci_image(f"image {number}", layer_sizes=(64,)), f"v{number}")
    assert 0 == installation.run("reconciler", "once").exit_code
    assert 3 == len(installation.tags(APP))
    return installation


def state(installation: Installation) -> Any:
    """Everything a walk could have changed; that an operator asked for one is in the log all the same."""
    paths = ("repositories", "tags", "audit")
    found = [installation.get(f"/api/v1/{path}")["items"] for path in paths]
    return [[item for item in items if item.get("source") != "operator"] for items in found]


def refused(done: Done, case: str, exit_code: int = exit_codes.FAILED) -> None:
    assert exit_code == done.exit_code, (case, done.output, done.error)
    assert done.error_lines or "undecided" in done.output, case
    assert len(done.error_lines) <= 1, (case, done.error_lines)


@pytest.mark.full
@pytest.mark.slow
def test_wrong_registry__strangers(filled: Installation, start_stranger: Callable[[Answering], str]) -> None:
    """Whatever answers at the registry's address without being one takes nothing away: once and plan end with 1."""
    before = state(filled)
    for case, kind in STRANGERS.items():
        url = start_stranger(kind)
        for verb in ("once", "plan"):
            done = filled.run("reconciler", verb, RECONCILER_REGISTRY_URL=url)
            refused(done, f"{verb}: {case}")
            print(f"{verb}, {case}: {' '.join(done.error_lines) or done.output}")
        assert before == state(filled), case


def test_wrong_registry__away(filled: Installation) -> None:
    """A registry that does not answer is one line that names it."""
    before = state(filled)
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid:5000"):
        done = filled.run("reconciler", "once", RECONCILER_REGISTRY_URL=url)
        refused(done, url)
        assert url.removeprefix("http://") in done.error
    assert before == state(filled)


def test_wrong_registry__path(filled: Installation) -> None:
    """An address with a path before /v2/ that leads nowhere is not an empty registry."""
    before = state(filled)
    done = filled.run("reconciler", "once", RECONCILER_REGISTRY_URL=f"{filled.registry_url}/somewhere")
    refused(done, "somewhere")
    assert before == state(filled)


def test_wrong_registry__https_for_http(filled: Installation) -> None:
    """The wrong scheme is a failure, not an empty registry."""
    before = state(filled)
    url = filled.registry_url.replace("http://", "https://")
    refused(filled.run("reconciler", "once", RECONCILER_REGISTRY_URL=url), url)
    assert before == state(filled)


def test_wrong_registry__another_one(filled: Installation, start_registry: StartRegistry) -> None:
    """Another, emptier registry pulls the brake."""
    before = filled.get("/api/v1/tags")["items"]
    done = filled.run("reconciler", "once", RECONCILER_REGISTRY_URL=start_registry(3).url)
    assert 3 == done.exit_code, done.output
    assert before == filled.get("/api/v1/tags")["items"]


def test_wrong_registry__password(
    filled: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """A missing or wrong password is one line, exit code 1; it is never printed; the right one works."""
    guarded = start_registry(registry_version, htpasswd=True)
    before = state(filled)
    settings: dict[str, str | None] = {"RECONCILER_REGISTRY_URL": guarded.url}
    refused(filled.run("reconciler", "once", **settings), "no password")
    settings["RECONCILER_REGISTRY_USERNAME"] = HTPASSWD_USER
    half = filled.run("reconciler", "once", **settings)
    refused(half, "half", exit_codes.USAGE)
    assert "RECONCILER_REGISTRY_USERNAME" in half.error
    wrong = filled.run("reconciler", "once", **settings, RECONCILER_REGISTRY_PASSWORD="wrong-secret")
    refused(wrong, "wrong password")
    assert "wrong-secret" not in wrong.error
    assert before == state(filled)
    with Pusher(guarded.url, username=HTPASSWD_USER, password=HTPASSWD_PASSWORD) as client:
        for number in range(3):
            client.push(APP, oci_image(f"image {number}", layer_sizes=(64,)), f"v{number}")
    right = filled.run("reconciler", "once", **settings, RECONCILER_REGISTRY_PASSWORD=HTPASSWD_PASSWORD)
    assert 0 == right.exit_code, right.error
