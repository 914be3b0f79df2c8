"""What a fallen version answered is withdrawn, prediction by prediction."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from schemas.events.deployer import PredictionsWithdrawn
from schemas.specs import Part
from services.deployer.domain.entrant import Entrant
from shared.records import Prediction


class Correction(Struct, gc=False):
    """What is written; the fields of schemas.records.CorrectionRecord."""

    id: str
    prediction_id: str
    event_id: str
    entity: str
    model: str
    version: int
    arm: Literal["champion", "canary", "shadow"]
    revision: int
    partition: int
    offset: int
    time: datetime
    withdrawn_by: int
    reason: str


class Withdrawal(Part):
    """A version that fell at `revision`, what it answered until then, and the lifecycle in which that is said."""

    model: str
    version: int
    revision: int
    from_revision: int
    until_revision: int
    partitions: int
    reason: str
    correlation_id: str
    traceparent: str | None

    @classmethod
    def said(cls, event: PredictionsWithdrawn, about: Entrant) -> "Withdrawal":
        return cls(
            **event.model_dump(exclude={"cause"}),
            revision=event.until_revision + 1,
            partitions=about.release.candidate.stream_spec.partitions,
            reason=event.cause,
            correlation_id=about.correlation_id,
            traceparent=about.traceparent,
        )

    @property
    def event_id(self) -> str:
        """Of the event that says it; it causes the corrections."""
        return f"withdrawn/{self.model}/{self.revision}"

    def covers(self, prediction: Prediction) -> bool:
        return prediction.version == self.version and self.from_revision <= prediction.revision <= self.until_revision

    def correction_of(self, prediction: Prediction) -> Correction:
        return Correction(
            id=f"{prediction.id}/{prediction.partition}/{prediction.offset}/withdrawn",
            prediction_id=prediction.id,
            event_id=prediction.event_id,
            entity=prediction.entity,
            model=prediction.model,
            version=prediction.version,
            arm=prediction.arm,
            revision=prediction.revision,
            partition=prediction.partition,
            offset=prediction.offset,
            time=prediction.time,
            withdrawn_by=self.revision,
            reason=self.reason,
        )
