"""A thread of one's own for work that blocks: a disk's flush, a socket, a large file.

``asyncio.to_thread`` shares a few threads among everything in the process, the resolving of names included: where six
slow receivers hold all of them, nothing else that blocks begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class OneThread:
    """Runs what it is given one after the other, in the order it was given; begins its thread when first needed."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Return what ``work`` returns. Cancelled: it runs to its end all the same, and what follows waits for that."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **named))

    def close(self) -> None:
        """Take no more; what runs is not waited for."""
        self._executor.shutdown(wait=False)
