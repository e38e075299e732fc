"""The console in Chromium: what a visitor can do, what an attacker cannot, what a screen reader gets."""

from __future__ import annotations

import re
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe_playwright_python
import pytest
from playwright.async_api import expect

from indexer.api.settings import ApiSettings
from indexer.audit.seal import seal
from indexer.store.listing import tags
from tests.fixtures.asking import TOKEN
from tests.fixtures.browsing import APP, HOSTILE_TEXT, MANY, PAGES, PLAN, SEALED, Console, serving
from tests.fixtures.notices import NOTICES, QUIET, quiet
from tests.fixtures.realms import PASSWORD, USER, realm_serving
from tests.fixtures.rows import at, digest
from tests.fixtures.tokens import grant, mint, trust_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from indexer.store.pool import Pool

pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


async def settled(page: Page) -> None:
    """Wait until everything that the page asked for is shown."""
    await expect(page.locator("h1")).to_be_visible()
    await expect(page.locator('[aria-busy="true"]')).to_have_count(0)


async def violations(page: Page) -> list[str]:
    """What axe finds wrong, and where. ``evaluate`` is not bound by the page's policy, so the policy stays in force."""
    await page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
    found: dict[str, Any] = await page.evaluate("axe.run(document)")
    return [
        f"{each['id']} ({each['impact']}): {each['nodes'][0]['html'][:160]}" for each in found["violations"]
    ]


async def names(page: Page) -> list[str]:
    """The tags in the table."""
    return await page.locator("tbody th .name").all_inner_texts()


async def test_pages__all_open_and_nothing_complains(console: Console) -> None:
    """Every page has its heading and title, shows no refusal, and axe finds nothing."""
    async with console.signed_in() as page:
        for hash_, heading in PAGES.items():
            await console.go(page, hash_)
            await settled(page)
            await expect(page.locator("h1")).to_contain_text(heading)
            assert await page.locator(".failed").count() == 0, hash_
        assert await violations(page) == []
        await console.go(page, "#/jobs")
        await settled(page)
        await expect(page.get_by_role("row").filter(has_text="paused")).to_contain_text(
            "3 of 10 repositories"
        )
        await expect(page.get_by_role("row").filter(has_text="failed")).to_contain_text("⟨U+202E⟩gnp.exe")
        assert await violations(page) == []
        await console.go(page, f"#/repositories/{APP}/tags/latest")
        await settled(page)
        assert await violations(page) == []


async def test_sign_in__stays_in_memory(console: Console) -> None:
    """Without a token a clear word, with one the data; no address, storage or cookie has it; a reload forgets."""
    console.expected.add("401")
    async with console.visit("#/repositories?prefix=team") as page:
        await expect(page.get_by_role("alert")).to_contain_text("Sign in to see this")
        await page.get_by_role("link", name="Sign in").last.click()
        await page.get_by_label("Token", exact=True).fill("not-a-token-of-anybody")
        await page.get_by_role("button", name="Sign in").last.click()
        await expect(page.get_by_role("alert")).to_contain_text("not accepted")
        await page.get_by_label("Token", exact=True).fill(TOKEN)
        await page.get_by_role("button", name="Sign in").last.click()
        await expect(page.get_by_role("link", name="team/app")).to_be_visible()
        assert page.url.endswith("#/repositories?prefix=team")
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, history.state, location.href])"
        assert TOKEN not in await page.evaluate(kept)
        assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
            0,
            0,
            "",
        ]
        await page.reload()
        await expect(page.get_by_role("alert")).to_contain_text("Sign in to see this")


async def test_paging__goes_both_ways_and_so_does_the_browser(console: Console) -> None:
    """Cursors are in the address: next, back and forward show the same pages, in any order of visits."""
    async with console.signed_in("#/repositories/many?limit=50&sort=name") as page:
        await settled(page)
        await expect(page.locator(".pager .count")).to_have_text(f"50 tags of {MANY:,}")
        first = await names(page)
        assert first == [f"build-{number:05}" for number in range(50)]
        await page.get_by_role("link", name="Next").click()
        await expect(page.locator("tbody th .name").first).to_have_text("build-00050")
        await page.go_back()
        await expect(page.locator("tbody th .name").first).to_have_text("build-00000")
        await page.go_forward()
        await expect(page.locator("tbody th .name").first).to_have_text("build-00050")
        await page.get_by_role("link", name="Previous").click()
        await expect(page.locator("tbody th .name").first).to_have_text("build-00000")
        assert await names(page) == first


@pytest.mark.full
async def test_sort_and_filter__are_in_the_address(console: Console) -> None:
    """A click on a head sorts, typing filters, both can be kept as a link; a wrong filter says what is accepted."""
    console.expected.add("400")
    async with console.signed_in("#/repositories/many") as page:
        await page.get_by_role("columnheader", name="Size").get_by_role("link").click()
        await expect(page.get_by_role("columnheader", name="Size")).to_have_attribute(
            "aria-sort", "descending"
        )
        await expect(page.locator("tbody th .name").first).to_have_text(f"build-{MANY - 1:05}")
        await page.get_by_label("Name contains").fill("0042")
        await expect(page).to_have_url(re.compile(r"sort=-size&name=0042$"))
        await settled(page)
        assert await names(page) == ["build-00429", "build-00428", "build-00427", "build-00426", "build-00425",
                                     "build-00424", "build-00423", "build-00422", "build-00421", "build-00420",
                                     "build-00042"]  # fmt: skip
        await page.get_by_role("link", name="Clear the filter").click()
        await expect(page.get_by_label("Name contains")).to_have_value("")
        await page.get_by_label("Published after").fill("yesterday")
        await expect(page.get_by_role("alert")).to_contain_text("published_after")
        await expect(page.get_by_label("Published after")).to_have_attribute("aria-invalid", "true")


async def test_search__goes_on_where_the_server_searches_in_steps(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list is searched a step at a time: what is at its end is found, and what is nowhere is said to be."""
    monkeypatch.setattr(tags, "SEARCHED_TO_THE_END", 100)
    monkeypatch.setattr(tags, "STEP", 2_000)
    async with console.signed_in("#/repositories/many?sort=-size&name_regex=build-0000[13]") as page:
        await expect(page.locator("tbody th .name")).to_have_text(["build-00003", "build-00001"])
        await expect(page).to_have_url(re.compile("&after="))
        await console.go(page, "#/repositories/many?sort=-size&name=no-such")
        await expect(page.get_by_text("No tag matches.")).to_be_visible()


async def test_hostile_registry__is_shown_as_text(console: Console) -> None:
    """Markup and characters that turn text round, in every text of a registry: read, never run, never obeyed."""
    async with console.signed_in("#/repositories/hostile/tags/odd") as page:
        await settled(page)
        title = await page.title()
        row = page.get_by_role("region", name="Labels").get_by_role("row").filter(has_text="onerror")
        values = row.locator("td")
        await expect(values.first).to_contain_text(
            '<img src=x onerror="document.title=1"><script>alert(1)</script>'
        )
        await expect(values.first).to_contain_text("⟨U+202E⟩gnp.exe⟨U+2066⟩ {{7*7}} ${7*7}")
        await expect(page.locator("main img, main script")).to_have_count(0)
        assert await page.locator('a[href^="javascript"]').count() == 0
        await console.go(page, "#/repositories/hostile")
        await settled(page)
        await expect(page.locator("tbody")).to_contain_text("⟨U+202E⟩gnp.exe")
        assert "\u202e" not in await page.locator("body").inner_text()
        assert title == "hostile:odd · Registry indexer"
        assert HOSTILE_TEXT not in await page.title()


async def test_cleanup__is_decided_by_operators_after_a_question(console: Console, pool: Pool) -> None:
    """A plan is approved after a question, and doing nothing does nothing; a reader gets a word, not a button."""
    plan = f"#/cleanup/plans/{PLAN}?decision=hold"
    async with console.signed_in(plan) as page:
        await settled(page)
        await expect(page.get_by_text("takes an operator token")).to_be_visible()
        await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    async with console.signed_in(plan, operator=True) as page:
        await settled(page)
        table = page.get_by_role("region", name="Verdicts")
        await expect(table.locator("tbody tr")).to_have_count(1)
        await expect(table).to_contain_text("held or old: <img src=x onerror")
        await expect(table).to_contain_text("3 pulls by <img src=x")
        await expect(page.locator("main img, main script")).to_have_count(0)
        assert "\u202e" not in await page.locator("body").inner_text()
        await page.get_by_role("button", name="Approve").click()
        dialog = page.get_by_role("dialog", name="Approve this plan?")
        await expect(dialog).to_contain_text("60 tags and manifests, 5.0 MiB")
        assert await violations(page) == []
        await dialog.get_by_role("button", name="Do nothing").click()
        await expect(dialog).to_have_count(0)
        assert await pool.fetchval("SELECT count(*) FROM cleanup_approval") == 0
        await page.get_by_role("button", name="Approve").click()
        await dialog.get_by_label("Reason, for the audit log").fill(HOSTILE_TEXT)
        await dialog.get_by_role("button", name="Approve the plan").click()
        await expect(page.locator(".facts").first).to_contain_text("may be carried out")
        await expect(page.locator(".facts").first).to_contain_text("ann, ")
        await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        assert await pool.fetchval("SELECT by FROM cleanup_approval WHERE plan_id = $1", PLAN) == "ann"


async def test_job__is_followed_live_and_cancelled(console: Console, pool: Pool) -> None:
    """A reconcile is asked for, its page shows by itself how far it is, and it is cancelled after a question."""
    async with console.signed_in("#/jobs", operator=True) as page:
        await page.get_by_role("button", name="Ask for a reconcile").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Repositories, separated by commas").fill("team/app, other")
        await dialog.get_by_label("Reason, for the audit log").fill("a test of the console")
        await dialog.get_by_role("button", name="Ask for it").click()
        facts = page.locator(".facts")
        await expect(facts).to_contain_text("other, team/app")
        await expect(facts).to_contain_text("ann, ")
        await expect(facts.get_by_role("status")).to_have_text("waiting live")
        job = page.url.rpartition("/")[2]
        await pool.execute(
            "UPDATE job SET state = 'running', started_at = now(), progress = $2, lease = id, "
            "leased_until = now() + interval '1 hour' WHERE id = $1",
            uuid.UUID(job),
            {"done": 4, "total": 9, "unit": "repositories", "message": HOSTILE_TEXT},
        )
        await expect(facts.get_by_role("status")).to_have_text("running live")
        await expect(facts).to_contain_text("4 of 9 repositories <img src=x")
        await page.get_by_role("button", name=f"Cancel the job {job}").click()
        await page.get_by_role("button", name="Cancel the job", exact=True).click()
        await expect(facts).to_contain_text("to be cancelled")
        tag = {"repository": "team/app", "tag": "latest", "outcome": "denied", "text": HOSTILE_TEXT}
        await pool.execute(
            "UPDATE job SET state = 'cancelled', ended_at = now(), lease = NULL, leased_until = NULL, result = $2 "
            "WHERE id = $1",
            uuid.UUID(job),
            {"denied": 1, "tags": [tag]},
        )
        await expect(facts.get_by_role("status")).to_have_text("cancelled")
        await expect(facts).to_contain_text('{\n  "denied": 1\n}')
        row = page.get_by_role("region", name="Tags").get_by_role("row").filter(has_text="team/app:latest")
        await expect(row).to_contain_text("denied<img src=x")
        await expect(page.locator("main img, main script")).to_have_count(0)
        await expect(page.get_by_role("button", name=re.compile("Cancel"))).to_have_count(0)


async def test_trash__is_restored_after_a_question(console: Console, pool: Pool) -> None:
    """Each deletion says until when it can be undone, or why not; a restore is a job."""
    async with console.signed_in("#/trash") as page:
        await settled(page)
        await expect(page.get_by_text("Restoring a tag takes an operator token")).to_be_visible()
        await expect(page.get_by_role("button", name=re.compile("Restore"))).to_have_count(0)
        rows = page.locator("tbody tr")
        await expect(rows.filter(has_text="team/app:retired")).to_contain_text("until")
        await expect(rows.filter(has_text="team/app:latest")).to_contain_text("restoring takes force")
        await expect(rows.filter(has_text="team/app:lost")).to_contain_text("its manifest was not kept")
        await expect(page.locator("main img, main script")).to_have_count(0)
    async with console.signed_in("#/trash?repository=team%2Fapp", operator=True) as page:
        await expect(page.get_by_role("button", name="Restore team/app:lost")).to_have_count(0)
        for tag, force in (("retired", False), ("latest", True)):
            await console.go(page, "#/trash?repository=team%2Fapp")
            await page.get_by_role("button", name=f"Restore team/app:{tag}").click()
            dialog = page.get_by_role("dialog", name=f"Restore team/app:{tag}?")
            await expect(dialog).to_contain_text("is lost" if force else "keeps its dates")
            assert await violations(page) == []
            await dialog.get_by_label("Reason, for the audit log").fill(f"needed: {tag}")
            await dialog.get_by_role("button", name="Restore the tag").click()
            await expect(page.locator(".facts").first).to_contain_text(f"needed: {tag}")
            job = uuid.UUID(page.url.rpartition("/")[2])
            row = await pool.fetchrow("SELECT kind, asked_by, params FROM job WHERE id = $1", job)
            assert row is not None
            assert (row["kind"], row["asked_by"]) == ("restore", "ann")
            assert (row["params"]["tags"], row["params"]["force"]) == ([f"team/app:{tag}"], force)
            await pool.execute("UPDATE job SET state = 'cancelled', ended_at = now() WHERE id = $1", job)


async def test_uncertain__is_confirmed_after_a_question(console: Console, pool: Pool) -> None:
    """What may have undone a push says why and when; an operator says that it did not, and it is gone."""
    async with console.signed_in("#/cleanup/uncertain") as page:
        await settled(page)
        await expect(
            page.get_by_text("Confirming that no push was lost takes an operator token")
        ).to_be_visible()
        await expect(page.get_by_role("button", name=re.compile("Confirm"))).to_have_count(0)
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(2)
        await expect(rows.filter(has_text="team/app:unsure")).to_contain_text("deleted the tag")
        await expect(rows.filter(has_text="the manifest")).to_contain_text(
            "<script>alert(1)</script>⟨U+202E⟩"
        )
        await expect(page.locator("main img, main script")).to_have_count(0)
    async with console.signed_in("#/cleanup/uncertain", operator=True) as page:
        await page.get_by_role("button", name="Confirm team/app:unsure").click()
        dialog = page.get_by_role("dialog", name="No push of team/app:unsure was lost?")
        await expect(dialog).to_contain_text("push it again first")
        assert await violations(page) == []
        await dialog.get_by_label("How you know, for the audit log").fill("asked the team")
        await dialog.get_by_role("button", name="No push was lost").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
    row = await pool.fetchrow("SELECT id, outcome FROM tag_action WHERE tag = 'unsure'")
    assert row is not None
    assert row["outcome"] == "confirmed"
    await pool.execute(
        "UPDATE tag_action SET state = 'uncertain', outcome = 'uncertain' WHERE id = $1", row["id"]
    )


async def test_storage__says_what_cannot_be_pulled(console: Console) -> None:
    """Findings with what to do and the tags concerned, filtered in the address; what the bytes belong to."""
    async with console.signed_in("#/storage") as page:
        rows = page.get_by_role("region", name="Findings").locator("tbody tr")
        await expect(rows).to_have_count(2)
        await page.get_by_label("Severity").select_option("damaged")
        await expect(page).to_have_url(re.compile("severity=damaged$"))
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("v1.4 and 115 more")
        await expect(page.locator("main img, main script")).to_have_count(0)
        assert "\u202e" not in await page.locator("body").inner_text()
        bytes_ = page.locator("section", has=page.get_by_role("heading", name="Bytes", exact=True))
        await expect(bytes_).to_contain_text("the registry's garbage-collect frees it")
        await expect(page.get_by_role("region", name="Prefixes with the most bytes")).to_contain_text("team")


async def test_storage__is_read_by_jobs(console: Console, pool: Pool) -> None:
    """An operator asks for each of the jobs that read the storage, and sees it; nobody else has the buttons."""
    kinds = {
        "Ask for a check of the storage": "storage-check",
        "Ask for a plan of a collection": "gc-plan",
        "Ask for an import": "storage-import",
    }
    async with console.signed_in("#/storage") as page:
        await expect(page.get_by_text("Asking for a check of the storage")).to_be_visible()
        for label in kinds:
            await expect(page.get_by_role("button", name=label)).to_have_count(0)
    async with console.signed_in("#/storage", operator=True) as page:
        for label, kind in kinds.items():
            await console.go(page, "#/storage")
            await page.get_by_role("button", name=label).click()
            dialog = page.get_by_role("dialog", name=label)
            assert await violations(page) == []
            await dialog.get_by_label("Reason, for the audit log").fill(f"wanted: {kind}")
            await dialog.get_by_role("button", name="Ask for it").click()
            await expect(page.locator(".facts").first).to_contain_text(f"wanted: {kind}")
            job = uuid.UUID(page.url.rpartition("/")[2])
            row = await pool.fetchrow("SELECT kind, asked_by, acts FROM job WHERE id = $1", job)
            assert row is not None
            assert (row["kind"], row["asked_by"], row["acts"]) == (kind, "ann", False)
            await pool.execute("UPDATE job SET state = 'cancelled', ended_at = now() WHERE id = $1", job)
        result = {
            "freed_bytes": 5,
            "left_out": 3,
            "hazards": [{"code": "H4", "repository": "team/app", "digest": None, "text": "<b>lost</b>"}],
        }
        await pool.execute("UPDATE job SET state = 'done', result = $2 WHERE id = $1", job, result)
        await console.go(page, f"#/jobs/{job}")
        hazards = page.get_by_role("region", name="Hazards")
        await expect(hazards.locator("tbody tr")).to_contain_text("<b>lost</b>")
        await expect(page.get_by_text("and 3 more")).to_be_visible()


async def test_tag__says_what_deleting_it_frees(console: Console, pool: Pool) -> None:
    """What only this tag keeps, of all that it needs, and when it was counted; nothing where it never was."""
    await pool.execute("DELETE FROM storage_root")
    async with console.signed_in(f"#/repositories/{APP}/tags/latest") as page:
        await expect(page.locator(".facts").first).to_contain_text("First seen")
        await expect(page.get_by_text("Frees if deleted")).to_have_count(0)
        await pool.execute(
            "INSERT INTO storage_root (repository_id, manifest_id, referenced_bytes, exclusive_bytes, attributed_bytes)"
            " SELECT t.repository_id, t.manifest_id, 77, 5, 9 FROM tag AS t JOIN repository AS r"
            " ON r.id = t.repository_id WHERE r.name = 'team/app' AND t.name = 'latest'"
        )
        await console.go(page, "#/storage")
        await console.go(page, f"#/repositories/{APP}/tags/latest")
        await expect(page.get_by_text("Frees if deleted")).to_be_visible()
        await expect(page.locator(".facts").first).to_contain_text("of 77 B")
        assert await violations(page) == []


async def test_tag__that_was_deleted_leads_to_the_trash(console: Console) -> None:
    """A tag that is not there any more keeps its page: a calm word, its history, and where it may be found."""
    console.expected.add("404")
    async with console.signed_in(f"#/repositories/{APP}/tags/retired") as page:
        await expect(page.get_by_text("This tag does not exist now.")).to_be_visible()
        await expect(page.locator(".timeline")).to_contain_text("deleted")
        await page.get_by_role("link", name="trash").click()
        await expect(page.locator("h1")).to_have_text("Trash")
        await expect(page.get_by_label("Tag", exact=True)).to_have_value("retired")
        await expect(page.locator("tbody tr")).to_have_count(1)


async def test_overview__says_what_needs_a_person(console: Console) -> None:
    """Each of these in the status is one notice more, with the page where something can be done; none of them, none."""
    async with console.signed_in() as page:
        answer = await page.request.get(
            f"{console.address}/api/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        calm = quiet(await answer.json())
        for part, value in QUIET:
            changed = {**calm[part], **value} if isinstance(value, dict) else value
            assert await needs(page, {**calm, part: changed}) == [], (part, value)
        for part, value, tone, title in NOTICES:
            changed = {**calm[part], **value} if isinstance(value, dict) else value
            (found,) = await needs(page, {**calm, part: changed})
            assert (found["tone"], found["title"][: len(title)]) == (tone, title)
            assert found["leads_to_a_page"], title


async def needs(page: Page, status: dict[str, Any]) -> list[dict[str, Any]]:
    """What the console makes of a status, and whether each notice leads to a page that there is, or to none."""
    found: list[dict[str, Any]] = await page.evaluate(
        """async (status) => {
          const main = document.querySelector("script[type=module]").src;
          const load = (name) => import(main.replace("main.js", name));
          const [{ needs }, { find }, { parse }] = await Promise.all(["needs.js", "pages.js", "address.js"].map(load));
          const leads = (href) => !href || find(parse(href).segments) !== null;
          return needs(status).map((each) => ({ ...each, leads_to_a_page: leads(each.href) }));
        }""",
        status,
    )
    return found


@pytest.mark.full
async def test_dead_letters__are_tried_again_and_discarded(console: Console, pool: Pool) -> None:
    """Each with its reason; operators try again, continue the feed, and discard with a reason; readers get a word."""
    async with console.signed_in("#/feeds") as page:
        await page.get_by_role("link", name="siem", exact=True).click()
        await expect(page.locator("h1")).to_have_text("Feed siem")
        await settled(page)
        table = page.get_by_role("region", name="Dead letters, in the order of the log")
        await expect(table.locator("tbody tr")).to_have_count(3)
        await expect(table).to_contain_text("<script>alert(1)</script>⟨U+202E⟩gnp.exe")
        await expect(table).to_contain_text("no longer in the log")
        await expect(page.locator("main img, main script")).to_have_count(0)
        await expect(page.get_by_text("takes an operator token")).to_be_visible()
        await expect(page.get_by_role("button", name=re.compile("again|iscard|Continue"))).to_have_count(0)
    async with console.signed_in("#/feeds/siem?limit=50", operator=True) as page:
        await settled(page)
        await page.get_by_role("button", name="Try the dead letter 2 again").click()
        await page.get_by_role("dialog").get_by_role("button", name="Try again").click()
        await expect(page.locator("tbody tr").first).to_contain_text("will be tried again")
        await page.get_by_role("button", name="Discard the dead letter 5").click()
        dialog = page.get_by_role("dialog", name="Discard the dead letter 5?")
        await dialog.get_by_label("Reason, for the audit log").fill("a test")
        assert await violations(page) == []
        await dialog.get_by_role("button", name="Discard").click()
        await expect(page.locator("tbody tr")).to_have_count(2)
        found = await pool.fetch("SELECT position, retry_requested FROM feed_dead_letter ORDER BY position")
        assert [tuple(row) for row in found] == [(2, True), (10**9, False)]
        assert await pool.fetchval("SELECT stopped FROM feed") is None
        await pool.execute("UPDATE feed SET stopped = 'gone'")
    async with console.signed_in("#/feeds/siem", operator=True) as page:
        await page.get_by_role("button", name="Continue the feed").click()
        await page.get_by_role("dialog").get_by_role("button", name="Continue the feed").click()
        await expect(page.get_by_role("button", name="Continue the feed")).to_have_count(0)
        assert await pool.fetchval("SELECT stopped FROM feed") is None
        await page.get_by_role("button", name="Discard the 2 shown").click()
        await page.get_by_role("dialog").get_by_label("Reason, for the audit log").fill("a test")
        await page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        await expect(page.get_by_text("The receiver refused nothing.")).to_be_visible()
        assert await pool.fetchval("SELECT count(*) FROM feed_dead_letter") == 0


@pytest.mark.full
async def test_holds__are_added_and_removed(console: Console, pool: Pool) -> None:
    """What is entered wrong is named and the question stays; what was added is listed, and removed after a question."""
    console.expected.add("422")
    async with console.signed_in("#/holds") as page:
        await settled(page)
        await expect(page.get_by_text("takes an operator token")).to_be_visible()
        await expect(page.get_by_role("button", name=re.compile("hold"))).to_have_count(0)
        await expect(page.locator("tbody")).to_contain_text("<script>alert(1)</script>⟨U+202E⟩gnp.exe")
        await expect(page.locator("main img, main script")).to_have_count(0)
    async with console.signed_in("#/holds", operator=True) as page:
        await page.get_by_role("button", name="Add a hold").click()
        dialog = page.get_by_role("dialog", name="Add a hold")
        await dialog.get_by_label("Repository").fill("team/app")
        await dialog.get_by_label("Reason").fill("incident 7")
        await dialog.get_by_label("Until").fill("soon")
        await dialog.get_by_role("button", name="Put on hold").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("until: ")
        await expect(dialog.get_by_label("Until")).to_have_attribute("aria-invalid", "true")
        assert await violations(page) == []
        await dialog.get_by_label("Until").fill("14d")
        await dialog.get_by_role("button", name="Put on hold").click()
        row = page.get_by_role("row").filter(has_text="incident 7")
        await expect(row).to_contain_text("by ann")
        await row.get_by_role("button", name="Remove the hold on team/app").click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert await pool.fetchval("SELECT count(*) FROM cleanup_hold") == 2
        await row.get_by_role("button", name="Remove the hold on team/app").click()
        await page.get_by_role("button", name="Remove the hold", exact=True).click()
        await expect(row).to_have_count(0)
        assert await pool.fetchval("SELECT count(*) FROM cleanup_hold") == 1


@pytest.mark.full
async def test_acting__by_the_registrys_own_rights(browser: Browser, pool: Pool, tmp_path: Path) -> None:
    """Who may delete or push in a repository is offered that, by password and by token; who may not is told why."""
    await pool.execute("UPDATE job SET state = 'cancelled', ended_at = now() WHERE ended_at IS NULL")
    async with realm_serving() as (realm, address):
        trust = replace(trust_in(tmp_path), realm=address)
        async with serving(pool, ApiSettings(trust=trust)) as served:
            console = Console(served, browser)
            tag = f"#/repositories/{APP}/tags/v1.0.0"
            async with by_password(console) as page:  # it pulls only
                await console.go(page, tag)
                await settled(page)
                await expect(page.get_by_text("docker pull REGISTRY/team/app:v1.0.0")).to_be_visible()
                await expect(page.get_by_role("button", name=re.compile("Delete"))).to_have_count(0)
                await console.go(page, f"#/trash?repository={APP}")
                await expect(page.get_by_text("right to push or delete in the repository")).to_be_visible()
                await expect(page.locator("tbody")).to_contain_text("team/app:retired")
                await expect(page.get_by_role("button", name=re.compile("Restore"))).to_have_count(0)
            assert "repository:team/app:pull,push,delete" in realm.asked[-1]["scopes"]
            pulls = {"Authorization": f"Bearer {mint(grant('team/app', 'pull'), sub=USER)}"}
            refused = await page_request(
                browser, "DELETE", f"{served}/api/v1/repositories/team/app/tags/v1.0.0", pulls
            )
            assert refused == (403, "not_granted")

            realm.actions = frozenset({"pull", "push"})
            async with by_password(console) as page:
                await console.go(page, f"#/trash?repository={APP}")
                await expect(page.get_by_role("button", name="Restore team/app:retired")).to_be_visible()
                await console.go(page, tag)
                await settled(page)
                await expect(page.get_by_role("button", name=re.compile("Delete"))).to_have_count(0)

            realm.actions = frozenset({"pull", "delete"})
            async with by_password(console) as page:
                await console.go(page, tag)
                await page.get_by_role("button", name="Delete team/app:v1.0.0").click()
                dialog = page.get_by_role("dialog", name="Delete team/app:v1.0.0?")
                await expect(dialog).to_contain_text("Other tags of the digest stay")
                assert await violations(page) == []
                await dialog.get_by_role("button", name="Do nothing").click()
                assert await pool.fetchval("SELECT count(*) FROM job WHERE kind = 'delete'") == 0
                await page.get_by_role("button", name="Delete team/app:v1.0.0").click()
                await dialog.get_by_label("Reason, for the audit log").fill("of a test")
                await dialog.get_by_role("button", name="Delete the tag").click()
                await expect(page.locator(".facts").first).to_contain_text("of a test")
                row = await pool.fetchrow(
                    "SELECT asked_by, params, repositories FROM job WHERE kind = 'delete'"
                )
                assert row is not None
                assert (row["asked_by"], row["repositories"]) == (USER, ["team/app"])
                assert (row["params"]["tags"], row["params"]["digest"]) == (
                    ["team/app:v1.0.0"],
                    digest("one"),
                )
                await page.get_by_role("button", name=re.compile("Cancel the job")).click()
                await page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
                await expect(page.get_by_role("status").first).to_contain_text("cancelled")

            async with console.visit("#/sign-in") as page:
                await page.get_by_label("Token", exact=True).fill(
                    mint(grant("team/app", "pull", "delete"), sub=USER)
                )
                await page.get_by_role("button", name="Sign in").last.click()
                await expect(page.get_by_text("Signed in with a token")).to_be_visible()
                await console.go(page, tag)
                await expect(page.get_by_role("button", name="Delete team/app:v1.0.0")).to_be_visible()
            # After signing in the overview opens, which is of the whole registry: its status (403) and its log (401).
            expected = ("403 (Forbidden)", "401 (Unauthorized)")
            assert [each for each in console.complaints if not any(part in each for part in expected)] == []


@asynccontextmanager
async def by_password(console: Console) -> AsyncIterator[Page]:
    """Sign in with the registry's user and password."""
    async with console.visit("#/sign-in") as page:
        await page.get_by_label("User").fill(USER)
        await page.get_by_label("Password or access token").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").first.click()
        await expect(page.get_by_text(f"Signed in as {USER}")).to_be_visible()
        yield page


async def page_request(browser: Browser, method: str, url: str, headers: dict[str, str]) -> tuple[int, str]:
    """What the API answers, without the console: status and code."""
    context = await browser.new_context()
    answer = await context.request.fetch(url, method=method, headers=headers)
    found = answer.status, (await answer.json())["code"]
    await context.close()
    return found


@pytest.mark.full
async def test_verdicts__are_paged_and_filtered_in_the_address(console: Console) -> None:
    """A plan's verdicts go page by page in both directions; what would go now says why, page by page, too."""
    async with console.signed_in(f"#/cleanup/plans/{PLAN}?limit=50") as page:
        await settled(page)
        rows = page.get_by_role("region", name="Verdicts").locator("tbody tr")
        await expect(rows).to_have_count(50)
        await page.get_by_role("link", name="Next").click()
        await expect(rows).to_have_count(11)
        await page.get_by_label("Decision").select_option("hold")
        await expect(page).to_have_url(re.compile(r"limit=50&decision=hold$"))
        await expect(rows).to_have_count(1)
        await page.get_by_label("Repository").fill("other")
        await expect(page.get_by_text("No verdict matches.")).to_be_visible()
        await console.go(page, "#/cleanup/now")
        await expect(page.get_by_text("Name a repository.")).to_be_visible()
        await page.get_by_label("Repository").fill("team/app")
        await expect(page.get_by_role("row").filter(has_text="team/app:latest").first).to_contain_text(
            "on hold by <img src=x"
        )
        await console.go(page, "#/cleanup/now?repository=team%2Fapp&limit=2")
        await expect(rows).to_have_count(2)
        first = await rows.first.inner_text()
        await page.get_by_role("link", name="Next").click()
        await expect(page).to_have_url(re.compile("after=2$"))
        await expect(rows.first).not_to_have_text(first)


async def test_policy__is_in_force(console: Console) -> None:
    """The browser itself refuses HTML from text, inline scripts, other hosts and frames: not only our care does."""
    console.expected |= {"401", "refused by the policy", "violates the", "This document requires"}
    async with console.visit() as page:
        refused = """async () => {
          const tried = { refused: [] };
          addEventListener("securitypolicyviolation", (event) => tried.refused.push(event.violatedDirective));
          const attempt = async (name, what) => {
            try { await what(); tried[name] = "done"; } catch (error) { tried[name] = error.name; }
          };
          await attempt("html", () => { document.body.innerHTML = "<b>x</b>"; });
          await attempt("policy", () => trustedTypes.createPolicy("x", { createHTML: (text) => text }));
          await attempt("host", () => fetch("http://192.0.2.1/"));
          window.ran = false;
          const script = document.createElement("script");
          await attempt("script", () => { script.textContent = "window.ran = true"; document.head.append(script); });
          tried.ran = window.ran;
          await new Promise((resolve) => setTimeout(resolve, 50));
          tried.refused = [...new Set(tried.refused)].sort();
          return tried;
        }"""
        assert await page.evaluate(refused) == {
            "html": "TypeError", "policy": "TypeError", "host": "TypeError",
            "script": "TypeError", "ran": False,
            "refused": ["connect-src", "require-trusted-types-for", "trusted-types"],
        }  # fmt: skip


async def test_audit__proves_an_entry(console: Console, pool: Pool) -> None:
    """The page itself leads the entry's leaf to the root of the signed checkpoint."""
    async with console.signed_in("#/audit?occurred_before=2026-01-01T00:10:00Z") as page:
        await page.get_by_role("button", name="Details of the entry 5").click()
        await page.get_by_role("button", name="Prove that it is in the log").click()
        await expect(page.locator(".proof .badge")).to_have_text("proved")
        await page.get_by_role("button", name="Close").click()
        await expect(page.locator(".details")).to_have_count(0)


@pytest.mark.full
async def test_audit__follows_live(console: Console, pool: Pool) -> None:
    """An entry appears when it is sealed, without asking again."""
    async with console.signed_in("#/audit") as page:
        await page.get_by_role("button", name="Follow live").click()
        await expect(page.locator(".live .badge").first).to_have_text("following")
        await pool.execute(
            "INSERT INTO audit_staged (id, occurred_at, recorded_at, repository_id, action, source, tag) "
            "OVERRIDING SYSTEM VALUE "
            "SELECT 5000, $1, $1, id, 'tag.created', 'verify', 'seen-live' FROM repository WHERE name = 'other'",
            at(90),
        )
        await seal(pool, limit=1000)
        SEALED.wake()
        await expect(page.locator(".live tbody")).to_contain_text("other:seen-live")
        await page.get_by_role("button", name="Stop following").click()
        await expect(page.locator(".live")).to_have_count(0)


@pytest.mark.full
async def test_keyboard__reaches_the_content_and_follows_pages(console: Console) -> None:
    """The first key press offers to skip the navigation; a new page takes the focus and is announced."""
    console.expected.add("401")
    async with console.visit("#/repositories") as page:
        await settled(page)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
    async with console.signed_in("#/repositories") as page:
        await page.get_by_role("link", name="team/app").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("team/app")
        await expect(page.locator("main")).to_be_focused()
        await expect(page.locator("#live")).to_have_text("team/app")


@pytest.mark.full
async def test_times__are_of_the_reader_with_utc_at_hand(console: Console) -> None:
    """A reader in Kolkata sees Kolkata's time and finds UTC by pointing at it."""
    async with console.signed_in(f"#/repositories/{APP}?name=v1.0.0", timezone_id="Asia/Kolkata") as page:
        shown = page.locator('time[datetime="2026-01-01T00:10:00.000000Z"]').first
        await expect(shown).to_have_text("2026-01-01 05:40:00")
        assert (await shown.get_attribute("title") or "").startswith("2026-01-01 00:10:00 UTC")


@pytest.mark.full
@pytest.mark.parametrize(("scheme", "width"), [("dark", 1360), ("light", 390), ("dark", 1920)])
async def test_pages__pass_axe_in_every_look(console: Console, scheme: str, width: int) -> None:
    """Dark, narrow and wide: no violation on any page, and no page wider than the window."""
    viewport = {"width": width, "height": 800}
    async with console.signed_in(color_scheme=scheme, viewport=viewport) as page:
        for hash_ in PAGES:
            await console.go(page, hash_)
            await settled(page)
            assert await violations(page) == [], hash_
            overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, hash_


async def test_sign_in__by_password(browser: Browser, pool: Pool, tmp_path: Path) -> None:
    """What the registry grants is shown, page by page; the password leaves the page once, and nothing keeps it."""
    async with realm_serving() as (realm, address):
        trust = replace(trust_in(tmp_path), realm=address)
        settings = ApiSettings(trust=trust, registry_host="registry.example")
        async with serving(pool, settings) as served, Console(served, browser).visit("#/sign-in") as page:
            sent: list[str] = []
            page.on("request", lambda request: sent.append(request.post_data or ""))
            await page.get_by_label("User").fill(USER)
            await page.get_by_label("Password or access token").fill("wrong")
            await page.get_by_role("button", name="Sign in").first.click()
            await expect(page.get_by_role("alert")).to_contain_text("not accepted")
            await page.get_by_label("Password or access token").fill(PASSWORD)
            await page.get_by_role("button", name="Sign in").first.click()
            await expect(page.get_by_text(f"Signed in as {USER}")).to_be_visible()
            await page.evaluate("location.hash = '#/repositories'")
            await expect(page.get_by_text("Your account may not list all repositories")).to_be_visible()
            await expect(page.get_by_text("None is open yet")).to_be_visible()
            await page.get_by_label("Repository", exact=True).fill("team/app")
            await page.get_by_role("button", name="Open").click()
            await expect(page.locator("h1")).to_have_text("team/app")
            await page.get_by_role("link", name="latest").click()
            await expect(page.get_by_text("docker pull registry.example/team/app:latest")).to_be_visible()
            await page.evaluate("location.hash = '#/repositories/other'")
            await expect(page.get_by_role("alert").first).to_contain_text("may not read")
            assert len([body for body in sent if "s3cret" in body]) == 1
            assert [each["user"] for each in realm.asked] == [USER] * len(realm.asked)
            assert realm.asked[-1]["scopes"][-1] == "repository:other:pull"
