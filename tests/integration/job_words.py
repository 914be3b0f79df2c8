"""What the trainer would say of the test children's jobs, in the trainer's own events."""

from typing import Any

import asyncpg

from schemas.events.base import Event
from schemas.events.trainer import TrainingFailed, TrainingProgressed
from shared.jobs import Failure, Job, JobRunner, Limits, Words
from shared.parent import Payload


def _progressed(job: Job, progress: Payload) -> list[Event]:
    return [progress_of(job, "reading", progress["done"])]


def _finished(job: Job, result: Payload) -> list[Event]:
    return [progress_of(job, "exporting", result["answer"])]


def _failed(job: Job, failure: Failure) -> list[Event]:
    said: Any = failure.reason
    return [TrainingFailed(model=job.subject, run_id=job.id, reason=said, explanation=failure.explanation)]


def progress_of(job: Job, stage: Any, done: int) -> TrainingProgressed:
    return TrainingProgressed(model=job.subject, run_id=job.id, stage=stage, done=done, total=100)


def runner_of(pool: asyncpg.Pool, **limits: Any) -> JobRunner:
    """A runner of test children, impatient with crashes."""
    return JobRunner(
        pool=pool,
        service="trainer",
        module="tests.integration.job_children",
        words=Words(progressed=_progressed, finished=_finished, failed=_failed),
        limits=Limits(**({"crash_back_off_seconds": 0.01} | limits)),
    )
