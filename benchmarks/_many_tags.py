"""A registry that computes its answers, in a process of its own: as many repositories and tags as wanted, and fast.

It knows just what a reconciler that compares only asks of 3.x. A manifest is shared by ten tags.

    python benchmarks/_many_tags.py PORT REPOSITORIES TAGS_EACH
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import re
import sys

import uvloop
from aiohttp import web

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b"{}"
CONFIG_DIGEST = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
SHARE = 10
_PATH = re.compile(r"/v2/(?:(_catalog)|bench/app(\d+)/(?:(tags/list)|manifests/(.+)|blobs/(.+)))?")


def name_of(repository: int) -> str:
    return f"bench/app{repository:05}"


def tag_of(number: int) -> str:
    return f"v1.{number:07}"


@functools.lru_cache(maxsize=200_000)
def manifest(number: int) -> tuple[str, bytes]:
    """Return a manifest's digest and bytes."""
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": CONFIG_DIGEST, "size": len(CONFIG)}
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    content = json.dumps(body | {"annotations": {"number": str(number)}}).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}", content


class ManyTags:
    """What is asked, answered."""

    def __init__(self, repositories: int, tags_each: int) -> None:
        self._repositories = repositories
        self._tags = [tag_of(number) for number in range(tags_each)]
        # As Go writes it: without blanks.
        self._listings = {
            number: json.dumps({"name": name_of(number), "tags": self._tags}, separators=(",", ":")).encode()
            for number in range(repositories)
        }
        self._numbers = {tag: number // SHARE for number, tag in enumerate(self._tags)}
        self._digests = {manifest(number)[0]: number for number in range(tags_each // SHARE + 1)}

    async def answer(self, request: web.BaseRequest) -> web.Response:  # noqa: PLR0911 - one a kind of request
        found = _PATH.fullmatch(request.path)
        if found is None:
            return web.Response(status=404)
        catalog, repository, listing, reference, blob = found.groups()
        if catalog:
            return web.json_response({"repositories": [name_of(n) for n in range(self._repositories)]})
        if repository is None:
            return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        if listing:
            return web.Response(body=self._listings[int(repository)], content_type="application/json")
        if blob:
            return web.Response(body=CONFIG, headers={"Docker-Content-Digest": CONFIG_DIGEST})
        number = self._digests.get(reference) if ":" in reference else self._numbers.get(reference)
        if number is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        digest, content = manifest(number)
        if request.headers.get("If-None-Match", "").strip('"') == digest:
            return web.Response(status=304)
        headers = {"Docker-Content-Digest": digest, "Content-Type": MANIFEST}
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(content))})
        return web.Response(body=content, headers=headers)


async def serve(port: int, repositories: int, tags_each: int) -> None:
    runner = web.ServerRunner(web.Server(ManyTags(repositories, tags_each).answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:4])))
