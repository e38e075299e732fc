"""The documentation is true: its Python examples run, its links lead somewhere, its settings exist."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)\s]*)?\)")
COMMAND = re.compile(r"python3 dev\.py (\w+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def examples(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page__python_examples_run(page: Path, tmp_path: Path) -> None:
    """Every Python example of a page runs to its end, one after the other in one program."""
    code = "\n".join(examples(page, "python"))
    if not code:
        return
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page__links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of the repository."""
    targets = [target for target, _ in LINK.findall(page.read_text(encoding="utf-8"))]
    relative = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in relative if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page__links_lead_to_headings(page: Path) -> None:
    """Every link to a part of a page of the repository names a heading that is there."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    inner = [(page.parent / target, part[1:]) for target, part in links if part and "://" not in target]
    assert [part for target, part in inner if target.suffix == ".md" and part not in headings(target)] == []


@functools.cache
def headings(page: Path) -> set[str]:
    """The names by which the headings of a page are linked to."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page__commands_exist(page: Path) -> None:
    """Every verb of dev.py that a page shows is one."""
    assert set(COMMAND.findall(page.read_text(encoding="utf-8"))) - developers_verbs() == set()


@functools.cache
def developers_verbs() -> set[str]:
    listed = subprocess.run(
        [sys.executable, ROOT / "dev.py"], capture_output=True, text=True, check=False
    ).stdout
    return set(re.findall(r"^  (\w+) ", listed, re.MULTILINE))


@pytest.mark.parametrize("program", ["indexer", "reconciler"])
def test_architecture__lists_what_is_there(program: str) -> None:
    """The tree has every file and folder at the top of both programs, and no other."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    tree = text[text.index("\n## The tree\n") : text.index("\nRules of the tree:")]
    part = re.search(rf"^    {program}/\n((?:      .*\n)+)", tree, re.MULTILINE)
    assert part is not None
    named = set(re.findall(r"(?<![\w*/.])(\w+\.py|\w+/)(?!\w)", part[1]))
    there = {
        f"{each.name}/" if each.is_dir() else each.name
        for each in (ROOT / program).iterdir()
        if each.name not in {"__init__.py", "py.typed", "__pycache__"}
    }
    assert there - named == set()
    first = re.findall(r"^      (\S+(?: \S+\.py)*|\w+/)", part[1], re.MULTILINE)
    listed = {
        name for names in first for name in names.split() if name.endswith(("/", ".py")) and "*" not in name
    }
    assert listed - there == set()


NO_LINE = {"README.md", ".gitignore", ".env"}


def test_deploy__names_every_file() -> None:
    """Each file of deploy/ has its line: what it is, and when to use it."""
    deploy = ROOT / "deploy"
    files = {str(path.relative_to(deploy)) for path in deploy.rglob("*") if path.is_file()} - NO_LINE
    files = {"helm/" if name.startswith("helm/") else name for name in files}  # the chart has its own README
    text = (deploy / "README.md").read_text(encoding="utf-8")
    assert files == set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
