"""Writes the table of values in the README of the Helm chart. A test compares.

The table comes from ``values.yaml``: a comment that begins with ``# --`` is the text of the value below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

CHART = Path(__file__).parents[1] / "deploy" / "helm"
README = CHART / "README.md"
VALUES = CHART / "values.yaml"
ALARMS = CHART / "files" / "rules.yml"
RULES = CHART.parent / "prometheus" / "rules.yml"
BEGIN, END = "<!-- values -->", "<!-- end of values -->"
MARK = "# --"


def rows() -> Iterator[tuple[str, Any, str]]:
    """Yield the name, the default and the text of every value."""
    texts = _texts(VALUES.read_text(encoding="utf-8").splitlines())
    yield from _rows(YAML().load(VALUES), texts, "")


def _rows(values: Mapping[str, Any], texts: Mapping[str, str], before: str) -> Iterator[tuple[str, Any, str]]:
    for name, value in values.items():
        path = f"{before}{name}"
        if isinstance(value, CommentedMap) and value and not _is_leaf(path):
            yield from _rows(value, texts, f"{path}.")
        else:
            yield path, value, texts.get(path, "")


def _is_leaf(path: str) -> bool:
    """Tell whether a map is one value: its members are those of Kubernetes."""
    return path.endswith("resources")


def _texts(lines: list[str]) -> dict[str, str]:
    """Return the text of each value by its path, from the comments above it."""
    found: dict[str, str] = {}
    comment: list[str] = []
    parents: list[str] = []
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(MARK):
            comment = [stripped.removeprefix(MARK).strip()]
        elif stripped.startswith("# ") and comment:
            comment.append(stripped[2:])
        elif ":" in stripped and not stripped.startswith("#"):
            depth = (len(line) - len(line.lstrip())) // 2
            parents[depth:] = [stripped.partition(":")[0]]
            if comment:
                found[".".join(parents)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def table() -> str:
    """Return the table of values."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {'–' if value in ('', None) or value in ({}, []) else f'`{json.dumps(value)}`'} | {text} |"
        for name, value, text in rows()
    ]
    return "\n".join(lines)


def readme() -> str:
    """Return the README with the table in its place."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def write() -> None:
    """Write the file."""
    README.write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    write()
