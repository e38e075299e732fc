"""A group of tasks that leaves nothing behind in the task it is in."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Self


class TaskGroup(asyncio.TaskGroup):  # noqa: TID251 - the one place
    """``asyncio.TaskGroup``, which asks its own task to cancel when one of the group fails, and here takes that back.

    CPython 3.11 and 3.12 do not where the failure comes while the others are waited for: ``Task.cancelling()`` then
    says for ever that the task is to be cancelled, and whoever goes by it (``translated`` in ``indexer.store.pool``)
    ends what should go on. 3.13 does.
    """

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        self._requests = 0 if task is None else task.cancelling()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except BaseExceptionGroup:
            task = asyncio.current_task()
            while sys.version_info < (3, 13) and task is not None and task.cancelling() > self._requests:
                task.uncancel()
            raise
