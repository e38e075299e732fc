"""What every benchmark shares: its command line, its figures with their spread, and how they are kept and compared.

A figure counts only beside another of the same run: sides take turns, round by round, so that whatever else the
machine does meets all of them. Ratios are taken within a round; the median over rounds is printed, and the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a ratio or figure should reach: at least, or at most."""

    at_least: float | None = None
    at_most: float | None = None

    def judge(self, value: float) -> str:
        """Say the target and whether ``value`` reaches it."""
        if self.at_least is not None:
            return f"target ≥ {self.at_least:g}: {'reached' if value >= self.at_least else 'MISSED'}"
        if self.at_most is not None:
            return f"target ≤ {self.at_most:g}: {'reached' if value <= self.at_most else 'MISSED'}"
        return ""


@dataclass(slots=True)
class Report:
    """The figures of one run, by name, one a round."""

    benchmark: str
    conditions: dict[str, object] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        """Keep one round's figure."""
        self.figures.setdefault(name, []).append(value)
        self.units[name] = unit

    def median(self, name: str) -> float:
        """Return the median over the rounds."""
        return statistics.median(self.figures[name])

    def show(self) -> None:
        """Print every figure with its spread."""
        width = max(map(len, self.figures), default=0)
        for name, values in self.figures.items():
            print(
                f"{name:{width}}  {statistics.median(values):>12,.2f} {self.units[name]}"
                f"  (from {min(values):,.2f} to {max(values):,.2f}, {len(values)} rounds)"
            )

    def ratio(self, name: str, over: str, *, target: Target | None = None) -> float:
        """Print the ratio of two figures, taken round by round; return its median."""
        ratios = [a / b for a, b in zip(self.figures[name], self.figures[over], strict=True)]
        middle = statistics.median(ratios)
        print(
            f"{name} / {over}: {middle:.2f} (rounds from {min(ratios):.2f} to {max(ratios):.2f})"
            + (f", {target.judge(middle)}" if target is not None else "")
        )
        return middle

    def keep(self, arguments: argparse.Namespace) -> None:
        """Save the figures and compare them with a saved run, as the command line asks."""
        if arguments.json is not None:
            saved = {
                "benchmark": self.benchmark,
                "setting": setting(),
                "conditions": self.conditions,
                "figures": self.figures,
                "units": self.units,
            }
            arguments.json.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
        if arguments.compare is not None:
            self._compare(json.loads(arguments.compare.read_text(encoding="utf-8")))

    def _compare(self, before: dict[str, dict[str, list[float]]]) -> None:
        print("compared with the saved run (another run, so other noise):")
        for name in self.figures:
            if name in before["figures"]:
                was = statistics.median(before["figures"][name])
                print(f"  {name}: {self.median(name) / was if was else float('nan'):.2f} × {was:,.2f}")


def command_line(description: str) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes: seconds, and nothing but a trial")
    parser.add_argument("--rounds", type=int, default=None, help="turns of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print ratios against saved figures")
    return parser


def setting() -> dict[str, object]:
    """Say what the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "load_before": round(os.getloadavg()[0], 2),
        "asyncpg": version("asyncpg"),
        "aiohttp": version("aiohttp"),
    }


def announce(report: Report, **conditions: object) -> None:
    """Print the setting and the conditions of the run, before it begins."""
    report.conditions |= conditions
    print(", ".join(f"{key} {value}" for key, value in setting().items()))
    print(", ".join(f"{key} {value}" for key, value in conditions.items()), flush=True)


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Cut into tuples of at most ``size`` (``itertools.batched``, which Python 3.11 lacks)."""
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield batch
