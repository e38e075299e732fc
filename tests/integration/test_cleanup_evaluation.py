"""Facts of cleanup from the database: times as intervals, families, pulls, gaps; and plans made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from indexer.cleanup.explaining import explain, explain_lines
from indexer.cleanup.planning import Made, make_plan, plan_json
from indexer.cleanup.replaying import replay_json, replay_lines, replay_policies
from indexer.oci.digest import digest_to_bytes
from indexer.oci.reference import TagName
from indexer.policies.facts import ManifestFacts, Past, Pull, RepositoryFacts, TagFacts
from indexer.policies.intervals import LONG_AGO, exactly
from indexer.store import cleanup_facts, cleanup_plans, holds, in_use, policies_in_force
from indexer.store.cleanup_facts import Wanted
from indexer.store.operators import Operator
from indexer.store.pool import Connection, Pool, connection
from tests.fixtures.cleanup_rows import NOW, SINCE, Rows, ago, d

ANN = Operator(name="ann", host="here", command="reconciler cleanup plan")
HOUR = timedelta(hours=1)
EVERYTHING = Wanted(configs=True, annotations=("ttl",), history=True, by_tag=True, pulls_since=ago(90))


async def facts_of(
    held: Connection, wanted: Wanted = EVERYTHING, *, name: str = "team/app"
) -> RepositoryFacts:
    rows = await cleanup_facts.list_repositories(held, names=[name])
    known = await cleanup_facts.known(held, now=NOW)
    (found,) = await cleanup_facts.load_facts(
        held, repositories=rows, wanted=wanted, suspected_at=known.suspected_at
    )
    return found


def tag_of(facts: RepositoryFacts, name: str) -> TagFacts:
    return next(each for each in facts.tags if each.name == name)


def manifest_of(facts: RepositoryFacts, name: str) -> ManifestFacts:
    return next(each for each in facts.manifests if each.digest == d(name))


async def test_times__are_as_wide_as_what_is_known(pool: Pool) -> None:
    """An event is exact; the storage's time and a first observation are the latest; an image's own time is not used."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.tag("event", "a", ago(10))
        await rows.tag("again", "a", ago(10), named=ago(3))
        await rows.tag("storage", "b", ago(10), source="storage")
        await rows.tag("seen", "c", ago(10), source="first-seen", not_before=ago(11))
        await rows.tag("config", "d", ago(900), source="image-config", first_seen=ago(5))
        await rows.tag("new", "e", ago(10), verified=False, named=ago(9))
        facts = await facts_of(held)
        assert exactly(ago(10)) == tag_of(facts, "event").pushed
        assert exactly(ago(3)) == tag_of(facts, "again").pushed
        assert (LONG_AGO, ago(10)) == tag_of(facts, "storage").pushed[:2]
        assert (ago(11), ago(10)) == tag_of(facts, "seen").pushed[:2]
        assert (LONG_AGO, ago(5)) == tag_of(facts, "config").pushed[:2]
        assert [ago(9)] == [each.unverified_since for each in facts.tags if each.unverified_since]
        assert (LONG_AGO, ago(10)) == manifest_of(facts, "a").pushed[:2], "no event names who pushed it"


async def test_restored__what_a_restore_of_ours_put_there(pool: Pool) -> None:
    """A tag says when it was restored last, as long as it points there; what was not carried out does not count."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        for name in ("back", "moved", "pushed", "planned"):
            await rows.tag(name, name, ago(40))
        await rows.tag("back", "back", ago(40), repository="team/other")
        actions: list[tuple[str, str, str, datetime | None]] = [
            ("restore", "back", "back", ago(5)),
            ("restore", "back", "back", ago(2)),
            ("delete", "back", "back", ago(1)),
            ("restore", "moved", "elsewhere", ago(2)),
            ("put_back", "pushed", "pushed", ago(2)),
            ("restore", "planned", "planned", None),
        ]
        for kind, tag, manifest, at in actions:
            await held.execute(
                "INSERT INTO tag_action (id, kind, state, source, repository, tag, digest, asked_at, watched_until,"
                " kept_until, done_at)"
                " VALUES (gen_random_uuid(), $1, 'checked', 'operator', 'team/app', $2, $3, $4, $4, $4, $5)",
                kind,
                tag,
                digest_to_bytes(d(manifest)),
                ago(9),
                at,
            )
        assert {"back": ago(2), "moved": None, "pushed": None, "planned": None} == {
            each.name: each.restored_at for each in (await facts_of(held)).tags
        }
        assert [None] == [each.restored_at for each in (await facts_of(held, name="team/other")).tags]
        _, shown = await planned(
            held,
            b"""version: 1
cleanup:
  - {id: a, scope: {repositories: {any: ["team/app"]}}, grace: {restored: 3d},
     delete: [{id: old, tags: {glob: ["**"]}, older: {pushed: 30d}}]}
""",
        )
        decided = said(shown)
        assert ("keep", "grace.restored") == decided["back"]
        assert {"delete"} == {decided[name][0] for name in ("moved", "pushed", "planned")}


async def test_history__of_tags_and_of_manifests(pool: Pool) -> None:
    """A tag that moved says since when; what it left says since when it has no tag, and which it had."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.manifest("old")
        await rows.manifest("older")
        await rows.tag("latest", "new", ago(10))
        await rows.pointed("latest", "old", since=ago(30), until=ago(10))
        await rows.pointed(
            "latest", "older", since=ago(60), until=ago(30), source="first-seen", not_before=ago(31)
        )
        await rows.pointed("v1", "older", since=ago(60), until=ago(50))
        facts = await facts_of(held)
        assert exactly(ago(10)) == tag_of(facts, "latest").moved
        old, older = manifest_of(facts, "old"), manifest_of(facts, "older")
        assert (exactly(ago(10)), ("latest",)) == (old.untagged, old.was_tagged)
        assert (ago(31), ago(30)) == (older.untagged or exactly(NOW))[:2]
        assert ("latest", "v1") == older.was_tagged
        assert Past(d("old"), exactly(ago(10))) in facts.history["latest"]
        assert {} == (await facts_of(held, Wanted())).history


async def test_families__and_what_cannot_be_read(pool: Pool) -> None:
    """Children, subjects, configs and annotations are known, and whether a manifest's content is."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.manifest("amd64")
        await rows.manifest("gone", deleted=ago(3))
        await rows.manifest("index", children=["amd64", "gone"], annotations={"ttl": "3w", "x": "y"})
        subject = digest_to_bytes(d("index"))
        await rows.manifest("sbom", subject_digest=subject, config_digest=digest_to_bytes(d("cfg")))
        await rows.manifest("orphan", subject_digest=digest_to_bytes(d("gone")))
        await rows.manifest("announced", content="announced")
        await rows.manifest("half", content="partly-read", unread=["labels"])
        await rows.manifest("odd", content="partly-read", unread=["subject"])
        await rows.tag("v1", "index", ago(10))
        facts = await facts_of(held)
        assert (d("amd64"),) == manifest_of(facts, "index").children
        assert {"ttl": "3w"} == manifest_of(facts, "index").annotations
        assert (d("index"), d("cfg")) == (
            manifest_of(facts, "sbom").subject,
            manifest_of(facts, "sbom").config,
        )
        assert {d("gone"): exactly(ago(3))} == facts.gone
        unreadable = {each.digest for each in facts.manifests if not each.readable}
        assert {d("announced"), d("odd")} == unreadable


async def test_pulls__by_whom_only_where_a_policy_asks(pool: Pool) -> None:
    """Without a rule that ignores anybody the last pull is enough; with one, what no entry tells of counts."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.tag("v1", "a", ago(50))
        await held.execute("UPDATE repository_manifest SET last_pulled_at = $1, pull_count = 7", ago(2))
        assert [Pull(d("a"), ago(2), 7)] == (await facts_of(held, Wanted())).pulls
        await held.execute(
            "INSERT INTO actor (name) VALUES ('trivy');"
            "INSERT INTO client (key, address, host, method, user_agent) VALUES ('c', '10.0.0.1', '', '', '')"
        )
        await held.execute(
            "INSERT INTO audit_staged (occurred_at, recorded_at, content_id, repository_id, actor_id, client_id,"
            " action, source, tag, detail)"
            " SELECT $1, $1, m.id, r.id, a.id, c.id, 'manifest.pulled', 'notification', 'v1', '{\"pulls\": 6}'"
            " FROM manifest AS m, repository AS r, actor AS a, client AS c",
            ago(2),
        )
        wanted = Wanted(pulls_since=ago(90))
        assert [Pull(d("a"), ago(2), 6, "v1", "trivy", "10.0.0.1")] == (await facts_of(held, wanted)).pulls
        await held.execute("UPDATE repository_manifest SET last_checked_at = $1", ago(1))
        found = (await facts_of(held, wanted)).pulls
        assert Pull(d("a"), ago(1), 7) in found, "nobody knows by whom"


async def test_pulls__that_left_the_log_may_have_been_anybodys(pool: Pool) -> None:
    """A policy that ignores somebody deletes nothing as unused since before the log begins, others do."""
    async with connection(pool) as held:
        await two_old_tags(held)
        rules = 'delete: [{id: old, tags: {glob: ["pr-*"]}, not_pulled: {for: 30d}}]'
        ignoring = file("preview", f"use: {{ignore: {{actors: [trivy]}}}}\n    {rules}")
        _, shown = await planned(held, ignoring)
        assert ("delete", "delete.old") == said(shown)["pr-1"]
        await held.execute(
            "INSERT INTO audit_part (first_position, last_position, opened_at, closed_at, dropped_at)"
            " VALUES (0, 0, $1, $2, $3)",
            ago(90),
            ago(20),
            ago(1),
        )
        _, shown = await planned(held, ignoring, at=NOW + HOUR)
        assert ("keep", "keep.unknown_coverage") == said(shown)["pr-1"]
        _, shown = await planned(held, file("preview", rules))
        assert ("delete", "delete.old") == said(shown)["pr-1"]


async def test_coverage__knows_its_first_day_and_its_gaps(pool: Pool) -> None:
    """Pulls are known since the registry announced one; losses, a receiver that is away and a full inbox are gaps."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin(pulls_since=None)
        assert (await cleanup_facts.known(held, now=NOW)).coverage.pulls_since is None
        await held.execute(
            "INSERT INTO registry_trait (trait, holds, because, changed_at, observed_at)"
            " VALUES ('announces_pulls', true, '', $1, $1)",
            ago(20),
        )
        await held.execute(
            "INSERT INTO loss_interval (from_at, to_at, instance_id, state, needs_reconcile, because)"
            " SELECT $1, $2, id, 'unknown', true, 'we were down' FROM registry_instance",
            ago(6),
            ago(5),
        )
        known = await cleanup_facts.known(held, now=NOW)
        assert (ago(20), ago(5)) == (known.coverage.pulls_since, known.suspected_at)
        assert [(ago(6), ago(5), "we were down")] == known.coverage.gaps
        assert ago(5) == known.coverage.latest_gap.to_at
        later = await cleanup_facts.known(held, now=NOW + HOUR)
        assert NOW == later.coverage.gaps[-1].from_at
        assert later.coverage.gaps[-1].to_at is None


async def test_incomplete__until_it_was_compared(pool: Pool) -> None:
    """A repository that no reconcile compared is not known in full, unless it came after one; a loss ends that."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.repository("team/app", reconciled=False)
        await rows.tag("v1", "a", ago(10))
        assert "never compared" in ((await facts_of(held)).incomplete or "")
        await held.execute(
            "INSERT INTO reconcile_run (started_at, finished_at, mode, outcome) VALUES ($1, $1, 'run', 'complete')",
            SINCE - HOUR,
        )
        assert (await facts_of(held)).incomplete is None
        await held.execute(
            "INSERT INTO loss_interval (from_at, to_at, instance_id, state, needs_reconcile, because)"
            " SELECT $1, $2, id, 'unknown', true, '' FROM registry_instance",
            ago(6),
            ago(5),
        )
        assert "may have been lost" in ((await facts_of(held)).incomplete or "")


# --- plans -----------------------------------------------------------------------------------------------

BRAKE = "brake: {tags: 100, share: 100%, repository_share: 100%}"


def file(
    mode: str, rules: str = 'delete: [{id: old, tags: {glob: ["pr-*"]}, older: {pushed: 30d}}]'
) -> bytes:
    return f"""version: 1
cleanup:
  - id: a
    mode: {mode}
    scope: {{repositories: {{any: ["**"]}}}}
    undo: {{pending: 7d, unlink_after: 2d}}
    {BRAKE}
    {rules}
""".encode()


async def planned(
    held: Connection, content: bytes, *, at: datetime = NOW
) -> tuple[Made, list[Mapping[str, Any]]]:
    await held.execute("UPDATE receiver_session SET heartbeat_at = $1", at)
    await policies_in_force.put_in_force(held, content=content, at=min(at, NOW), by=None)
    in_force = await policies_in_force.in_force(held)
    assert in_force is not None
    shown: list[Mapping[str, Any]] = []
    made = await make_plan(held, in_force.policies(), now=at, operator=ANN, show=shown.append)
    return made, shown


async def two_old_tags(held: Connection) -> Rows:
    rows = Rows(held)
    await rows.begin()
    await rows.manifest("one", layers=[("shared", 1000), ("own", 50)])
    await rows.manifest("two", layers=[("shared", 1000)])
    await rows.tag("pr-1", "one", ago(40))
    await rows.tag("pr-2", "two", ago(40))
    await rows.tag("v1", "three", ago(400))
    return rows


def said(shown: list[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    return {each["tag"] or each["digest"]: (each["decision"], each["reason"]) for each in shown}


async def test_plan__says_what_goes_and_why_the_rest_stays(pool: Pool) -> None:
    """Every tag has its verdict, and what goes frees shared layers once, as a set."""
    async with connection(pool) as held:
        await two_old_tags(held)
        made, shown = await planned(held, file("preview"))
        assert {
            "pr-1": ("delete", "delete.old"),
            "pr-2": ("delete", "delete.old"),
            "v1": ("keep", "keep.no_delete_rule"),
            d("one"): ("delete", "delete.old"),
            d("two"): ("delete", "delete.old"),
        } == said(shown)
        found = plan_json(made)
        assert {"keep": 1, "delete": 4, "hold": 0, "freed_bytes": 1070} == found["summary"]
        assert made.plan.id == found["plan_id"]
        (first, *_) = [each for each in shown if each["tag"] == "pr-1"]
        assert NOW + timedelta(days=7) == datetime.fromisoformat(first["expires_at"])
        assert "rule old deletes it" in first["text"]
        assert [] == await cleanup_plans.open_planned(held, policies=["a"]), "preview plans nothing"


def two_policies() -> bytes:
    """The same rules for each of two repositories."""
    first = file("propose").decode().replace('["**"]', "[team/app]")
    second = first.partition("cleanup:\n")[2].replace("id: a", "id: b", 1).replace("team/app", "team/other")
    return (first + second).encode()


async def test_plan__of_two_policies_frees_as_a_set(pool: Pool) -> None:
    """A layer that repositories of two policies share is freed by both together, and by neither alone."""
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.manifest("one", layers=[("shared", 1000), ("own", 50)])
        await rows.manifest("two", layers=[("shared", 1000)], repository="team/other")
        for repository, old, new in (("team/app", "one", "kept"), ("team/other", "two", "kept too")):
            await rows.tag("pr-1", old, ago(40), repository=repository)
            await rows.tag("v1", new, ago(1), repository=repository)
        made, _ = await planned(held, two_policies())
        assert {outcome.policy.id: outcome.freed_bytes for outcome in made.outcomes} == {"a": 60, "b": 10}
        assert plan_json(made)["summary"]["freed_bytes"] == 1070
        stored = await cleanup_plans.find_plan(held, plan_id=made.plan.id)
        assert stored is not None
        assert (stored.frees, [part.freed_bytes for part in stored.parts]) == (1070, [60, 10])
        # A third holder keeps the layer: the plan deletes the same, and frees less.
        await rows.manifest("three", layers=[("shared", 1000)], repository="else/where")
        made, _ = await planned(held, two_policies(), at=NOW + HOUR)
        assert (made.new, made.freed_bytes, made.plan.frees) == (False, 70, 70)


async def test_plan__of_the_same_is_the_same(pool: Pool) -> None:
    """An evaluation that comes to the same confirms the plan; one that deletes something else is another."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        first, _ = await planned(held, file("propose"))
        second, _ = await planned(held, file("propose"), at=NOW + HOUR)
        assert (True, False, first.plan.id) == (first.new, second.new, second.plan.id)
        assert NOW + HOUR == second.plan.confirmed_at
        await rows.tag("pr-3", "four", ago(50))
        third, _ = await planned(held, file("propose"), at=NOW + 2 * HOUR)
        assert third.plan.id != first.plan.id
        entries = await held.fetch(
            "SELECT action::text, detail FROM audit_staged WHERE action = 'cleanup.planned'"
        )
        assert [first.plan.id, third.plan.id] == [row["detail"]["plan"] for row in entries]


async def test_pending__is_cancelled_by_use_and_by_a_move(pool: Pool) -> None:
    """What is pulled or moved while it waits is not planned any more: a near miss, with its entry in the log."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await rows.tag("pr-3", "three", ago(50))
        policy = "keep: [{id: used, pulled: {within: 20d}}]\n    "
        content = file(
            "propose", policy + 'delete: [{id: old, tags: {glob: ["pr-*"]}, older: {pushed: 30d}}]'
        )
        await planned(held, content)
        waiting = await cleanup_plans.open_planned(held, policies=["a"])
        assert {"pr-1", "pr-2", "pr-3"} == {each.tag for each in waiting}, "manifests wait for their tags"
        assert {NOW + timedelta(days=7)} == {each.due_at for each in waiting}
        later = NOW + timedelta(days=1)
        await held.execute(
            "UPDATE repository_manifest SET last_pulled_at = $1 WHERE manifest_id = $2",
            later,
            rows.manifests["one"],
        )
        await held.execute("UPDATE tag SET manifest_id = $1 WHERE name = 'pr-2'", rows.manifests["three"])
        made, _ = await planned(held, content, at=later)
        assert (2, 2) == (made.cancelled, made.near_misses)
        entries = await held.fetch(
            "SELECT tag, detail ->> 'because' AS because FROM audit_staged WHERE action = 'cleanup.near_miss'"
            " ORDER BY tag"
        )
        assert ["pr-1", "pr-2"] == [row["tag"] for row in entries]
        assert "pulled 2026-11-30" in entries[0]["because"]
        assert "something else" in entries[1]["because"]
        left = {each.tag: each.first_at for each in await cleanup_plans.open_planned(held, policies=["a"])}
        assert NOW == left[TagName("pr-3")]
        assert later == left[TagName("pr-2")], "planned anew, at what it points to now"


async def carried_out(held: Connection, *, at: datetime) -> None:
    """Cleanup deletes every tag that is planned, and the news of it is applied."""
    for each in await cleanup_plans.open_planned(held, policies=["a"]):
        await cleanup_plans.mark_done(held, planned_id=each.id, at=at)
        await held.execute("DELETE FROM tag WHERE name = $1", each.tag)
        await held.execute(
            "UPDATE tag_history SET valid_to = $1, to_source = 'event' WHERE name = $2", at, each.tag
        )


async def test_manifests__wait_for_their_tags(pool: Pool) -> None:
    """A manifest whose last tag cleanup deleted waits for unlink_after, and goes by that rule, unless it is pulled."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await planned(held, file("propose"))
        done_at = NOW + timedelta(days=7)
        await carried_out(held, at=done_at)
        _, shown = await planned(held, file("propose"), at=done_at + HOUR)
        assert ("keep", "grace.undo") == said(shown)[d("one")]
        await held.execute(
            "UPDATE repository_manifest SET last_pulled_at = $1 WHERE manifest_id = $2",
            done_at + HOUR,
            rows.manifests["two"],
        )
        after = done_at + timedelta(days=2)
        _, shown = await planned(held, file("propose"), at=after)
        assert {d("one"): ("delete", "delete.old"), d("two"): ("keep", "keep.pulled")} == {
            key: found for key, found in said(shown).items() if key in (d("one"), d("two"))
        }
        (one,) = await cleanup_plans.open_planned(held, policies=["a"])
        assert (None, d("one"), after) == (one.tag, one.digest, one.due_at)


async def test_manifests__go_by_a_rule_of_tags_only_if_cleanup_took_the_last_tag(pool: Pool) -> None:
    """Cleanup deleted a tag once, and somebody put it back, or another: what moves or deletes that is not cleanup."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await planned(held, file("propose"))
        done_at = NOW + timedelta(days=7)
        await carried_out(held, at=done_at)
        for tag, manifest in (("pr-1", "one"), ("release", "two")):
            await rows.pointed(tag, manifest, since=done_at + HOUR, until=done_at + 2 * HOUR)
        _, shown = await planned(held, file("propose"), at=done_at + timedelta(days=30))
        assert {d("one"): ("keep", "keep.no_delete_rule"), d("two"): ("keep", "keep.no_delete_rule")} == {
            key: found for key, found in said(shown).items() if key in (d("one"), d("two"))
        }


async def test_holds_and_reports__protect(pool: Pool) -> None:
    """What is on hold or in use stays, whatever rules say; a source that must report and is silent holds everything."""
    async with connection(pool) as held:
        await two_old_tags(held)
        async with held.transaction():
            await holds.add_hold(
                held,
                owner="ann",
                reason="incident",
                repository="team/app",
                tag="pr-1",
                digest=None,
                until=None,
                at=NOW,
                operator=ANN,
            )
            await in_use.take_report(
                held,
                source="k8s",
                images=[("", d("two"))],
                at=NOW,
                valid_until=NOW + HOUR,
                confirm=False,
            )
        _, shown = await planned(held, file("preview"))
        assert (("keep", "protect.hold"), ("keep", "protect.in_use")) == (
            said(shown)["pr-1"],
            said(shown)["pr-2"],
        )
        silent = file("preview") + b"in_use: {sources: [{id: other}]}\n"
        _, shown = await planned(held, silent)
        assert ("keep", "protect.in_use") == said(shown)["pr-2"]
        async with held.transaction():
            (hold,) = await holds.list_holds(held, now=NOW)
            await holds.remove_hold(held, hold_id=hold.id, at=NOW, operator=ANN)
        _, shown = await planned(held, silent)
        assert ("hold", "hold.incomplete") == said(shown)["pr-1"]


async def test_due__not_what_the_last_evaluation_holds(pool: Pool) -> None:
    """What an approved plan deletes stays planned while a later evaluation holds it, and is not done."""
    async with connection(pool) as held:
        await two_old_tags(held)
        content = file("propose") + b"in_use: {sources: [{id: k8s}]}\n"
        report: dict[str, Any] = {"source": "k8s", "images": [("", d("x"))], "confirm": False}
        async with held.transaction():
            await in_use.take_report(held, at=NOW, valid_until=NOW + timedelta(days=8), **report)
        made, _ = await planned(held, content)
        async with held.transaction():
            await cleanup_plans.approve_plan(held, plan=made.plan, at=NOW, operator=ANN, reason=None)

        async def due(at: datetime) -> set[str | None]:
            standings = await cleanup_plans.standing(held, now=at)
            found: set[str | None] = {each.tag for each in await cleanup_plans.due_verdicts(held, now=at)}
            assert (len(found), 0) == await cleanup_plans.due_counts(held, standings, now=at)
            return found

        after = NOW + timedelta(days=7)
        await planned(held, content, at=after)
        assert {"pr-1", "pr-2"} == await due(after)
        silent = NOW + timedelta(days=9)
        _, shown = await planned(held, content, at=silent)
        assert ("hold", "hold.incomplete") == said(shown)["pr-1"]
        assert 2 == len(await cleanup_plans.open_planned(held, policies=["a"]))
        assert set() == await due(silent)
        async with held.transaction():
            await in_use.take_report(held, at=silent, valid_until=silent + HOUR, **report)
        await planned(held, content, at=silent + HOUR / 2)
        assert {"pr-1", "pr-2"} == await due(silent + HOUR / 2)


async def test_changed_since__says_what_speaks_against_it(pool: Pool) -> None:
    """A use, a push, a move, a hold and a report speak against doing what was due; what an evaluation knew does not."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await planned(held, file("propose"))
        (due, _) = await cleanup_plans.open_planned(held, policies=["a"])
        assert "pr-1" == due.tag
        app, one = rows.repositories["team/app"], rows.manifests["one"]
        soon = NOW + timedelta(seconds=1)
        late = NOW - timedelta(seconds=30)  # perhaps applied after the evaluation
        before = NOW - timedelta(minutes=2)

        async def said_after(
            statement: str,
            *values: Any,
            each: cleanup_plans.Planned = due,
            grace: timedelta = timedelta(0),
        ) -> str:
            rolled_back = held.transaction()
            await rolled_back.start()
            await held.execute(statement, *values)
            found = await cleanup_plans.changed_since(held, due=each, since=NOW, grace=grace)
            await rolled_back.rollback()
            return found or ""

        of_manifest = "UPDATE repository_manifest SET {} = $1 WHERE manifest_id = $2"
        used = [(of_manifest.format(column), one) for column in ("last_pulled_at", "last_checked_at")]
        used += [
            ("INSERT INTO tag_pull VALUES ($1, 1, $2, 'pr-1')", app),
            ("INSERT INTO tag_check VALUES ($1, $2, 'pr-1')", app),
        ]
        for statement, number in used:
            assert "pulled, checked or pushed" in await said_after(statement, soon, number)
            assert "pulled, checked or pushed" in await said_after(statement, late, number)
            assert "" == await said_after(statement, before, number)
        again = of_manifest.format("pushed_again_at")
        assert "pushed" in await said_after(again, soon, one)
        assert "" == await said_after(again, before, one)
        pushed = of_manifest.format("pushed_at")
        assert "pushed" in await said_after(pushed, soon, one)
        assert "" == await said_after(pushed, late, one), "without grace it is not known that nobody knew"
        assert "pushed" in await said_after(pushed, late, one, grace=HOUR), "its grace would have kept it"
        assert "" == await said_after(pushed, before, one, grace=HOUR)
        assert "something else" in await said_after(
            "UPDATE tag SET manifest_id = $1 WHERE name = 'pr-1'", rows.manifests["two"]
        )
        assert "or is gone" in await said_after("DELETE FROM tag WHERE name = 'pr-1'")
        hold = (
            "INSERT INTO cleanup_hold (created_at, id, owner, reason, repository, tag, digest, created_by)"
            " VALUES ($1, 'h', 'ann', '', $2, $3, $4, 'ann')"
        )
        for target in (("team/app", None, None), ("team/app", "pr-1", None), (None, None, d("one"))):
            assert "on hold" in await said_after(hold, soon, *target)
            assert "on hold" in await said_after(hold, late, *target)
        for other in (("team/api", None, None), ("team/app", "pr-2", None), ("team/app", None, d("two"))):
            assert "" == await said_after(hold, soon, *other)
        await held.execute(
            "INSERT INTO in_use_source (source, reported_at, counted_at, valid_until, images)"
            " VALUES ('k8s', $1, $1, $1, 1)",
            NOW,
        )
        image = "INSERT INTO in_use_image VALUES (false, 'k8s', $1, $2)"
        assert "in use" in await said_after(image, "", d("one"))
        assert "in use" in await said_after(image, "team/app", "pr-1")
        assert "" == await said_after(image, "team/app", "pr-2")
        manifest = replace(due, tag=None)
        assert "a tag points to it" in await said_after("SELECT", each=manifest)
        assert "" == await said_after("DELETE FROM tag WHERE name = 'pr-1'", each=manifest)


async def test_other_policies__in_force_meanwhile(pool: Pool) -> None:
    """A plan is not stored where other bytes came into force while it was made."""
    async with connection(pool) as held:
        await two_old_tags(held)
        await policies_in_force.put_in_force(held, content=file("propose"), at=NOW, by=None)
        made = await make_plan(held, policies_in_force.parsed(file("enforce")), now=NOW, operator=None)
        assert (False, None) == (made.stored, plan_json(made)["plan_id"])
        assert [] == await cleanup_plans.list_plans(held, limit=10)


async def test_weak_share__of_a_policy_that_acts_by_itself(pool: Pool) -> None:
    """Where more would go if every time were known exactly, enforce is told how much."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await rows.tag("pr-8", "eight", ago(40), source="first-seen")
        await rows.tag("pr-9", "nine", ago(41), source="first-seen")
        rules = 'keep: [{id: new, tags: {glob: ["pr-[89]"]}, newest: {count: 1}}]\n    '
        content = file("enforce", rules + 'delete: [{id: old, tags: {glob: ["pr-*"]}, older: {pushed: 30d}}]')
        made, shown = await planned(held, content)
        assert ("keep", "keep.newest") == said(shown)["pr-9"]
        assert 0.3 < made.outcomes[0].weak_share < 0.4, "pr-9 and its manifest, of six"


async def test_explain__names_every_rule_and_what_is_known(pool: Pool) -> None:
    """A tag's verdict with all that say the same; a tag that no policy has, or that is not here, is said to be so."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await held.execute(
            "UPDATE repository_manifest SET last_pulled_at = $1 WHERE manifest_id = $2",
            ago(2),
            rows.manifests["three"],
        )
        rules = (
            "keep: [{id: used, pulled: {within: 20d}}, {id: two, newest: {count: 2}}]\n    "
            'delete: [{id: old, tags: {glob: ["**"]}, older: {pushed: 30d}}]'
        )
        policies = policies_in_force.parsed(file("preview", rules))
        found = await explain(held, policies, repository="team/app", tag="v1", now=NOW)
        lines = "\n".join(explain_lines(found))
        assert "team/app:v1: keep (keep.pulled), by policy a (preview)" in lines
        assert "pulled 2026-11-27" in lines
        found = await explain(held, policies, repository="team/app", tag="pr-1", now=NOW)
        assert ("keep", "keep.newest") == (found["verdict"]["decision"], found["verdict"]["reason"])
        missing = await explain(held, policies, repository="team/app", tag="v9", now=NOW)
        assert ["team/app:v9: there is no such tag on record"] == explain_lines(missing)
        nobody = policies_in_force.parsed(b"version: 1\n")
        found = await explain(held, nobody, repository="team/app", tag="v1", now=NOW)
        assert "no policy has the repository" in explain_lines(found)[0]


async def test_replay__reads_the_past_from_the_database(pool: Pool) -> None:
    """What tags pointed to, who pulled, and what was pushed again; months that left the log are unknown."""
    async with connection(pool) as held:
        rows = await two_old_tags(held)
        await held.execute("UPDATE tag_history SET valid_from = $1 WHERE name LIKE 'pr-%'", ago(70))
        await held.execute("UPDATE repository_manifest SET pushed_at = $1", ago(70))
        await rows.manifest("before", pushed=ago(110))
        await rows.pointed("pr-1", "before", since=ago(110), until=ago(70))
        await held.execute("UPDATE audit_part SET opened_at = $1", ago(200))
        said_of = [("manifest.pulled", "pr-2", "two", ago(1)), ("tag.repushed", "pr-1", "one", ago(2))]
        for action, tag, manifest, at in said_of:
            await held.execute(
                "INSERT INTO audit_staged (occurred_at, recorded_at, content_id, repository_id, action, source, tag)"
                " VALUES ($1, $1, $2, $3, $4::text::audit_action, 'notification', $5)",
                at,
                rows.manifests[manifest],
                rows.repositories["team/app"],
                action,
                tag,
            )
        policies = policies_in_force.parsed(file("preview"))
        found = replay_json(
            await replay_policies(held, policies, since=ago(90), now=NOW), since=ago(90), now=NOW
        )
        (one,) = found["policies"]
        assert 0 == one["unknown_days"]
        assert 91 <= len(one["days"]) <= 92
        assert {("pr-1", "pushed_again"), ("pr-2", "pulled")} == {
            (each["tag"], each["missed"]) for each in one["missed_tags"]
        }
        assert 3 == one["deleted"], "pr-1 went twice: it pointed to something else before"
        assert "3 tags deleted" in replay_lines(found)[0]
        await held.execute("UPDATE audit_part SET opened_at = $1", ago(20))
        done = await replay_policies(held, policies, since=ago(90), now=NOW)
        found = replay_json(done, since=ago(90), now=NOW)
        assert 70 <= found["policies"][0]["unknown_days"] <= 71
        assert "not known which pulls" in replay_lines(found)[1]
