"""Jobs on real Postgres with real child processes: crashes, kills, time-outs, lost leases."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from schemas.envelope import Envelope
from schemas.events.trainer import TrainingFailed
from shared import jobs, telemetry
from shared.jobs import Job, JobRunner, LeaseLost, cancel, enqueue
from shared.outbox import unit_of_work
from shared.parent import open_child
from shared.settings import PostgresSettings
from tests.conftest import PoolFor
from tests.integration.job_words import runner_of

CAUSE = Envelope(
    id="the-cause",
    source="modelbus/monitor",
    time=datetime(2013, 1, 1, tzinfo=UTC),
    correlation_id="the-lifecycle",
    causation_id=None,
    traceparent=None,
    event=TrainingFailed(model="m", run_id="r", reason="crashed", explanation="any event"),
)


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    return await pool_for("jobs_test", [jobs.MIGRATIONS])


async def ask(pool: asyncpg.Pool, mark: Path, behave: str, **request: Any) -> str:
    run_id = f"{behave}-{uuid.uuid4()}"
    async with unit_of_work(pool, "trainer", CAUSE) as work:
        request |= {"behave": behave, "mark": str(mark), "value": 21}
        await enqueue(work, id=run_id, kind="train", subject="m", request=request)
    return run_id


@asynccontextmanager
async def running(runner: JobRunner) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


async def attempt(runner: JobRunner, job: Job) -> None:
    async with open_child(runner.module, runner.limits.memory_bytes) as child:
        await runner.attempt(job, child)


async def row_of(pool: asyncpg.Pool, run_id: str) -> asyncpg.Record:
    return await pool.fetchrow("SELECT * FROM job WHERE id = $1", run_id)


async def until_over(pool: asyncpg.Pool, run_id: str) -> asyncpg.Record:
    async def over() -> bool:
        return (await row_of(pool, run_id))["state"] in {"done", "failed"}

    await until(over)
    return await row_of(pool, run_id)


async def said(pool: asyncpg.Pool) -> list[tuple[dict[str, str], str]]:
    """Headers and value of what stands in the outbox, in order."""
    rows = await pool.fetch("SELECT headers, value FROM outbox ORDER BY position")
    return [(dict(row["headers"]), row["value"].decode()) for row in rows]


def pids(mark: Path) -> list[int]:
    return [int(line) for line in mark.read_text().splitlines()] if mark.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter where it goes between open and read
        return False


async def first_ended(mark: Path) -> None:
    """A killed process is there for a moment yet."""

    async def gone() -> bool:
        return not is_alive(pids(mark)[0])

    await until(gone, seconds=5)


async def children_of_this_process() -> list[int]:
    """The test children, once there are any."""

    def found() -> list[int]:
        told = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return [int(pid) for pid in told if b"job_children" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    async def there() -> bool:
        return bool(found())

    await until(there)
    return found()


async def started(mark: Path, count: int = 1) -> None:
    async def there() -> bool:
        return len(pids(mark)) >= count

    await until(there)


async def test_a_job_is_run_and_its_progress_and_result_are_said_of_its_lifecycle(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    run_id = await ask(pool, tmp_path / "mark", "work")

    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)

    events = await said(pool)
    assert (row["state"], row["crashes"], row["losses"]) == ("done", 0, 0)
    assert ['"stage":"reading","done":1' in events[0][1], '"stage":"exporting","done":42' in events[1][1]] == [True] * 2
    assert {headers["ce_correlationid"] for headers, _ in events} == {"the-lifecycle"}
    assert {headers["ce_causationid"] for headers, _ in events} == {"the-cause"}


async def test_a_child_killed_while_it_waits_for_a_job_costs_no_job_an_attempt(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    async with running(runner_of(pool)):
        [waiting] = await children_of_this_process()
        os.kill(waiting, signal.SIGKILL)
        run_id = await ask(pool, tmp_path / "mark", "work")
        row = await until_over(pool, run_id)

    assert (row["state"], row["crashes"], waiting in pids(tmp_path / "mark")) == ("done", 0, False)


async def test_the_same_run_asked_for_twice_is_one_job(pool: asyncpg.Pool, tmp_path: Path) -> None:
    for value in (1, 2):
        async with unit_of_work(pool, "trainer", CAUSE) as work:
            await enqueue(work, id="one", kind="train", subject="m", request={"value": value})

    assert await pool.fetch("SELECT id, request FROM job") == [("one", {"value": 1})]


async def test_the_span_of_a_job_has_the_asking_span_as_its_parent(
    pool: asyncpg.Pool, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    with telemetry.span("process training.requested"):
        run_id = await ask(pool, tmp_path / "mark", "work")

    async with running(runner_of(pool)):
        await until_over(pool, run_id)

    found = {span.name: span for span in spans.get_finished_spans()}
    asked, trained = found["process training.requested"], found["train m"]
    assert trained.parent is not None
    assert trained.parent.span_id == asked.context.span_id
    finished = (await pool.fetch("SELECT traceparent FROM outbox ORDER BY position"))[-1]["traceparent"]
    assert f"{trained.context.span_id:016x}" in finished


async def test_a_refusal_of_the_child_ends_the_job_with_its_reason_at_once(pool: asyncpg.Pool, tmp_path: Path) -> None:
    run_id = await ask(pool, tmp_path / "mark", "refuse")

    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)

    assert (row["state"], row["reason"], len(pids(tmp_path / "mark"))) == ("failed", "insufficient_data", 1)
    assert "expected 100 rows, got 3" in (await said(pool))[-1][1]


@pytest.mark.parametrize(("behave", "word"), [("crash", "signal 11"), ("raise", "ValueError: a bug in the child")])
async def test_a_child_that_crashes_again_and_again_ends_the_job_and_not_the_runner(
    pool: asyncpg.Pool, tmp_path: Path, behave: str, word: str
) -> None:
    run_id = await ask(pool, tmp_path / "mark", behave)

    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)
        other = await until_over(pool, await ask(pool, tmp_path / "other", "work"))

    assert (row["state"], row["reason"], len(pids(tmp_path / "mark"))) == ("failed", "crashed", jobs.MAX_CRASHES)
    assert word in next(value for headers, value in await said(pool) if "training.failed" in headers["ce_type"])
    assert other["state"] == "done"


async def test_a_child_that_crashes_once_is_run_again(pool: asyncpg.Pool, tmp_path: Path) -> None:
    run_id = await ask(pool, tmp_path / "mark", "crash_once")

    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)

    assert (row["state"], row["crashes"]) == ("done", 1)


async def test_a_child_that_needs_too_much_memory_ends_the_job_as_out_of_memory(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    run_id = await ask(pool, tmp_path / "mark", "devour")

    async with running(runner_of(pool, memory_bytes=256 * 2**20)):
        row = await until_over(pool, run_id)

    assert (row["state"], row["reason"], len(pids(tmp_path / "mark"))) == ("failed", "out_of_memory", 1)


async def test_a_child_that_hangs_is_killed_at_its_time_out(pool: asyncpg.Pool, tmp_path: Path) -> None:
    run_id = await ask(pool, tmp_path / "mark", "hang")

    async with running(runner_of(pool, timeout_seconds=1.0)):
        row = await until_over(pool, run_id)

    assert (row["state"], row["reason"]) == ("failed", "timed_out")
    await first_ended(tmp_path / "mark")


async def test_a_runner_that_is_stopped_kills_the_child_and_gives_the_job_back(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    run_id = await ask(pool, tmp_path / "mark", "hang_once")

    async with running(runner_of(pool)):
        await started(tmp_path / "mark")
    given_back = await row_of(pool, run_id)
    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)

    assert (given_back["state"], given_back["losses"]) == ("waiting", 0)
    assert row["state"] == "done"
    await first_ended(tmp_path / "mark")


async def test_a_signal_to_the_terminals_processes_does_not_reach_the_child(pool: asyncpg.Pool, tmp_path: Path) -> None:
    await ask(pool, tmp_path / "mark", "hang")

    async with running(runner_of(pool)):
        await started(tmp_path / "mark")
        group = os.getpgid(pids(tmp_path / "mark")[0])

    assert group != os.getpgrp()


async def test_a_cancelled_job_is_stopped_within_a_renewal_and_says_no_more(pool: asyncpg.Pool, tmp_path: Path) -> None:
    run_id = await ask(pool, tmp_path / "mark", "hang")

    async with running(runner_of(pool)):
        await started(tmp_path / "mark")
        async with unit_of_work(pool, "trainer", CAUSE) as work:
            assert await cancel(work, run_id)

        await first_ended(tmp_path / "mark")

    row = await row_of(pool, run_id)
    assert (row["state"], row["reason"]) == ("failed", "cancelled")
    assert all("training.progressed" in headers["ce_type"] for headers, _ in await said(pool))


async def test_a_service_that_is_killed_takes_its_child_along_and_the_job_runs_again(
    pool: asyncpg.Pool, database: PostgresSettings, tmp_path: Path
) -> None:
    run_id = await ask(pool, tmp_path / "mark", "hang_once")
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.job_service", "jobs_test"),
        env=os.environ | {"MODELBUS_POSTGRES_DSN": database.dsn.get_secret_value()},
    )
    await started(tmp_path / "mark")

    os.kill(service.pid, signal.SIGKILL)
    await service.wait()

    await first_ended(tmp_path / "mark")
    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)
    assert (row["state"], row["losses"], row["crashes"]) == ("done", 1, 0)


async def test_a_job_whose_service_is_lost_too_often_fails(pool: asyncpg.Pool, tmp_path: Path) -> None:
    run_id = await ask(pool, tmp_path / "mark", "work")
    lost = "UPDATE job SET state = 'running', lease_until = now(), losses = $1"
    await pool.execute(lost, jobs.MAX_LOSSES)

    async with running(runner_of(pool)):
        row = await until_over(pool, run_id)

    assert (row["state"], row["reason"], pids(tmp_path / "mark")) == ("failed", "crashed", [])


async def test_who_lost_the_lease_can_say_nothing(pool: asyncpg.Pool, tmp_path: Path) -> None:
    run_id = await ask(pool, tmp_path / "mark", "work")
    zombie, heir = runner_of(pool, lease_seconds=0.0), runner_of(pool)
    old = await zombie._take()
    new = await heir._take()
    assert old
    assert new

    await attempt(zombie, old)

    assert (await said(pool), (await row_of(pool, run_id))["state"]) == ([], "running")
    with pytest.raises(LeaseLost):
        await zombie._say(old, [])
    await attempt(heir, new)
    assert (await row_of(pool, run_id))["state"] == "done"


async def test_no_more_jobs_run_at_once_than_the_limit_says(pool: asyncpg.Pool, tmp_path: Path) -> None:
    marks = [tmp_path / str(number) for number in range(3)]
    for mark in marks:
        await ask(pool, mark, "hang")

    async with running(runner_of(pool, concurrency=2)):
        await asyncio.gather(started(marks[0]), started(marks[1]))
        states = [row["state"] for row in await pool.fetch("SELECT state FROM job ORDER BY created_at")]

    assert states == ["running", "running", "waiting"]
