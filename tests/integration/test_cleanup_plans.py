"""What policies may do, from the database: in force, planned, approved, due; holds, and what is in use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.inventory.changes import AuditAction
from indexer.oci.digest import Digest, digest_of, digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.policies.cleanup import ENGINE
from indexer.policies.limits import Limit
from indexer.store import cleanup_plans, holds, in_use, policies_in_force
from indexer.store.cleanup_plans import PolicyPart, ShownVerdict, StoredPlan, ToPlan
from indexer.store.operators import Operator
from indexer.store.pool import Connection, Pool, transaction
from indexer.store.repositories import add_repositories

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
ANN = Operator(name="ann", host="here", command="reconciler cleanup approve")


def file(mode: str) -> bytes:
    return f"""version: 1
cleanup:
  - id: a
    mode: {mode}
    scope: {{repositories: {{any: ["**"]}}}}
    delete: [{{id: old, tags: {{glob: ["*"]}}, older: {{pushed: 30d}}}}]
""".encode()


def d(name: str) -> Digest:
    return digest_of(name.encode())


async def store_plan(
    held: Connection,
    *names: str,
    plan_id: str = "p1",
    at: datetime = NOW,
    mode: str = "propose",
    brake: tuple[Limit, ...] = (),
    weak: float = 0.0,
) -> None:
    """A plan that deletes some tags of one repository, each of a digest that is called like it."""
    await add_repositories(held, announced={RepositoryName("team/app"): at})
    file_in_force = await policies_in_force.in_force(held)
    assert file_in_force is not None
    part = PolicyPart(
        policy="a",
        mode=mode,
        freed_bytes=1,
        weak_share=weak,
        kept=0,
        deleted=len(names),
        held=0,
        brake=brake,
    )
    plan = StoredPlan(
        id=plan_id,
        made_at=at,
        confirmed_at=at,
        position=1,
        engine=ENGINE,
        policies_sha256=file_in_force.sha256,
        parts=(part,),
    )
    common: dict[str, Any] = {"policy": "a", "repository": "team/app", "decision": "delete"}
    verdicts = [
        ShownVerdict(**common, tag=name, digest=d(name), shown={"text": f"{name} is old"}) for name in names
    ]
    await cleanup_plans.add_plan(held, plan=plan, content_sha256=b"c", verdicts=verdicts)
    await cleanup_plans.put_planned(held, policy="a", at=at, planned=[wanted(name) for name in names])


async def evaluated_again(held: Connection, plan_id: str, *names: str, at: datetime) -> None:
    """An evaluation comes to a plan again, which names these tags."""
    plan = await cleanup_plans.find_plan(held, plan_id=plan_id)
    assert plan is not None
    await cleanup_plans.confirm_plan(held, plan_id=plan_id, at=at, parts=plan.parts)
    await cleanup_plans.put_planned(held, policy="a", at=at, planned=[wanted(name) for name in names])


def wanted(name: str) -> ToPlan:
    return ToPlan(
        repository="team/app", tag=name, digest=d(name), rule="old", reason="delete.old", pending=WEEK
    )


async def in_force(held: Connection, content: bytes, at: datetime = NOW - WEEK) -> bool:
    return await policies_in_force.put_in_force(held, content=content, at=at, by=None)


async def approve(held: Connection, plan_id: str = "p1", at: datetime = NOW) -> None:
    plan = await cleanup_plans.find_plan(held, plan_id=plan_id)
    assert plan is not None
    await cleanup_plans.approve_plan(held, plan=plan, at=at, operator=ANN, reason="seen")


async def due(held: Connection, at: datetime) -> list[str | None]:
    return [each.tag for each in await cleanup_plans.due_verdicts(held, now=at)]


async def refusals(held: Connection, at: datetime) -> list[str | None]:
    return [each.refusal for each in await cleanup_plans.standing(held, now=at)]


async def test_propose__only_what_was_approved_and_only_after_pending(pool: Pool) -> None:
    """A plan of propose waits for its own approval, and what it names for the pending period."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        assert ["no_plan"] == await refusals(held, NOW)
        await store_plan(held, "one", "two")
        later = NOW + WEEK
        await evaluated_again(held, "p1", "one", "two", at=later)
        assert (["not_approved"], []) == (await refusals(held, later), await due(held, later))
        await approve(held)
        assert [] == await due(held, later - timedelta(seconds=1))
        assert ["one", "two"] == await due(held, later)
        (first, _) = await cleanup_plans.due_verdicts(held, now=later)
        assert ("one is old", "p1", "a", "old") == (first.text, first.plan_id, first.policy, first.rule)
        assert await cleanup_plans.mark_done(held, planned_id=first.id, at=later)
        assert not await cleanup_plans.mark_done(held, planned_id=first.id, at=later)
        assert ["two"] == await due(held, later)


async def test_preview__never_acts(pool: Pool) -> None:
    """Nothing is due by a policy of preview, approved or not."""
    async with transaction(pool) as held:
        await in_force(held, file("preview"))
        await store_plan(held, "one", mode="preview")
        await approve(held)
        assert (["preview"], []) == (await refusals(held, NOW + WEEK), await due(held, NOW + WEEK))


async def test_change__ends_approvals_and_a_change_back_too(pool: Pool) -> None:
    """Approvals count under the bytes they were given for, since these came into force."""
    async with transaction(pool) as held:
        await in_force(held, file("enforce"))
        await store_plan(held, "one", mode="enforce")
        await approve(held)
        soon = NOW + timedelta(minutes=1)
        assert [None] == await refusals(held, soon)
        assert await in_force(held, file("enforce") + b"# more\n", at=NOW + timedelta(minutes=2))
        assert await in_force(held, file("enforce"), at=NOW + timedelta(minutes=3))
        assert not await in_force(held, file("enforce"), at=NOW + timedelta(minutes=4))
        assert ["no_plan"] == await refusals(held, NOW + timedelta(minutes=5))
        await store_plan(held, "one", plan_id="p2", mode="enforce", at=NOW + timedelta(minutes=5))
        assert ["not_approved"] == await refusals(held, NOW + timedelta(minutes=6))
        changes = await held.fetch("SELECT detail FROM audit_staged WHERE action = 'policy.changed'")
        assert [None, *(row["detail"]["policies_sha256"] for row in changes[:-1])] == [
            row["detail"]["previous_policies_sha256"] for row in changes
        ]


async def test_enforce__the_newest_plan_speaks(pool: Pool) -> None:
    """Once one plan was approved the next ones act; one beyond the brake or on weak evidence stops, and so does age."""
    async with transaction(pool) as held:
        await in_force(held, file("enforce"))
        await store_plan(held, "one", mode="enforce")
        await approve(held)
        later = NOW + WEEK
        await store_plan(held, "one", "two", plan_id="p2", mode="enforce", at=later)
        assert ["one"] == await due(held, later), "two is planned since just now"
        assert ["stale"] == await refusals(held, later + timedelta(hours=7))
        hour = later + timedelta(hours=1)
        await store_plan(held, "one", plan_id="p3", mode="enforce", at=hour, brake=(Limit("tags", 9, 1),))
        assert (["blocked.brake"], []) == (await refusals(held, hour), await due(held, hour))
        await store_plan(held, "one", plan_id="p4", mode="enforce", at=hour + WEEK, weak=0.5)
        assert ["weak_evidence"] == await refusals(held, hour + WEEK)


async def test_enforce__the_plan_that_was_come_to_last_speaks(pool: Pool) -> None:
    """A plan that an evaluation came to again counts as the newest, though another was made in between."""
    async with transaction(pool) as held:
        await in_force(held, file("enforce"))
        brake = (Limit("tags", 9, 1),)
        await store_plan(held, "one", mode="enforce", at=NOW - WEEK, brake=brake)
        await store_plan(held, "one", plan_id="p2", mode="enforce")
        await approve(held, "p2")
        assert ["one"] == await due(held, NOW)
        hour = NOW + timedelta(hours=1)
        await evaluated_again(held, "p1", "one", at=hour)
        assert (["blocked.brake"], []) == (await refusals(held, hour), await due(held, hour))


async def test_stale__an_approved_plan_whose_successor_is_old(pool: Pool) -> None:
    """No plan of a policy is carried out when nothing was evaluated for hours, whichever plan was approved."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one")
        await approve(held)
        later = NOW + WEEK
        await store_plan(held, "one", "two", plan_id="p2", at=later)
        assert ["one"] == await due(held, later + timedelta(hours=5)), "by the plan before, looked at since"
        hours = later + timedelta(hours=7)
        assert (["not_approved"], []) == (await refusals(held, hours), await due(held, hours))


async def test_reject__the_newest_plan_of_enforce_stops_those_before_it(pool: Pool) -> None:
    """Rejecting the plan that speaks for a policy lets no older one speak; the next evaluation does."""
    async with transaction(pool) as held:
        await in_force(held, file("enforce"))
        await store_plan(held, "one", mode="enforce")
        await approve(held)
        later = NOW + WEEK
        await evaluated_again(held, "p1", "one", at=later)
        await store_plan(held, "one", "two", plan_id="p2", mode="enforce", at=later)
        plan = await cleanup_plans.find_plan(held, plan_id="p2")
        assert plan is not None
        await cleanup_plans.reject_plan(held, plan=plan, at=later, operator=ANN, reason=None)
        assert (["no_plan"], []) == (await refusals(held, later), await due(held, later))
        await store_plan(held, "one", plan_id="p3", mode="enforce", at=later + timedelta(hours=1))
        assert ["one"] == await due(held, later + timedelta(hours=1))


async def test_due__only_what_the_approved_plan_itself_deletes(pool: Pool) -> None:
    """An approval covers the digests that its plan deletes: not what it held, nor what a tag points to by now."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one", "two", "three", at=NOW - WEEK)
        await held.execute("UPDATE cleanup_verdict SET decision = 'hold' WHERE tag = 'two'")
        moved = digest_to_bytes(d("moved"))
        await held.execute("UPDATE cleanup_planned SET digest = $1 WHERE tag = 'three'", moved)
        await approve(held)
        await evaluated_again(held, "p1", "one", "two", at=NOW)
        await held.execute("UPDATE cleanup_planned SET named_at = $1", NOW)
        standings = await cleanup_plans.standing(held, now=NOW)
        assert (["one"], (1, 0)) == (
            await due(held, NOW),
            await cleanup_plans.due_counts(held, standings, now=NOW),
        )


async def test_reject__ends_what_its_approval_allowed(pool: Pool) -> None:
    """The approval of a plan that is rejected lets no other plan of enforce act."""
    async with transaction(pool) as held:
        await in_force(held, file("enforce"))
        await store_plan(held, "one", mode="enforce")
        await approve(held)
        plan = await cleanup_plans.find_plan(held, plan_id="p1")
        assert plan is not None
        await cleanup_plans.reject_plan(held, plan=plan, at=NOW, operator=ANN, reason=None)
        await store_plan(held, "one", plan_id="p2", mode="enforce", at=NOW + WEEK)
        assert ["not_approved"] == await refusals(held, NOW + WEEK)


async def test_planned__by_another_policy_waits_anew(pool: Pool) -> None:
    """What another policy takes over is planned since that, and waits for its pending period."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one")
        day = NOW + timedelta(days=1)
        await cleanup_plans.put_planned(held, policy="b", at=day, planned=[wanted("one")])
        (planned,) = await cleanup_plans.open_planned(held, policies=["a", "b"])
        assert ("b", day, day + WEEK) == (planned.policy, planned.first_at, planned.due_at)


async def test_due__tags_come_before_manifests(pool: Pool) -> None:
    """However many manifests wait to be unlinked, tags are among what is asked for."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one", "two")
        await approve(held)
        later = NOW + WEEK
        await held.execute("UPDATE cleanup_verdict SET tag = NULL WHERE tag = 'one'")
        await held.execute("UPDATE cleanup_planned SET tag = '', due_at = first_at WHERE tag = 'one'")
        (first,) = await cleanup_plans.due_verdicts(held, now=NOW, limit=1)
        assert first.tag is None
        await held.execute("UPDATE cleanup_plan SET confirmed_at = $1", later)
        await held.execute("UPDATE cleanup_planned SET named_at = $1", later)
        (first,) = await cleanup_plans.due_verdicts(held, now=later, limit=1)
        assert "two" == first.tag


async def test_due__by_the_verdict_of_its_own_policy(pool: Pool) -> None:
    """What a policy planned is not due by what another policy of the same plan says of it."""
    async with transaction(pool) as held:
        await in_force(held, file("enforce"))
        await store_plan(held, "one", mode="enforce")
        await approve(held)
        later = NOW + WEEK
        await evaluated_again(held, "p1", "one", at=later)
        assert ["one"] == await due(held, later)
        await held.execute("UPDATE cleanup_verdict SET policy = 'b'")
        standings = await cleanup_plans.standing(held, now=later)
        assert ([], (0, 0)) == (
            await due(held, later),
            await cleanup_plans.due_counts(held, standings, now=later),
        )


async def test_programs__that_read_different_bytes_stop_everything(pool: Pool) -> None:
    """As long as two running programs read different files, nothing is due; one that ended is not asked."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one", at=NOW - WEEK)
        await approve(held)
        sha256 = policies_in_force.sha256_of(file("propose"))
        for process, read in (("serve", sha256), ("run", policies_in_force.sha256_of(b""))):
            await policies_in_force.note_reading(
                held, process=process, at=NOW, file=None, sha256=read, error=None
            )
        await evaluated_again(held, "p1", "one", at=NOW)
        assert (["policies_differ"], []) == (await refusals(held, NOW), await due(held, NOW))
        found = await policies_in_force.readings(held, now=NOW)
        file_in_force = await policies_in_force.in_force(held)
        assert "nothing acts until they agree" in (policies_in_force.differing(found, file_in_force) or "")
        await policies_in_force.forget_reading(held, process="run")
        assert ["one"] == await due(held, NOW)
        await policies_in_force.note_reading(
            held, process="serve", at=NOW, file="f", sha256="00" * 32, error=None
        )
        assert ["policies_differ"] == await refusals(held, NOW), "it reads something else than is in force"
        await policies_in_force.note_reading(
            held, process="serve", at=NOW, file="f", sha256="00" * 32, error="f:1: wrong"
        )
        assert [None] == await refusals(held, NOW), "what is wrong changes nothing"


async def test_put_in_force__not_against_another_running_program(pool: Pool) -> None:
    """A program that merely repeats its own bytes does not take the place of what another one reads."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        sha256 = policies_in_force.sha256_of(file("propose"))
        await policies_in_force.note_reading(
            held, process="serve", at=NOW, file="f", sha256=sha256, error=None
        )
        other: dict[str, Any] = {"content": file("enforce"), "by": None, "unless_read_besides": "run"}
        assert not await policies_in_force.put_in_force(held, at=NOW, **other)
        assert await policies_in_force.put_in_force(held, at=NOW + timedelta(minutes=1), **other)


async def test_planned__keeps_its_beginning_until_it_is_cancelled(pool: Pool) -> None:
    """Planned again is planned since the first time, with the pending period of now; cancelled begins anew."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one")
        day = NOW + timedelta(days=1)
        (first,) = await cleanup_plans.open_planned(held, policies=["a"])
        again = ToPlan(
            repository="team/app", tag="one", digest=d("one"), rule="x", reason="delete.x", pending=2 * WEEK
        )
        assert 0 == await cleanup_plans.put_planned(held, policy="a", at=day, planned=[again])
        (second,) = await cleanup_plans.open_planned(held, policies=["a"])
        assert (first.id, NOW, NOW + 2 * WEEK) == (second.id, second.first_at, second.due_at)
        assert 1 == await cleanup_plans.put_planned(held, policy="b", at=day, planned=[again]) + len(
            await cleanup_plans.open_planned(held, policies=["b"])
        )
        assert 1 == await cleanup_plans.cancel_planned(held, at=day, cancelled=[(first.id, True, "pulled")])
        assert 1 == await cleanup_plans.put_planned(held, policy="a", at=day, planned=[again])
        (third,) = await cleanup_plans.open_planned(held, policies=["a"])
        assert day == third.first_at
        counts = await cleanup_plans.outcome_counts(held)
        assert {"done": 0, "cancelled": 0, "near_miss": 1} == counts
        assert 1 == await cleanup_plans.cancel_planned_of_others(held, policies=["b"], at=day)


async def test_equal_plan__is_not_stored_twice(pool: Pool) -> None:
    """A plan is found again by what it deletes, unless another came in between or it was rejected."""
    async with transaction(pool) as held:
        await in_force(held, file("propose"))
        await store_plan(held, "one")
        file_in_force = await policies_in_force.in_force(held)
        assert file_in_force is not None

        async def equal(content: bytes = b"c") -> str | None:
            return await cleanup_plans.equal_plan(
                held,
                policies_sha256=file_in_force.sha256,
                policies=["a"],
                content_sha256=content,
                since=file_in_force.since,
            )

        assert ("p1", None) == (await equal(), await equal(b"other"))
        plan = await cleanup_plans.find_plan(held, plan_id="p1")
        assert plan is not None
        await cleanup_plans.reject_plan(held, plan=plan, at=NOW, operator=ANN, reason=None)
        assert await equal() is None
        assert ["no_plan"] == await refusals(held, NOW)


async def test_holds__are_on_record_with_their_owners(pool: Pool) -> None:
    """A hold is listed until it is over or removed, and both are entries of the log."""
    async with transaction(pool) as held:
        common: dict[str, Any] = {
            "owner": "ann",
            "reason": "incident",
            "digest": None,
            "at": NOW,
            "operator": ANN,
        }
        one = await holds.add_hold(held, repository="team/app", tag="one", until=None, **common)
        await holds.add_hold(held, repository="team/app", tag=None, until=NOW + WEEK, **common)
        assert 2 == len(await holds.list_holds(held, now=NOW))
        assert [one] == await holds.list_holds(held, now=NOW + WEEK)
        assert one == await holds.remove_hold(held, hold_id=one.id, at=NOW, operator=ANN)
        assert await holds.remove_hold(held, hold_id=one.id, at=NOW, operator=ANN) is None
        entries = await held.fetch(
            "SELECT action::text, detail ->> 'hold' AS hold FROM audit_staged ORDER BY id"
        )
        assert [AuditAction.HOLD_ADDED, AuditAction.HOLD_ADDED, AuditAction.HOLD_REMOVED] == [
            row["action"] for row in entries
        ]
        assert one.id == entries[0]["hold"] == entries[2]["hold"]


async def test_in_use__a_set_is_replaced_unless_it_shrinks_by_more_than_half(pool: Pool) -> None:
    """What shrank too much protects beside what was before it, until it is confirmed or grows again."""

    async def report(number: int, *, confirm: bool = False, first: int = 0) -> in_use.Source:
        images = [("", d(str(each))) for each in range(first, first + number)]
        return await in_use.take_report(
            held, source="a", images=images, at=NOW, valid_until=NOW + WEEK, confirm=confirm
        )

    async def protected() -> int:
        (found,) = await in_use.reports(held)
        return len(found.digests)

    async with transaction(pool) as held:
        assert (10, None) == ((await report(10)).images, (await report(10)).suspected_at)
        assert (5, 5) == ((await report(5)).images, await protected())
        small = await report(2, first=100)
        assert (5, 2, NOW, 7) == (small.images, small.suspected_images, small.suspected_at, await protected())
        assert (5, 0) == ((await report(0)).images, (await report(0)).suspected_images)
        assert 5 == await protected()
        confirmed = await report(1, confirm=True, first=200)
        assert (1, None, 1) == (confirmed.images, confirmed.suspected_at, await protected())
        assert await in_use.names(held, repository="x/y", tag=None, digest=d("200"))
        assert not await in_use.names(held, repository="x/y", tag=None, digest=d("0"))
