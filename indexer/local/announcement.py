"""Waiting for the server to be ready, and what ``indexer up`` prints then."""

from __future__ import annotations

import asyncio
from typing import Final

POLL_SECONDS: Final = 0.1
ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - not bound


def reachable_url(listen: str) -> str:
    """Return the URL by which this machine reaches an address that a server listens on."""
    host, _, port = listen.rpartition(":")
    return f"http://{ANY_ADDRESS.get(host, host)}:{port}"


async def until_ready(listen: str) -> None:
    """Wait until ``/readyz`` answers 200."""
    host, _, port = reachable_url(listen).removeprefix("http://").rpartition(":")
    while not await is_ready(host.strip("[]"), int(port)):  # noqa: ASYNC110 - another process gets ready
        await asyncio.sleep(POLL_SECONDS)


async def is_ready(host: str, port: int) -> bool:
    """Return whether ``/readyz`` answers 200. Over a plain socket: an HTTP client is more than this needs."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split()[1:2] == [b"200"]


def announcement(
    *, base_url: str, registry_url: str, database: str, token_place: str, readable: bool = True
) -> str:
    """Return the text for the operator: the addresses, and what to write into the registry's configuration."""
    closed = "" if readable else "   (closed: set INDEXER_API_TOKENS, every request is 401 until then)"
    token = f"<content of {token_place}>" if "/" in token_place else "<its value>"
    return f"""
indexer is up
  API        {base_url}/api/v1{closed}
  registry   {registry_url}
  database   {database}
  token      {token_place}

Add this to the registry's config.yml, with the token in place of {token},
and restart the registry:

  notifications:
    endpoints:
      - name: indexer
        url: {base_url}/notifications
        headers:
          Authorization: ["Bearer {token}"]
        timeout: 5s
        threshold: 3
        backoff: 1s
        ignore:
          mediatypes: [application/octet-stream]
          # This section announces pulls, so you get last_pulled_at, pull_count and who pulled what. Each GET or HEAD of
          # a manifest then makes an event. It takes 3 kB of the registry's memory until it is delivered, and in
          # the database an audit entry of 300 bytes for ever (less with INDEXER_PULL_DETAIL=7d).
          # To do without pulls, remove the # of the next line. Then answers say `pulls_known: false`, and unused
          # tags cannot be found.
          # actions: [pull]

End with Ctrl-C.
"""
