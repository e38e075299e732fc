"""Whose fault it is that a delivery cannot be applied: tables."""

from __future__ import annotations

import asyncpg
import pytest

from indexer.common.errors import (
    ConfigurationError,
    RegistryUnavailable,
    StoreBusy,
    StoreFault,
    StoreOutdated,
    StoreRefused,
    StoreTimedOut,
    StoreUnavailable,
)
from indexer.ingest.decide import (
    ALIKE_IN_A_ROW,
    Blame,
    FailureAction,
    Streak,
    blame,
    judge,
    kind_of,
    wait_after,
)
from indexer.store.pool import error_of_ours, translated


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreUnavailable("away"), Blame.NOBODY),
        (StoreBusy("deadlock"), Blame.NOBODY),
        (StoreOutdated("old"), Blame.NOBODY),
        (ConfigurationError("password"), Blame.NOBODY),
        (StoreTimedOut("slow"), Blame.SLOW),
        (StoreRefused("too large"), Blame.CONTENT),
        (ValueError("odd"), Blame.CONTENT),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "odd"), Blame.CONTENT),
        (RecursionError(), Blame.CONTENT),
        (OverflowError(), Blame.CONTENT),
        (StoreFault("no such column"), Blame.OURS),
        (KeyError("x"), Blame.OURS),
        (AttributeError("x"), Blame.OURS),
        (TypeError("x"), Blame.OURS),
        (MemoryError(), Blame.OURS),
        (RegistryUnavailable("x"), Blame.OURS),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else str(each),
)
def test_blame(error: BaseException, expected: Blame) -> None:
    """Only what its content can cause is a delivery's fault."""
    assert blame(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.DataError("x"), StoreRefused),
        (asyncpg.CharacterNotInRepertoireError("x"), StoreRefused),
        (asyncpg.CheckViolationError("x"), StoreRefused),
        (asyncpg.UniqueViolationError("x"), StoreRefused),
        (asyncpg.exceptions._base.DataError("invalid input for query argument $1"), StoreRefused),
        (asyncpg.DeadlockDetectedError("x"), StoreBusy),
        (asyncpg.SerializationError("x"), StoreBusy),
        (asyncpg.LockNotAvailableError("x"), StoreBusy),
        (TimeoutError(), StoreTimedOut),
        (asyncpg.QueryCanceledError("x"), StoreTimedOut),
        (ConnectionRefusedError(), StoreUnavailable),
        (asyncpg.ConnectionDoesNotExistError("x"), StoreUnavailable),
        (asyncpg.DiskFullError("x"), StoreUnavailable),
        (asyncpg.AdminShutdownError("x"), StoreUnavailable),
        (asyncpg.ReadOnlySQLTransactionError("x"), StoreUnavailable),
        (asyncpg.UndefinedTableError("x"), StoreFault),
        (asyncpg.UndefinedColumnError("x"), StoreFault),
        (asyncpg.InsufficientPrivilegeError("x"), StoreFault),
        (asyncpg.InvalidCachedStatementError("x"), StoreFault),
        (asyncpg.ProgramLimitExceededError("x"), StoreFault),
        (asyncpg.RaiseError("x"), StoreFault),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else each.__name__,
)
async def test_errors_of_the_driver(error: Exception, expected: type[Exception]) -> None:
    """Each kind of the driver's errors is exactly one of ours, and none leaves the store as it is."""
    assert type(error_of_ours(error)) is expected
    with pytest.raises(expected) as raised:
        async with translated():
            raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "attempts", "in_a_row", "expected"),
    [
        (StoreRefused("x"), 1, 1, FailureAction.QUARANTINE),
        (StoreRefused("x"), 1, ALIKE_IN_A_ROW - 1, FailureAction.QUARANTINE),
        (StoreRefused("x"), 1, ALIKE_IN_A_ROW, FailureAction.STOP),
        (StoreTimedOut("x"), 1, 1, FailureAction.LATER),
        (StoreTimedOut("x"), 2, 1, FailureAction.LATER),
        (StoreTimedOut("x"), 3, 1, FailureAction.QUARANTINE),
        (StoreTimedOut("x"), 3, 2, FailureAction.LATER),
        (StoreTimedOut("x"), 9, ALIKE_IN_A_ROW, FailureAction.STOP),
        (KeyError("x"), 1, 1, FailureAction.LATER),
        (KeyError("x"), 99, 1, FailureAction.LATER),
        (KeyError("x"), 1, ALIKE_IN_A_ROW, FailureAction.STOP),
        (StoreFault("x"), 99, 1, FailureAction.LATER),
    ],
)
def test_judge(error: Exception, attempts: int, in_a_row: int, expected: FailureAction) -> None:
    """Content is quarantined, slowness after three times beside others that work, our own faults never."""
    streak = Streak(kind=kind_of(error), count=in_a_row - 1)
    streak.failed(error)
    assert judge(error, attempts=attempts, streak=streak) is expected


def test_streak__counts_what_fails_alike() -> None:
    """Another kind of error, or one that was applied, begins it anew."""
    streak = Streak()
    for error in (KeyError("a"), KeyError("b"), error_of_ours(asyncpg.DataError("x"))):
        error.__cause__ = asyncpg.DataError("x") if isinstance(error, StoreRefused) else None
        streak.failed(error)
    assert streak.count == 1
    violated = error_of_ours(asyncpg.CheckViolationError("x"))
    violated.__cause__ = asyncpg.CheckViolationError("x")
    streak.failed(violated)
    assert streak.count == 1
    streak.failed(violated)
    assert streak.count == 2
    streak.applied()
    streak.failed(violated)
    assert streak.count == 1


def test_wait_after__grows_and_has_an_end() -> None:
    """A second, doubled with every attempt, up to a quarter of an hour."""
    assert [wait_after(attempts) for attempts in (1, 2, 3, 10, 11, 10**6)] == [1, 2, 4, 512, 900, 900]
