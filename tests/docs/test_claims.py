"""Every claim of "Why it is right" names the tests that attack it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "why-it-is-right.md"
CLAIMS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "tests/" in line
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def names_in(path: str) -> set[str]:
    """The tests of a file, those of a stateful machine included."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


def test_claims__are_found() -> None:
    """The table is read as it is meant."""
    assert len(CLAIMS) > 15


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[0][:50])
def test_claim__names_tests_that_exist(claim: list[str]) -> None:
    """Each row has a claim, a reason, and nothing but tests that exist in its last cell."""
    assert 3 == len(claim)
    named = NAMED.findall(claim[2])
    assert named
    assert ", ".join(f"`{path}::{test}`" if test else f"`{path}`" for path, test in named) == claim[2]
    for path, test in named:
        assert (ROOT / path).is_file(), path
        found = names_in(path)
        assert found, path
        assert not test or test in found, f"{path}::{test}"
