"""Work side by side, each in a process of its own: all begin at once, and the clock runs until the last is done."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Begin = Callable[[], None]

_GET_READY_SECONDS = 60

_barrier: Any = None


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds until all were done, and seconds of processor time of all of them together."""

    seconds: float
    processor_seconds: float


async def side_by_side(work: Callable[..., Awaitable[None]], calls: Sequence[tuple[Any, ...]]) -> Took:
    """Run ``work(begin, *call)`` for each call in a process of its own; return what it took.

    ``work`` is a function of a module; it calls ``begin`` once it is ready, which waits for the others.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(calls))
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(
        len(calls), mp_context=context, initializer=_remember, initargs=(barrier,)
    ) as processes:
        spans = await asyncio.gather(*(loop.run_in_executor(processes, _work, work, call) for call in calls))
    seconds = max(end for _, end, _ in spans) - min(began for began, _, _ in spans)
    return Took(seconds, sum(used for _, _, used in spans))


def _remember(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 - one a process, handed over when it starts
    _barrier = barrier


def _work(work: Callable[..., Awaitable[None]], call: tuple[Any, ...]) -> tuple[float, float, float]:
    began = used = 0.0

    def begin() -> None:
        nonlocal began, used
        _barrier.wait(_GET_READY_SECONDS)
        began, used = time.monotonic(), time.process_time()

    uvloop.run(work(begin, *call))  # type: ignore[arg-type]  # a coroutine, of a type that cannot be said here
    return began, time.monotonic(), time.process_time() - used
