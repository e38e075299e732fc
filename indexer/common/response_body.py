"""What a receiver says in the body of an answer, as far as that is worth reading."""

from __future__ import annotations

import httpx

ANSWER_BYTES = 64 * 1024
"""Of an answer's body that are read; a longer one costs the connection."""


async def read_start(answer: httpx.Response) -> str:
    """Return the first bytes of a streamed answer's body as text."""
    body = b""
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES:
            break
    return body[:ANSWER_BYTES].decode("utf-8", "replace").strip()
