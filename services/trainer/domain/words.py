"""What the trainer says of its runs: from the child's words to events."""

from collections.abc import Sequence
from typing import Final, get_args

from schemas.events.base import Event
from schemas.events.trainer import ModelTrained, TrainingFailed, TrainingProgressed
from shared.jobs import Failure, Job, Words
from shared.parent import Payload

_REASONS: Final = get_args(TrainingFailed.model_fields["reason"].annotation)
_LONGEST_EXPLANATION = 4000  # characters; the end of a traceback says most


def progressed(job: Job, progress: Payload) -> Sequence[Event]:
    """A stage, or a trial of the search, is done."""
    return [TrainingProgressed.model_validate({"model": job.subject, "run_id": job.id} | progress)]


def finished(job: Job, result: Payload) -> Sequence[Event]:
    """There is a candidate."""
    return [ModelTrained.model_validate({"model": job.subject, "run_id": job.id} | result)]


def failed(job: Job, failure: Failure) -> Sequence[Event]:
    """There is none; a reason that the event does not know is a crash."""
    reason = failure.reason if failure.reason in _REASONS else "crashed"
    explanation = failure.explanation[-_LONGEST_EXPLANATION:]
    said = {"model": job.subject, "run_id": job.id, "reason": reason, "explanation": explanation}
    return [TrainingFailed.model_validate(said)]


WORDS: Final = Words(progressed=progressed, finished=finished, failed=failed)
