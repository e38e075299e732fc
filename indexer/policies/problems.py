"""What is wrong with a file of policies: each problem with its line, its place, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from indexer.common.errors import ConfigurationError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong; ``line`` counts from 1, ``key`` is the place, as ``cleanup.default.keep.old``."""

    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


class PoliciesRefused(ConfigurationError):  # noqa: N818 - a state, read as "policies refused"
    """The file cannot be taken as it is; ``problems`` is all that was found, in the order of their lines."""

    def __init__(self, problems: Iterable[Problem], *, name: str = "policies") -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(f"{name}:{problem.line}: {problem}" for problem in self.problems))
