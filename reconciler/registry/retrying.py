"""When a request is repeated: attempts, waits, and a budget for the whole registry.

Only ``RegistryUnavailable`` is retried. The wait is the registry's ``Retry-After``, else exponential with jitter. The
budget prevents retries from overloading a registry in trouble: every answered request earns a little, every retry costs
one, and without budget a failure is raised at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from indexer.common.errors import RegistryUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long; times in seconds."""

    attempts: int = 4
    """Sends of one request, the first included. With the waits they last longer than a registry's restart."""
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 10.0
    """A longer ``Retry-After`` is raised to the caller, who has other work meanwhile."""
    budget: float = 20.0
    """Retries that may be spent at once."""
    earned_per_answer: float = 0.1
    """Retries earned by each answered request: at most a tenth more load on a registry in trouble."""


class Retrier:
    """Runs calls with one policy and one shared budget."""

    def __init__(self, policy: RetryPolicy, *, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._policy = policy
        self._left = policy.budget
        self._backoff = wait_random_exponential(
            multiplier=policy.first_wait_seconds, max=policy.longest_wait_seconds
        )
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(RegistryUnavailable),
            stop=self._is_over,
            wait=self._wait,
            sleep=sleep,
            reraise=True,
        )

    @property
    def budget_left(self) -> float:
        """Retries that may be spent now."""
        return self._left

    async def run(self, send: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        """Call ``send`` until it answers, fails for good, or attempts or budget are used up."""
        try:
            answer = (
                await send()
            )  # the usual case without tenacity, which would take a tenth of a reconcile's time
        except RegistryUnavailable as failure:
            if not repeatable:
                raise
            retrying = self._retrying.copy()  # it has the state of one call
            answer = await retrying(_failed_before(failure, send))
        self._left = min(self._policy.budget, self._left + self._policy.earned_per_answer)
        return answer

    def _is_over(self, state: RetryCallState) -> bool:
        """Return after a failure whether it was the last attempt; if not, spend from the budget."""
        retry_after = _retry_after(state)
        if state.attempt_number >= self._policy.attempts or self._left < 1:
            return True
        if retry_after is not None and retry_after > self._policy.longest_wait_seconds:
            return True
        self._left -= 1
        return False

    def _wait(self, state: RetryCallState) -> float:
        backoff = self._backoff(state)
        retry_after = _retry_after(state)
        return backoff if retry_after is None else max(retry_after, backoff)


def _failed_before(
    failure: RegistryUnavailable, send: Callable[[], Awaitable[T]]
) -> Callable[[], Awaitable[T]]:
    """Return a function whose first call raises ``failure``; later calls are ``send``."""
    failures = [failure]

    async def sent() -> T:
        if failures:
            raise failures.pop()
        return await send()

    return sent


def _retry_after(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after_seconds if isinstance(error, RegistryUnavailable) else None
