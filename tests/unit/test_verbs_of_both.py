"""Which program has a verb need not be known by heart: the other one says so."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from indexer.commands import main as indexer
from indexer.common import exit_codes
from reconciler.commands import main as reconciler

OF_BOTH = {"completion"}


def verbs(module: ModuleType) -> set[str]:
    return {name for name in module.app if not name.startswith("-")}


def test_verbs__are_known_to_the_other_program() -> None:
    """Each program knows every verb of the other, and none of its own is taken for one."""
    assert verbs(reconciler) - OF_BOTH == indexer.RECONCILER_VERBS
    assert verbs(indexer) - OF_BOTH == reconciler.INDEXER_VERBS


@pytest.mark.parametrize(
    ("module", "verb", "said"),
    [(indexer, "status", "reconciler status"), (reconciler, "serve", "indexer serve")],
    ids=["indexer status", "reconciler serve"],
)
def test_verbs__of_the_other_program(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: ModuleType,
    verb: str,
    said: str,
) -> None:
    """The one line that refuses a verb names the command that has it; that is wrong usage."""
    monkeypatch.setattr(sys, "argv", ["program", verb])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == exit_codes.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--no-such-option", "no-such-verb"])
@pytest.mark.parametrize("module", [indexer, reconciler], ids=["indexer", "reconciler"])
def test_usage__is_64(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: ModuleType, wrong: str
) -> None:
    """What is typed wrongly ends with 64, and is named."""
    monkeypatch.setattr(sys, "argv", ["program", wrong])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == exit_codes.USAGE
    captured = capsys.readouterr()
    assert wrong.removeprefix("--") in captured.err + captured.out
