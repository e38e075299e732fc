#!/usr/bin/env python3
"""Reports to the indexer which images a Docker host runs and may run. Python's standard library only.

Every container counts, also one that is stopped: starting it again needs its image. Of each the name that it was
created with, the image's config and the digests under which the image was pulled are reported. With swarm, services
count, too.

Asks the engine at its socket (DOCKER_SOCKET, /var/run/docker.sock). Environment: INDEXER_URL, IN_USE_SOURCE,
IN_USE_TOKEN (or IN_USE_TOKEN_FILE), VALID_FOR (48h). `--print` prints the images and reports nothing; `--confirm`
counts a set although it shrank by more than half. One source is one set: give each host its own.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SOCKET = os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock")
NO_SWARM = 503


class Engine(http.client.HTTPConnection):
    """A connection to the engine's socket."""

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(SOCKET)


def ask(path: str) -> tuple[int, Any]:
    """Return status and answer of the engine's API."""
    engine = Engine("localhost")
    try:
        engine.request("GET", path)
        answer = engine.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        engine.close()


def collect(get: Any) -> list[str]:
    """Return every image of the host, each once; raise ``OSError`` where the engine does not answer."""
    status, containers = get("/containers/json?all=true")
    if status != http.client.OK:
        raise OSError(f"the engine answered {status}: {containers}")
    found: set[str] = set()
    for container in containers:
        found.update(names_of(get, container.get("ImageID") or "", container.get("Image") or ""))
    status, services = get("/services")
    if status == http.client.OK:
        for service in services:
            image = service["Spec"]["TaskTemplate"].get("ContainerSpec", {}).get("Image")
            found.update([image] if image else [])
    elif status != NO_SWARM:
        raise OSError(f"the engine answered {status}: {services}")
    return sorted(found)


def names_of(get: Any, image_id: str, name: str) -> Iterable[str]:
    """Yield an image as its container names it, by its config, and by the digests under which it was pulled."""
    if name and not name.startswith("sha256:") and name not in image_id:
        yield name
    if not image_id:
        return
    yield image_id
    status, image = get(f"/images/{image_id}/json")
    if status == http.client.NOT_FOUND:  # removed by force, under its container
        return
    if status != http.client.OK:
        raise OSError(f"the engine answered {status}: {image}")
    yield from image.get("RepoDigests") or ()
    yield from image.get("RepoTags") or ()


def report(images: Iterable[str], *, confirm: bool) -> Any:
    """Send the whole set to the indexer; return its answer."""
    token = os.environ.get("IN_USE_TOKEN") or Path(os.environ["IN_USE_TOKEN_FILE"]).read_text().strip()
    url = f"{os.environ['INDEXER_URL'].rstrip('/')}/api/v1/in-use/{os.environ['IN_USE_SOURCE']}"
    body = {"images": list(images), "valid_for": os.environ.get("VALID_FOR", "48h"), "confirm": confirm}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main(arguments: list[str]) -> int:
    """Report, or print."""
    try:
        images = collect(ask)
        if "--print" in arguments:
            print("\n".join(images))
            return 0
        answer = report(images, confirm="--confirm" in arguments)
    except urllib.error.HTTPError as error:
        print(f"{error.url}: {error.code} {error.read(1000).decode(errors='replace')}", file=sys.stderr)
        return 1
    except (OSError, KeyError, ValueError) as error:
        print(f"nothing was reported: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 1 if answer.get("waits_for_confirmation") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
