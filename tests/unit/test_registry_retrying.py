"""When a request is sent again, and when not."""

from __future__ import annotations

import pytest

from indexer.common.errors import RegistryDenied, RegistryError, RegistryMisbehaved, RegistryUnavailable
from reconciler.registry.retrying import Retrier, RetryPolicy


class Sender:
    """Fails as told and then answers; remembers the waits."""

    def __init__(self, *failures: RegistryError) -> None:
        self.failures = list(failures)
        self.sent = 0
        self.waits: list[float] = []

    async def send(self) -> str:
        """Fail or answer."""
        self.sent += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    async def sleep(self, seconds: float) -> None:
        """Remember a wait instead of waiting."""
        self.waits.append(seconds)


def busy(seconds: float | None = None) -> RegistryUnavailable:
    """Return the error that is worth another try."""
    return RegistryUnavailable("busy", retry_after_seconds=seconds)


async def test_run__answers_after_failures() -> None:
    """Failures within the attempts are not seen; the waits grow within their bounds."""
    sender = Sender(busy(), busy(), busy())

    assert await Retrier(RetryPolicy(first_wait_seconds=1), sleep=sender.sleep).run(sender.send) == "answer"
    assert sender.sent == 4
    assert all(0 <= wait <= bound for wait, bound in zip(sender.waits, (1, 2, 4), strict=True))


async def test_run__gives_up() -> None:
    """The last failure is the caller's, as it was raised."""
    last = busy()
    sender = Sender(busy(), busy(), busy(), last)

    with pytest.raises(RegistryUnavailable) as caught:
        await Retrier(RetryPolicy(), sleep=sender.sleep).run(sender.send)
    assert caught.value is last
    assert sender.sent == 4


@pytest.mark.parametrize("error", [RegistryDenied("no"), RegistryMisbehaved("what")])
async def test_run__only_the_unavailable_is_asked_again(error: RegistryError) -> None:
    """A refusal or nonsense would only be repeated."""
    sender = Sender(error)

    with pytest.raises(type(error)):
        await Retrier(RetryPolicy(), sleep=sender.sleep).run(sender.send)
    assert sender.sent == 1


async def test_run__not_repeatable() -> None:
    """What may not be sent twice is not."""
    sender = Sender(busy())

    with pytest.raises(RegistryUnavailable):
        await Retrier(RetryPolicy(), sleep=sender.sleep).run(sender.send, repeatable=False)
    assert sender.sent == 1


async def test_run__waits_as_the_registry_asks() -> None:
    """``Retry-After`` is waited for at least; longer than the bound it is the caller's."""
    sender = Sender(busy(3))
    await Retrier(RetryPolicy(), sleep=sender.sleep).run(sender.send)
    assert sender.waits[0] >= 3

    sender = Sender(busy(11))
    with pytest.raises(RegistryUnavailable):
        await Retrier(RetryPolicy(longest_wait_seconds=10), sleep=sender.sleep).run(sender.send)
    assert sender.waits == []


async def test_budget__spent_and_earned() -> None:
    """Retries cost, answers earn, and nothing is saved beyond the budget."""
    policy = RetryPolicy(budget=2, earned_per_answer=0.5)
    sender = Sender(*[busy() for _ in range(3)])
    retrier = Retrier(policy, sleep=sender.sleep)

    with pytest.raises(RegistryUnavailable):
        await retrier.run(sender.send)
    assert sender.sent == 3
    assert retrier.budget_left == 0

    for expected in (0.5, 1.0, 1.5, 2.0, 2.0):
        await retrier.run(sender.send)
        assert retrier.budget_left == expected
