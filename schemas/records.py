"""The records of the data plane, as published; the hot path reads and writes the same JSON (shared/records.py)."""

from typing import Literal

from pydantic import Field

from schemas.events.parts import Time
from schemas.specs import Part


class DataRecord(Part):
    """`data.<stream>`, key = entity: one event, with all the features its stream declares (null or absent: missing)."""

    id: str = Field(min_length=1, max_length=256)
    entity: str = Field(min_length=1, max_length=256)
    time: Time
    features: dict[str, float | str | bool | None]


class LabelRecord(Part):
    """`labels.<stream>`, key = entity: what came of the data event with the same id; `time` is when it was known."""

    id: str = Field(min_length=1, max_length=256)
    entity: str = Field(min_length=1, max_length=256)
    time: Time
    label: bool | float | str


class PredictionRecord(Part):
    """`predictions.<model>` and `shadow.<model>`, key = entity.

    `score` is the probability of true (binary), of the answered class (multiclass), or the value (regression);
    `partition` and `offset` say which input record was answered; `flags` say what was odd about it. Where the stream
    explores, `propensity` is the probability with which an event answered so gets a label, and the flag `explore` says
    that the lot fell on this one: act as if `label` were true. 1.1 added `propensity`.
    """

    id: str
    event_id: str
    entity: str
    model: str
    version: int
    arm: Literal["champion", "canary", "shadow"]
    revision: int
    partition: int
    offset: int
    score: float
    label: bool | str | None
    probabilities: dict[str, float] | None = None
    time: Time
    flags: tuple[str, ...] = ()
    propensity: float | None = Field(default=None, gt=0, le=1)


class CorrectionRecord(Part):
    """`corrections.<model>`, key = entity: one prediction that is withdrawn, in its own partition, and why.

    `partition` and `offset` say which input record the prediction answered, `revision` under which it was served;
    `withdrawn_by` is the revision of the rollout at which its version fell.
    """

    id: str
    prediction_id: str
    event_id: str
    entity: str
    model: str
    version: int
    arm: Literal["champion", "canary"]
    revision: int
    partition: int
    offset: int
    time: Time
    withdrawn_by: int
    reason: str
