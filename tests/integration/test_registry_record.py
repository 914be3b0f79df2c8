"""What the registry makes of what it hears, on a real Postgres."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from schemas.events.deployer import CorrectionsPublished, PredictionsWithdrawn, RolloutEnded, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import AlertRaised, AlertResolved, DataQuarantined, RolloutMeasured, WindowMeasured
from schemas.events.registry import ApprovalRequested, ModelApproved, ModelRefused, ModelRegistered
from schemas.events.trainer import TrainingFailed, TrainingProgressed
from services.registry.acts import Acts, NotDeclared, Word
from services.registry.app import MIGRATIONS
from services.registry.chain import Chain
from services.registry.domain.audit import Break
from services.registry.domain.stages import NotAwaited
from services.registry.reading import Reading
from services.registry.store import WINDOWS_KEPT, Store
from shared.errors import TooEarly
from tests.conftest import PoolFor
from tests.contract.examples import example
from tests.integration.registry_kit import (
    NOW,
    NOWHERE,
    STREAM,
    TRACE,
    changed,
    declare,
    heads,
    hear,
    model,
    rejected,
    requested,
    said,
    trained,
    validated,
)

ANN = Word(actor="approver:ann", reason="looks good")
BOB = Word(actor="approver:bob", reason="agreed")


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model())
    return pool


def acts(pool: asyncpg.Pool) -> Acts:
    return Acts(pool=pool, kafka=NOWHERE)


async def register(pool: asyncpg.Pool, run_id: str) -> None:
    await hear(pool, trained(run_id), run_id=run_id)
    await hear(pool, validated(run_id), run_id=run_id)


async def stage(pool: asyncpg.Pool, version: int) -> str:
    return (await Reading(pool).version("flood", version)).stage


async def test_versions_are_numbered_in_the_order_runs_are_first_seen_rejected_ones_too(pool: asyncpg.Pool) -> None:
    await hear(pool, trained("a"))
    await hear(pool, rejected("b"))
    await hear(pool, validated("c"))
    await hear(pool, rejected("a"))
    await hear(pool, trained("b"))

    page = await Reading(pool).versions("flood", None, 10)

    found = [(each.version, each.run_id, each.stage) for each in page.items]
    assert found == [(3, "c", "registered"), (2, "b", "rejected"), (1, "a", "rejected")]


async def test_numbers_are_without_gap_or_double_when_runs_arrive_at_once(pool: asyncpg.Pool) -> None:
    runs = [f"run-{number}" for number in range(12)]

    await asyncio.gather(*(hear(pool, make(run)) for run in runs for make in (trained, validated)))

    page = await Reading(pool).versions("flood", None, 100)
    assert sorted(each.version for each in page.items) == list(range(1, 13))
    assert {each.run_id for each in page.items} == set(runs)
    registered = [each.event for each in await said(pool)]
    assert sorted(event.version for event in registered if isinstance(event, ModelRegistered)) == list(range(1, 13))
    assert await broken_at(pool) is None


async def test_an_event_heard_twice_and_a_second_verdict_change_nothing(pool: asyncpg.Pool) -> None:
    await hear(pool, validated("a"), id="same")
    await hear(pool, validated("a"), id="same")
    await hear(pool, rejected("a"), id="another")

    assert await stage(pool, 1) == "registered"
    assert len(await said(pool)) == 1


async def test_a_registered_version_goes_on_in_its_lifecycle(pool: asyncpg.Pool) -> None:
    event_id = await hear(pool, validated("a"), run_id="a")

    (registered,) = await said(pool)

    assert isinstance(registered.event, ModelRegistered)
    assert registered.event.approval == "none"
    assert (registered.correlation_id, registered.causation_id) == ("a", event_id)
    traceparent = await pool.fetchval("SELECT traceparent FROM outbox")
    assert traceparent.split("-")[1] == TRACE
    assert (await Reading(pool).version("flood", 1)).trace_id == TRACE


async def test_a_model_that_is_not_declared_yet_is_waited_for(pool_for: PoolFor) -> None:
    pool = await pool_for("registry", [MIGRATIONS])

    with pytest.raises(TooEarly):
        await hear(pool, trained("a"))

    await declare(pool, STREAM, model())
    await hear(pool, trained("a"))
    assert await stage(pool, 1) == "trained"


async def test_a_run_is_told_whole_whatever_order_its_facts_come_in(pool: asyncpg.Pool) -> None:
    progress = TrainingProgressed(model="flood", run_id="a", stage="searching", done=3, total=12, best_score=0.8)
    later = NOW + timedelta(seconds=9)
    await hear(pool, validated("a"), at=later)
    await hear(pool, trained("a"))
    await hear(pool, progress)
    await hear(pool, requested("a"))

    (run,) = (await Reading(pool).runs("flood", None, 10)).items

    assert (run.state, run.version, run.reason, run.stage) == ("registered", 1, "first", "searching")
    assert (run.requested_at, run.finished_at, run.fit_seconds) == (NOW, later, 2.5)
    assert run.cut_time == requested("a").cut.time
    assert run.trace_id == TRACE


async def test_a_failed_run_takes_no_number(pool: asyncpg.Pool) -> None:
    failed = TrainingFailed(model="flood", run_id="a", reason="crashed", explanation="signal 9")
    await hear(pool, requested("a"))
    await hear(pool, failed)
    await hear(pool, trained("b"))

    runs = (await Reading(pool).runs("flood", None, 10)).items

    assert [(run.state, run.failure, run.version) for run in runs] == [
        ("trained", None, 1),
        ("failed", "crashed", None),
    ]


async def test_a_version_that_needs_approval_waits_and_then_goes_out(pool: asyncpg.Pool) -> None:
    await declare(pool, model(rollout={"approval": "required", "expires": "36500d"}))
    await register(pool, "a")
    registered, asked = [each.event for each in await said(pool)]
    assert isinstance(registered, ModelRegistered)
    assert isinstance(asked, ApprovalRequested)
    assert asked.expires_at == NOW + timedelta(days=36500)
    assert await stage(pool, 1) == "awaiting_approval"

    await acts(pool).approve("flood", 1, ANN)

    approved = (await said(pool))[-1]
    assert isinstance(approved.event, ModelApproved)
    assert approved.event.actors == ("approver:ann",)
    assert approved.event.release == registered.release
    assert approved.correlation_id == "a"
    assert (await pool.fetchval("SELECT traceparent FROM outbox ORDER BY position DESC")).split("-")[1] == TRACE
    assert await stage(pool, 1) == "approved"
    with pytest.raises(NotAwaited):
        await acts(pool).approve("flood", 1, BOB)


async def test_four_eyes_are_two_people_not_one_twice(pool: asyncpg.Pool) -> None:
    await declare(pool, model(rollout={"approval": "four_eyes", "expires": "36500d"}))
    await register(pool, "a")

    await acts(pool).approve("flood", 1, ANN)
    await acts(pool).approve("flood", 1, ANN)
    assert await stage(pool, 1) == "awaiting_approval"
    await acts(pool).approve("flood", 1, BOB)

    assert await stage(pool, 1) == "approved"
    approved = [each.event for each in await said(pool) if isinstance(each.event, ModelApproved)]
    assert [event.actors for event in approved] == [("approver:ann", "approver:bob")]


async def test_of_approvals_given_at_once_one_is_said(pool: asyncpg.Pool) -> None:
    await declare(pool, model(rollout={"approval": "required", "expires": "36500d"}))
    await register(pool, "a")

    outcomes = await asyncio.gather(
        *(acts(pool).approve("flood", 1, word) for word in (ANN, BOB)), return_exceptions=True
    )

    assert sorted(type(each).__name__ for each in outcomes) == ["NoneType", "NotAwaited"]
    assert sum(isinstance(each.event, ModelApproved) for each in await said(pool)) == 1


async def test_a_refused_version_stays_refused(pool: asyncpg.Pool) -> None:
    await declare(pool, model(rollout={"approval": "required", "expires": "36500d"}))
    await register(pool, "a")

    await acts(pool).refuse("flood", 1, ANN)

    assert isinstance((await said(pool))[-1].event, ModelRefused)
    with pytest.raises(NotAwaited):
        await acts(pool).approve("flood", 1, BOB)


async def test_what_nobody_answers_in_time_is_refused_by_the_clock(pool: asyncpg.Pool) -> None:
    await declare(pool, model(rollout={"approval": "required", "expires": "1s"}))
    await register(pool, "a")
    with pytest.raises(NotAwaited, match="expired"):
        await acts(pool).approve("flood", 1, ANN)

    assert await acts(pool).refuse_expired() == 1

    refused = (await said(pool))[-1].event
    assert isinstance(refused, ModelRefused)
    assert refused.actor == "registry"
    assert await acts(pool).refuse_expired() == 0


async def test_retiring_needs_a_version_that_does_not_serve(pool: asyncpg.Pool) -> None:
    await register(pool, "a")
    await register(pool, "b")
    await hear(pool, changed(1, "serving", 1))

    with pytest.raises(NotAwaited, match="champion"):
        await acts(pool).retire("flood", 1, ANN)
    await acts(pool).retire("flood", 2, ANN)

    assert await stage(pool, 2) == "retired"
    with pytest.raises(NotDeclared):
        await acts(pool).retire("flood", 9, ANN)


async def test_orders_need_something_to_order(pool: asyncpg.Pool) -> None:
    with pytest.raises(NotAwaited, match="no champion"):
        await acts(pool).order("flood", "rollback", ANN)
    with pytest.raises(NotAwaited, match="no challenger"):
        await acts(pool).order("flood", "promote", ANN)
    with pytest.raises(NotDeclared):
        await acts(pool).train("drought", ANN)
    assert await said(pool) == []

    event_id = await acts(pool).order("flood", "freeze", ANN)

    assert [each.id for each in await said(pool)] == [event_id]


async def test_a_rollback_needs_a_champion_to_go_back_to(pool: asyncpg.Pool) -> None:
    for run in ("a", "b"):
        await register(pool, run)
    await hear(pool, changed(1, "serving", 1))
    with pytest.raises(NotAwaited, match="no former champion to bring back in the place of version 1"):
        await acts(pool).order("flood", "rollback", ANN)

    await hear(pool, changed(2, "serving", 2))
    await acts(pool).order("flood", "rollback", ANN)
    await hear(pool, changed(3, "serving", 1))

    with pytest.raises(NotAwaited, match="no former champion to bring back in the place of version 1"):
        await acts(pool).order("flood", "rollback", ANN)


async def test_a_rollout_is_told_step_by_step_to_its_end(pool: asyncpg.Pool) -> None:
    for run in ("a", "b"):
        await register(pool, run)
    await hear(pool, changed(1, "serving", 1))
    await hear(pool, changed(2, "shadow", 1, 2))
    await hear(pool, changed(3, "canary", 1, 2, share=0.25))
    await hear(pool, RolloutSwitched(model="flood", stream="rivers", partition=0, offset=77, revision=3))
    await hear(pool, changed(2, "shadow", 1, 2))
    await hear(pool, changed(4, "serving", 2))
    await hear(pool, RolloutEnded(model="flood", revision=4, version=2, outcome="promoted", reason="better"))

    second, first = (await Reading(pool).rollouts("flood", None, 10)).items

    assert (first.version, first.outcome, [step.revision for step in first.steps]) == (1, "promoted", [1])
    assert (second.version, second.outcome, second.reason) == (2, "promoted", "better")
    assert [(step.revision, step.phase, step.share) for step in second.steps] == [
        (2, "shadow", 0),
        (3, "canary", 0.25),
        (4, "serving", 0),
    ]
    assert second.steps[1].switched == {0: 77}
    version = await Reading(pool).version("flood", 2)
    stages = [each.stage for each in version.stages]
    assert stages == ["trained", "registered", "shadow", "canary", "champion"]
    assert await stage(pool, 1) == "archived"
    serving = (await Reading(pool).model("flood")).serving
    assert (serving.champion, serving.challenger, serving.phase) == (2, None, "serving")


async def test_a_champion_that_is_rolled_back_gives_way_to_the_one_before(pool: asyncpg.Pool) -> None:
    for run in ("a", "b"):
        await register(pool, run)
    await hear(pool, changed(1, "serving", 1))
    await hear(pool, changed(2, "canary", 1, 2))
    await hear(pool, changed(3, "serving", 2))
    await hear(pool, RolloutEnded(model="flood", revision=3, version=2, outcome="promoted", reason="better"))

    await hear(pool, changed(4, "serving", 1))
    await hear(pool, RolloutEnded(model="flood", revision=4, version=2, outcome="rolled_back", reason="ordered"))
    withdrawn = PredictionsWithdrawn(model="flood", version=2, from_revision=2, until_revision=4, cause="ordered")
    await hear(pool, withdrawn)

    latest = (await Reading(pool).rollouts("flood", None, 10)).items[0]
    assert (latest.version, latest.outcome, latest.steps[-1].champion) == (2, "rolled_back", 1)
    assert latest.withdrawn == withdrawn.model_dump(mode="json")
    await hear(pool, CorrectionsPublished(model="flood", version=2, revision=4, count=7, partitions={0: 7}))
    corrected = (await Reading(pool).rollouts("flood", None, 10)).items[0]
    assert corrected.withdrawn == {**withdrawn.model_dump(mode="json"), "corrections": 7, "revision": 4}
    assert (await stage(pool, 1), await stage(pool, 2)) == ("champion", "rolled_back")


async def test_only_the_latest_evidence_about_a_challenger_is_kept(pool: asyncpg.Pool) -> None:
    for run in ("a", "b"):
        await register(pool, run)
    await hear(pool, changed(1, "serving", 1))
    await hear(pool, changed(2, "shadow", 1, 2))
    made = RolloutMeasured.model_validate(example(RolloutMeasured.model_json_schema()))
    newer = made.model_copy(update={"model": "flood", "revision": 2, "challenger": 2, "measured_at": NOW})
    older = newer.model_copy(update={"measured_at": NOW - timedelta(hours=1)})

    await hear(pool, newer)
    await hear(pool, older)

    (latest, _) = (await Reading(pool).rollouts("flood", None, 10)).items
    assert latest.evidence == newer


async def test_windows_are_kept_up_to_a_bound_newest_first(pool: asyncpg.Pool) -> None:
    made = WindowMeasured.model_validate(example(WindowMeasured.model_json_schema()))
    async with pool.acquire() as connection, connection.transaction():
        for number in range(WINDOWS_KEPT + 3):
            window = made.model_copy(update={"model": "flood", "version": 1, "window": number})
            await Store(connection).add_window(window)

    page = await Reading(pool).windows("flood", None, 2)

    assert [window.window for window in page.items] == [WINDOWS_KEPT + 2, WINDOWS_KEPT + 1]
    assert await pool.fetchval("SELECT count(*) FROM quality_window") == WINDOWS_KEPT
    behind = await Reading(pool).windows("flood", int(page.next or 0), 2)
    assert [window.window for window in behind.items] == [WINDOWS_KEPT, WINDOWS_KEPT - 1]


async def test_an_alert_holds_until_it_is_resolved(pool: asyncpg.Pool) -> None:
    made = AlertRaised.model_validate(example(AlertRaised.model_json_schema()))
    alert = made.model_copy(update={"model": "flood", "alert": "flood/drift/1"})
    await hear(pool, alert)
    assert [each.alert for each in (await Reading(pool).status(NOW)).models[0].open_alerts] == ["flood/drift/1"]

    await hear(pool, AlertResolved(model="flood", alert="flood/drift/1", explanation="over", resolved_at=NOW))

    (resolved,) = (await Reading(pool).alerts("flood", None, 10)).items
    assert (resolved.resolved_at, resolved.resolution) == (NOW, "over")
    assert (await Reading(pool).status(NOW)).models[0].open_alerts == []


async def test_a_table_stands_at_its_latest_version_and_counts_all_that_was_rejected(pool: asyncpg.Pool) -> None:
    made = DatasetCommitted.model_validate(example(DatasetCommitted.model_json_schema()))
    for version, rejected_rows, total in ((1, 2, 10), (3, 1, 30), (2, 4, 20)):
        commit = {"version": version, "rejected": rejected_rows, "rows_total": total, "offsets": {0: total}}
        await hear(pool, made.model_copy(update=commit))

    (table,) = (await Reading(pool).tables("", 10)).items

    assert (table.version, table.rows_total, table.offsets) == (3, 30, {0: 30})
    assert (table.commits, table.rejected_total) == (3, 7)


async def test_every_change_is_in_the_audit_log_which_is_chained_and_append_only(pool: asyncpg.Pool) -> None:
    event_id = await hear(pool, validated("a"))
    made = DataQuarantined.model_validate(example(DataQuarantined.model_json_schema()))
    await hear(pool, made.model_copy(update={"stream": "rivers"}))
    await acts(pool).train("flood", ANN)

    rows = (await Reading(pool).audit(0, 10)).items

    assert [(row.position, row.actor, row.action, row.subject) for row in rows] == [
        (1, "validator", "model.validated", "flood:1"),
        (2, "monitor", "data.quarantined", "stream rivers"),
        (3, "approver:ann", "train", "model flood"),
    ]
    assert rows[0].event_id == event_id
    assert [row.position for row in (await Reading(pool).audit(2, 10)).items] == [3]
    assert await broken_at(pool) is None
    for change in ("UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await pool.execute(change)


async def broken_at(pool: asyncpg.Pool) -> Break | None:
    """Where the chain breaks, held against the heads that stand in the outbox."""
    return (await Chain(pool=pool, kafka=NOWHERE).verify_against(await heads(pool))).broken
