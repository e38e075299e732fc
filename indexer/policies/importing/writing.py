"""A policy as the text of a file, with comments: what the translations have in common."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

from indexer.common.errors import IndexerError
from indexer.policies.document import read_policies
from indexer.policies.patterns import Subject, parse_glob
from indexer.policies.problems import PoliciesRefused

SECTIONS = ("protect", "keep", "delete")
WIDTH = 110
_KEY = re.compile(r"cleanup\.[^.]+\.(?P<section>protect|keep|delete)\.(?P<rule>[^.]+)")


class NotTranslated(IndexerError):  # noqa: N818 - a state, read as "not translated"
    """The file is no policy of that system, or nothing of it can be translated."""


@dataclass(slots=True)
class Draft:
    """A policy under translation. ``notes``: what cannot be translated, or is done otherwise here."""

    id: str
    repositories: tuple[str, ...]
    source: str
    rules: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {section: [] for section in SECTIONS}
    )
    untagged: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, rule: dict[str, Any]) -> None:
        """Add a rule; keys without a value are left out."""
        self.rules[section].append({key: value for key, value in rule.items() if value is not None})

    def finished(self) -> str:
        """Return the text of a file that is valid: rules that can have no effect are left out, with a note."""
        while True:
            text = self._text()
            try:
                read_policies(text.encode())
            except PoliciesRefused as refused:
                if not self._leave_out(refused):
                    raise NotTranslated(
                        f"the translation is not valid, which is a mistake of ours: {refused}"
                    ) from None
            else:
                return text

    def _leave_out(self, refused: PoliciesRefused) -> bool:
        """Take out the rules that were refused; tell whether there were any."""
        found = False
        for problem in refused.problems:
            match = _KEY.match(problem.key)
            rules = self.rules[match["section"]] if match else []
            for rule in [each for each in rules if match and each["id"] == match["rule"]]:
                rules.remove(rule)
                self.notes.append(f"Rule {rule['id']} is left out: {problem.text}.")
                found = True
        return found

    def _text(self) -> str:
        lines = [f"# Translated from {self.source}. Check it in mode preview before you change the mode."]
        lines += [
            "# Limits of grace, brake and undo apply in addition; see the reference for their defaults."
        ]
        for note in self.notes:
            lines += textwrap.wrap(note, WIDTH, initial_indent="# - ", subsequent_indent="#   ")
        lines += ["version: 1", "cleanup:", f"  - id: {_flow(self.id)}", "    mode: preview"]
        lines += [f"    scope: {_flow({'repositories': {'any': list(self.repositories)}})}"]
        for section in SECTIONS:
            if self.rules[section]:
                lines.append(f"    {section}:")
                lines += [f"      - {_flow(rule)}" for rule in self.rules[section]]
        if self.untagged is not None:
            lines.append(f"    untagged: {_flow(self.untagged)}")
        return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return a value in YAML's flow style: texts in quotes, which JSON's are."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=True)


def read_json(content: bytes, what: str) -> Any:
    """Return what a JSON file holds; raise ``NotTranslated``."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotTranslated(f"not JSON, as {what} is: {error}") from None


def id_of(name: str) -> str:
    """Return the id of a policy for a project or repository."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower())[:64].strip("-_") or "imported"


def simple_glob(pattern: str, subject: Subject) -> str | None:
    """Return another system's glob as ours, ``**`` within a path element being ``*``; None: it is none here."""
    if subject is Subject.TAG:
        text = pattern if pattern == "**" else re.sub(r"\*{2,}", "*", pattern)
    else:
        elements = pattern.split("/")
        text = "/".join(each if each == "**" else re.sub(r"\*{2,}", "*", each) for each in elements)
    try:
        parse_glob(text or "**", subject)
    except ValueError:
        return None
    return text or "**"
