"""A database that does not answer is named, and its password is not."""

from __future__ import annotations

import pytest

from indexer.common.errors import StoreUnavailable
from indexer.store.pool import connect, connection, open_pool
from tools.ports import free_port


async def test_unreachable__says_where() -> None:
    """Both ways to connect say host and port, whatever the event loop's own error says."""
    port = free_port()
    url = f"postgresql://me:hunter2@127.0.0.1:{port}/indexer"
    with pytest.raises(StoreUnavailable, match=rf"\(127\.0\.0\.1:{port}\)") as one:
        await connect(url, application="tests")
    pool = await open_pool(url, size=1, application="tests")
    with pytest.raises(StoreUnavailable, match=rf"\(127\.0\.0\.1:{port}\)") as other:
        async with connection(pool):
            pass
    await pool.close()
    assert "hunter2" not in f"{one.value} {other.value}"
