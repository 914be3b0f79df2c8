"""What the trainer says."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event
from schemas.events.parts import Candidate


class TrainingProgressed(Event, event="training.progressed", version=(1, 1), key="model"):
    """A run moved on. 1.1 added `best_score`."""

    model: str
    run_id: str
    stage: Literal["reading", "searching", "calibrating", "exporting"]
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    best_score: float | None = None


class ModelTrained(Event, event="model.trained", version=(1, 2), key="model"):
    """A run produced a candidate."""

    model: str
    run_id: str
    candidate: Candidate
    fit_seconds: float = Field(ge=0)
    run_seconds: float = Field(ge=0)


class TrainingFailed(Event, event="training.failed", key="model"):
    """A run ended without a candidate."""

    model: str
    run_id: str
    reason: Literal["insufficient_data", "crashed", "timed_out", "out_of_memory", "cancelled", "invalid"]
    explanation: str
