"""The reference names every setting, metric, command, path and code that exists, and no other."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import re
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

import indexer
import reconciler
from indexer.api.openapi import document
from indexer.settings import Settings, holds_secrets
from tests.fixtures import programs

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PROGRAMS = ("indexer", "reconciler")
EVERYWHERE = {"--help", "--version"}


def rows(page: str) -> list[list[str]]:
    """The rows of every table of a page, headings included, without their backquotes' meaning lost."""
    lines = (REFERENCE / page).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")
    ]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def import_everything() -> None:
    """Metrics are registered where they are used, so every module must have been imported."""
    for package in (indexer, reconciler):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


# --- settings --------------------------------------------------------------------------------------------


def shown(default: Any) -> str:
    """A default as the page writes it."""
    if default is None or default == ():
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, timedelta):
        for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
            if default.total_seconds() % seconds == 0:
                return f"`{int(default.total_seconds() // seconds)}{unit}`"
    return f"`{default}`"


def test_settings__are_all_described_with_their_defaults() -> None:
    """The tables of the settings' page are indexer/settings.py."""
    described = {quoted(row[0])[0]: row[1] for row in rows("settings.md")}
    actual = {field.name.upper(): shown(field.default) for field in fields(Settings)}
    assert described == actual


# --- metrics ---------------------------------------------------------------------------------------------


@functools.cache
def registered() -> dict[str, tuple[str, frozenset[str]]]:
    """Every metric of ours, with its kind and labels, as Prometheus sees them."""
    import_everything()
    found = {}
    for collector in list(REGISTRY._collector_to_names):
        name, kind = getattr(collector, "_name", ""), getattr(collector, "_type", "")
        if name.startswith(PROGRAMS):
            name = f"{name}_total" if kind == "counter" else name
            found[name] = (kind, frozenset(collector._labelnames))  # type: ignore[attr-defined]  # its only way
    return found


def test_metrics__are_all_described() -> None:
    """The tables of the metrics' page are what the code registers: names, kinds and labels."""
    described = {
        quoted(row[0])[0]: (row[1], frozenset(quoted(row[2])))
        for row in rows("metrics.md")
        if quoted(row[0])[0].startswith(PROGRAMS)
    }
    assert described == registered()


def test_metrics__an_alarm_that_is_spoken_of_is_in_the_list() -> None:
    """What the tables call a reason for an alarm stands under "Worth an alarm", with an expression."""
    spoken_of = {quoted(row[0])[0] for row in rows("metrics.md") if "alarm" in row[-1]}
    _, _, alarms = (REFERENCE / "metrics.md").read_text(encoding="utf-8").partition("## Worth an alarm\n")
    assert {"indexer_audit_damaged", "indexer_own_requests_total"} <= spoken_of
    assert {name for name in spoken_of if name not in alarms} == set()


def test_metrics__loops_are_all_named() -> None:
    """The page names every loop by the label that its metrics have, and no other."""
    import_everything()
    named = {
        label
        for module in list(sys.modules.values())
        if module.__name__.startswith(PROGRAMS)
        for value in vars(module).values()
        if isinstance(value, type) and hasattr(value, "run_once")
        if isinstance(label := vars(value).get("name"), str)
    }
    text = (REFERENCE / "metrics.md").read_text(encoding="utf-8")
    _, _, section = text.partition("The loops of `indexer serve`:")
    section, _, _ = section.partition("| name |")
    listed = set(re.findall(r"`([a-z-]+)`", re.sub(r"`(?:indexer|reconciler) [a-z]+`", "", section)))
    assert named == listed


# --- commands --------------------------------------------------------------------------------------------


@functools.cache
def help_of(*words: str) -> str:
    done = programs.run([*words, "--help"], env={**os.environ, "COLUMNS": "300"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def verbs_of(*words: str) -> dict[str, set[str]]:
    """Every command below ``words`` with its options, as the real help shows them."""
    text = help_of(*words)
    _, _, listed = text.partition(" Commands ")
    inner = re.findall(r"^│ ([a-z][a-z-]*) ", listed, re.MULTILINE)
    if not inner:
        options = {option.split("=")[0] for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
        return {" ".join(words): {o for o in options - EVERYWHERE if not o.startswith("--empty-")}}
    return {name: options for verb in inner for name, options in verbs_of(*words, verb).items()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_commands__are_all_described(program: str) -> None:
    """The tables of the commands' page are what the programs' own help shows: verbs and options."""
    described = {
        quoted(row[0])[0]: set(quoted(row[1]))
        for row in rows("commands.md")
        if row[0].startswith(f"`{program} ")
    }
    assert described == verbs_of(program)


def without_words(*words: str) -> list[str]:
    """The options and arguments below a command whose help says nothing but type, choices and default."""
    text = help_of(*words)
    _, _, listed = text.partition(" Commands ")
    if inner := re.findall(r"^│ ([a-z][a-z-]*) ", listed, re.MULTILINE):
        return [each for verb in inner for each in without_words(*words, verb)]
    marks = r"(?:\[(?:choices|default|required)\b[^]]*\]\s*)*"
    name = r"(?:\*\s+)?(--[a-z][a-z-]*|[A-Z][A-Z_-]+)(?: [A-Z.]+)?"
    return [
        f"{' '.join(words)} {option}" for option in re.findall(rf"^│ {name}\s+{marks}│$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_commands__help_says_what_every_option_is(program: str) -> None:
    """Each option and argument of each verb has words; every help ends with the exit codes that all verbs have."""
    assert without_words(program) == []
    assert "64 a setting, an option or an argument is wrong" in help_of(program)


# --- the API ---------------------------------------------------------------------------------------------


def test_api__paths_are_all_described() -> None:
    """The table of paths is the API's own description."""
    described = {quoted(row[0])[0] for row in rows("api.md")}
    paths = json.loads(json.dumps(document()))["paths"]
    assert described == {f"{verb.upper()} {path}" for path, verbs in paths.items() for verb in verbs}


def test_api__codes_are_all_described() -> None:
    """Every code that a refusal may carry is in the table."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "indexer" / "api").rglob("*.py"))
    used = set(re.findall(r'code="(\w+)"', source))
    used |= set(re.findall(r'_try_again\("(\w+)"', source)) | set(
        re.findall(r'problem\(\d+, "(\w+)"', source)
    )
    text = (REFERENCE / "api.md").read_text(encoding="utf-8")
    _, _, refusals = text.partition("## Refusals")
    assert used - set(quoted(refusals)) == set()


# --- everywhere ------------------------------------------------------------------------------------------

PAGES = sorted(
    page
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*"),
    )
    if page.is_file()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page__names_only_settings_that_exist(page: Path) -> None:
    """A page never tells to set what is not a setting."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:INDEXER|RECONCILER)_[A-Z][A-Z_]*[A-Z]\b", text))
    known = {field.name.upper() for field in fields(Settings)} | {"INDEXER_CONFIG"}
    known |= {f"{field.name.upper()}_FILE" for field in fields(Settings) if holds_secrets(field)}
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page__names_only_metrics_that_exist(page: Path) -> None:
    """A page never tells to watch what is not measured."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:indexer|reconciler)_[a-z_]+_(?:total|seconds|bytes|size)\b", text))
    assert named - registered().keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page__names_only_commands_that_exist(page: Path) -> None:
    """A page never tells to run what is not a command."""
    text = page.read_text(encoding="utf-8")
    known = {command for program in PROGRAMS for command in verbs_of(program)}
    named = set(
        re.findall(r"(?:`|\$ |^ {4,})((?:indexer|reconciler) [a-z]+(?: [a-z]+)?)\b", text, re.MULTILINE)
    )
    named = {words for words in named if words not in known and " ".join(words.split()[:2]) not in known}
    assert named == set()
