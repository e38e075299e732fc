"""Which program has a verb need not be known by heart: the other one says so."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from indexer import cli as indexer
from indexer.common.errors import ConfigurationError
from reconciler import cli as reconciler


def verbs(module: ModuleType) -> set[str]:
    return {name for name in module.app if not name.startswith("-")}


def test_verbs__are_known_to_the_other_program() -> None:
    """Each program knows every verb of the other, and none of its own is taken for one."""
    assert verbs(reconciler) == indexer.RECONCILER_VERBS
    assert verbs(indexer) == reconciler.INDEXER_VERBS


@pytest.mark.parametrize(
    ("module", "verb", "said"),
    [(indexer, "status", "reconciler status"), (reconciler, "serve", "indexer serve")],
    ids=["indexer status", "reconciler serve"],
)
def test_verbs__of_the_other_program(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, verb: str, said: str
) -> None:
    """The one line that refuses a verb names the command that has it."""
    monkeypatch.setattr(sys, "argv", ["program", verb])
    with pytest.raises(ConfigurationError, match=said):
        module._run()
