"""Long work as rows with leases, each run in a child process that dies with its parent.

A crash of the child ends an attempt, not the service. A service that is killed leaves its lease to expire; whoever
takes the job next runs it again. Whoever lost a lease can say nothing any more: every word of a job is one transaction
that first holds its row under the lease.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import asyncpg
from opentelemetry.trace import Span, StatusCode

from schemas.events.base import Event
from shared import metrics, queries, telemetry
from shared.outbox import Work, unit_of_work
from shared.parent import Child, Crashed, open_child
from shared.postgres import AWAY

Payload = dict[str, Any]
QUERIES = queries.load(Path(__file__).with_name("jobs.sql"))
MIGRATIONS = Path(__file__).with_name("job_migrations")
MAX_LOSSES, MAX_CRASHES = 20, 3
_LEASE_SECONDS, _RENEW_SECONDS, _POLL_SECONDS, _BACK_OFF_SECONDS = 5.0, 1.0, 0.3, 0.5
log = logging.getLogger(__name__)
T = TypeVar("T")


class LeaseLost(Exception):
    """The job is somebody else's now, or was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job ended without a result: `crashed`, `timed_out`, `out_of_memory`, or what the child said."""

    reason: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """A leased job; `subject` is the model, `traceparent` the trace context that asked for it."""

    id: str
    kind: str
    subject: str
    request: Payload
    correlation_id: str
    causation_id: str | None
    traceparent: str | None
    losses: int
    crashes: int
    lease: uuid.UUID


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a service says of its jobs: pure functions from a job and the child's words to events."""

    progressed: Callable[[Job, Payload], Sequence[Event]]
    finished: Callable[[Job, Payload], Sequence[Event]]
    failed: Callable[[Job, Failure], Sequence[Event]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one service's jobs may use; an attempt has `timeout_seconds`, counted anew after a lost lease."""

    concurrency: int = 1
    timeout_seconds: float = 900.0
    memory_bytes: int = 4 * 2**30
    lease_seconds: float = _LEASE_SECONDS
    crash_back_off_seconds: float = 2.0


@dataclass(frozen=True)
class _Outcome:
    state: Literal["done", "failed"]
    reason: str | None
    events: Sequence[Event]


async def enqueue(work: Work, *, id: str, kind: str, subject: str, request: Payload) -> None:
    """Remember a job in the transaction of the event that asks for it; a known id is left as it is.

    Raises:
        ValueError: nothing caused this work.
    """
    if work.cause is None:
        raise ValueError(f"job {id}: expected an event that asks for it")
    caused = work.cause.correlation_id, work.cause.id, telemetry.current_traceparent()
    await work.connection.execute(QUERIES["enqueue"], id, kind, subject, request, *caused)


async def cancel(work: Work, id: str) -> bool:
    """End a job that is not over, within a second wherever it runs; whether there was one. The caller says why."""
    return await work.connection.fetchval(QUERIES["cancel"], id) is not None


@dataclass(kw_only=True)
class JobRunner:
    """Takes jobs that are due and runs each in a `python -m <module>` of its own, a bounded number at a time.

    `run` must be awaited in the main thread: a child dies with the thread that forked it.
    """

    pool: asyncpg.Pool
    service: str
    module: str
    words: Words
    limits: Limits = field(default_factory=Limits)

    async def run(self) -> None:
        """Until cancelled; jobs under way are then given back for the next runner."""
        async with asyncio.TaskGroup() as slots:
            for _ in range(self.limits.concurrency):
                slots.create_task(self._slot())

    async def _slot(self) -> None:
        """One job after another, each in a fresh child that has done its imports while it waited."""
        while True:
            async with open_child(self.module, self.limits.memory_bytes) as child:
                if job := await self._next(child):
                    await self.attempt(job, child)

    async def _next(self, child: Child) -> Job | None:
        """The next job that is due; None when the child ended while it waited, which is no job's fault."""
        while child.runs:
            if job := await _persistently(self._take):
                return job
            await asyncio.sleep(_POLL_SECONDS)
        log.error("a waiting child of %s ended; starting another: %s", self.module, await child.last_words())
        await asyncio.sleep(self.limits.crash_back_off_seconds)
        return None

    async def _take(self) -> Job | None:
        row = await self.pool.fetchrow(QUERIES["take"], uuid.uuid4(), self.limits.lease_seconds)
        return Job(**row) if row else None

    async def attempt(self, job: Job, child: Child) -> None:
        """Run a leased job once, in `child`, and say what came of it; a lost lease is left to whoever has it."""
        attributes: telemetry.Attributes = {
            "modelbus.run_id": job.id,
            "modelbus.attempt": job.losses + job.crashes + 1,
        }
        with telemetry.span(f"{job.kind} {job.subject}", parent=job.traceparent, attributes=attributes) as span:
            try:
                await self._under_lease(job, child, span)
            except LeaseLost:
                span.set_status(StatusCode.ERROR, "lease lost or job cancelled")
                log.warning("%s %s: lease lost or job cancelled", job.kind, job.id)
            except asyncio.CancelledError:
                await self._give_back(job)
                raise

    async def _under_lease(self, job: Job, child: Child, span: Span) -> None:
        """Work until there is an outcome or the lease is lost, whichever is first."""
        tasks = [asyncio.create_task(self._conclude(job, child, span)), asyncio.create_task(self._keep(job))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, job: Job) -> None:
        renew = (QUERIES["renew"], job.id, job.lease, self.limits.lease_seconds)
        while True:
            if await _persistently(lambda: self.pool.fetchval(*renew)) is None:
                raise LeaseLost(job.id)
            await asyncio.sleep(_RENEW_SECONDS)

    async def _conclude(self, job: Job, child: Child, span: Span) -> None:
        try:
            with metrics.JOB_ATTEMPT_SECONDS.labels(job.kind).time():
                outcome = await self._outcome(job, child)
        except Crashed as crash:
            span.set_status(StatusCode.ERROR, f"crashed: {crash}")
            log.warning("%s %s: attempt crashed: %s", job.kind, job.id, crash)
            delay = self.limits.crash_back_off_seconds * 4**job.crashes
            await _persistently(lambda: self.pool.execute(QUERIES["crash"], job.id, job.lease, delay))
            return
        if outcome.state == "failed":
            span.set_status(StatusCode.ERROR, outcome.reason)
        await _persistently(lambda: self._end(job, outcome))
        metrics.JOBS_ENDED.labels(job.kind, outcome.reason or outcome.state).inc()

    async def _outcome(self, job: Job, child: Child) -> _Outcome:
        """Have the child do it.

        Raises:
            Crashed: it died, and may be tried again.
        """
        if job.losses > MAX_LOSSES:
            lost = f"the service ended {job.losses} times while this ran"
            return self._failed(job, Failure(reason="crashed", explanation=lost))
        try:
            async with asyncio.timeout(self.limits.timeout_seconds):
                return await self._hear_out(job, child)
        except TimeoutError:
            late = f"expected an end within {self.limits.timeout_seconds:g} s"
            return self._failed(job, Failure(reason="timed_out", explanation=late))
        except Crashed as crash:
            if not crash.out_of_memory and job.crashes + 1 < MAX_CRASHES:
                raise
            reason = "out_of_memory" if crash.out_of_memory else "crashed"
            return self._failed(job, Failure(reason=reason, explanation=str(crash)))

    async def _hear_out(self, job: Job, child: Child) -> _Outcome:
        await child.ask(job.request)
        async for line in child.lines():
            if outcome := await self._hear(job, line):
                return outcome
        raise AssertionError("lines end with an outcome or Crashed")

    async def _hear(self, job: Job, line: Payload) -> _Outcome | None:
        match line:
            case {"result": result}:
                return _Outcome("done", None, self.words.finished(job, result))
            case {"failed": failed}:
                return self._failed(job, Failure(**failed))
            case {"progress": progress}:
                events = self.words.progressed(job, progress)
                await _persistently(lambda: self._say(job, events))
        return None

    def _failed(self, job: Job, failure: Failure) -> _Outcome:
        log.warning("%s %s failed: %s: %s", job.kind, job.id, failure.reason, failure.explanation)
        return _Outcome("failed", failure.reason, self.words.failed(job, failure))

    async def _say(self, job: Job, events: Sequence[Event]) -> None:
        """Under the trace context that is stored, as this attempt's own span may be lost with its process."""
        async with unit_of_work(self.pool, self.service) as work:
            if await work.connection.fetchval(QUERIES["hold"], job.id, job.lease) is None:
                raise LeaseLost(job.id)
            await _emit(work, job, events, job.traceparent)

    async def _end(self, job: Job, outcome: _Outcome) -> None:
        async with unit_of_work(self.pool, self.service) as work:
            ended = (job.id, job.lease, outcome.state, outcome.reason)
            if await work.connection.fetchval(QUERIES["end_job"], *ended) is None:
                raise LeaseLost(job.id)
            await _emit(work, job, outcome.events, telemetry.current_traceparent())

    async def _give_back(self, job: Job) -> None:
        with suppress(*AWAY, asyncpg.PostgresError):  # then the lease expires
            await self.pool.execute(QUERIES["release"], job.id, job.lease)


async def _emit(work: Work, job: Job, events: Sequence[Event], traceparent: str | None) -> None:
    for event in events:
        await work.emit(
            event, correlation_id=job.correlation_id, causation_id=job.causation_id, traceparent=traceparent
        )


async def _persistently(action: Callable[[], Awaitable[T]]) -> T:
    """Try until the database answers."""
    while True:
        try:
            return await action()
        except AWAY as error:
            log.warning("jobs: %r; trying again", error)
            await asyncio.sleep(_BACK_OFF_SECONDS)
