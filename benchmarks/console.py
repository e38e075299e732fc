"""What the browser spends on the console's first page of a repository of 10,000 tags: scripting, layout, requests.

Measured by the browser itself (DevTools protocol, ``Performance.getMetrics``), from an empty page until the table is
shown, as a median of several contexts with empty caches. On 2 cores, with many other programs beside it, scripting
took 180 ms, layout and style 110 ms; with 500 rows on the page 336 and 360 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.async_api import expect

from tests.fixtures.rows import TagRow, at, put_repository
from tests.fixtures.showing import show

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from indexer.store.pool import Pool

TAGS = 10_000
ROUNDS = 5
PATIENCE_MS = 60_000


async def measure(address: str, browser: Browser, pool: Pool) -> None:
    """Print the medians."""
    rows = [
        TagRow(name=f"build-{number:05}", published_at=at(number), size_bytes=number + 1)
        for number in range(TAGS)
    ]
    await put_repository(pool, "many", rows)
    for path in ("#/repositories/many", "#/repositories/many?limit=500", "#/"):
        found = [await once(address, browser, path) for _ in range(ROUNDS)]
        medians = {name: statistics.median(each[name] for each in found) for name in found[0]}
        print(f"{path:32}" + "".join(f"  {name} {value * 1000:6.0f} ms" for name, value in medians.items()))


async def once(address: str, browser: Browser, path: str) -> dict[str, float]:
    """Open the page in a new context; return seconds."""
    context = await browser.new_context(viewport={"width": 1360, "height": 860})
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    await session.send("Performance.enable")
    await page.goto(f"{address}/{path}")
    await expect(page.locator("tbody tr").first).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.locator('[aria-busy="true"]')).to_have_count(0, timeout=PATIENCE_MS)
    answer = await session.send("Performance.getMetrics")
    metrics = {each["name"]: each["value"] for each in answer["metrics"]}
    await context.close()
    return {
        "scripting": metrics["ScriptDuration"],
        "layout and style": metrics["LayoutDuration"] + metrics["RecalcStyleDuration"],
        "all tasks": metrics["TaskDuration"],
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0]).parse_args()
    show(measure)
