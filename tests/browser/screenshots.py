"""Takes the pictures of the docs: ``.venv/bin/python -m tests.browser.screenshots``. No test.

They show ``tests.fixtures.showcase`` as it is at the time, so every run differs a little.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.fixtures.browsing import PATIENCE_MS
from tests.fixtures.showing import show

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from indexer.store.pool import Pool

PLACE = Path(__file__).parents[2] / "docs" / "images"
PICTURES = {
    "console-tags.png": ("#/repositories/platform%2Fgateway", "light", 760, "ci-release"),
    "console-tag.png": ("#/repositories/platform%2Fgateway/tags/latest", "dark", 760, "ci-release"),
    "console-overview.png": ("#/", "light", 640, "cluster-oslo"),
    "console-cleanup.png": ("#/cleanup", "light", 760, "cluster-oslo"),
    "console-trash.png": ("#/trash", "dark", 420, "joon"),
}
"""Address, light or dark, height, and a word that is on the page once it is complete."""


async def take(address: str, browser: Browser, _pool: Pool) -> None:
    """Write every picture."""
    for name, (hash_, scheme, height, word) in PICTURES.items():
        context = await browser.new_context(
            locale="en-GB",
            timezone_id="Europe/Berlin",
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": 1360, "height": height},
        )
        page = await context.new_page()
        await page.goto(f"{address}/{hash_}")
        await expect(page.locator('[aria-busy="true"]')).to_have_count(0, timeout=PATIENCE_MS)
        await expect(page.locator("main")).to_contain_text(word, timeout=PATIENCE_MS)
        PLACE.mkdir(exist_ok=True)
        await page.screenshot(path=PLACE / name)
        await context.close()


if __name__ == "__main__":
    show(take)
