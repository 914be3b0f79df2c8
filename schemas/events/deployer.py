"""What the deployer says: the rollout decides, the scorers say where each switch took hold."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event
from schemas.events.parts import Release
from schemas.specs import Part, StreamSpec

Arm = Literal["champion", "challenger"]


class RolloutChanged(Event, event="rollout.changed", version=(1, 3), key="model"):
    """The whole truth about who serves a model from this revision on; readers take the highest revision."""

    model: str
    stream_spec: StreamSpec
    revision: int = Field(ge=1)
    phase: Literal["serving", "shadow", "canary"]
    champion: Release
    challenger: Release | None
    share: float = Field(ge=0, le=1)
    salt: str
    step: int = Field(ge=0)
    frozen: bool = False
    reason: str


class RolloutSwitched(Event, event="rollout.switched", key="model"):
    """From this input offset on the partition is served under this revision; written in the scorers' transaction."""

    model: str
    stream: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    revision: int = Field(ge=1)


class RolloutEnded(Event, event="rollout.ended", key="model"):
    """A challenger's rollout is over."""

    model: str
    revision: int = Field(ge=1)
    version: int = Field(ge=1)
    outcome: Literal["promoted", "rolled_back", "replaced"]
    reason: str


class PredictionsWithdrawn(Event, event="predictions.withdrawn", key="model"):
    """The blast radius of a version that was rolled back: what it served, to be taken as withdrawn."""

    model: str
    version: int = Field(ge=1)
    from_revision: int = Field(ge=1)
    until_revision: int = Field(ge=1)
    cause: str


class CorrectionsPublished(Event, event="corrections.published", key="model"):
    """Every prediction that was withdrawn has its record in `corrections.<model>`: so many, by partition."""

    model: str
    version: int = Field(ge=1)
    revision: int = Field(ge=1)  # at which the version fell
    count: int = Field(ge=0)
    partitions: dict[int, int]


class LoadFailed(Event, event="load.failed", version=(1, 1), key="model"):
    """A scorer could not load or verify a version; the old one goes on. 1.1 added `cause`.

    `integrity`: what lies in the store or was said of the version is not what the validator signed.
    """

    model: str
    version: int = Field(ge=1)
    revision: int = Field(ge=1)
    explanation: str
    cause: Literal["unloadable", "integrity"] = "unloadable"


class Scoring(Part):
    """Batches that both arms answered, as a scorer saw it: sums, of which those of other scorers are the rest.

    A batch is slow when the challenger took too long beside the champion; `unanswered` records had no finite score;
    `seconds` are those from a batch's matrix to its answers.
    """

    batches: int = Field(default=0, ge=0)
    slow_batches: int = Field(default=0, ge=0)
    records: int = Field(default=0, ge=0)
    unanswered: dict[Arm, int] = {}
    seconds: dict[Arm, float] = {}

    def plus(self, other: "Scoring") -> "Scoring":
        """Of both."""
        arms = sorted({*self.unanswered, *other.unanswered, *self.seconds, *other.seconds})
        return Scoring(
            batches=self.batches + other.batches,
            slow_batches=self.slow_batches + other.slow_batches,
            records=self.records + other.records,
            unanswered={arm: self.unanswered.get(arm, 0) + other.unanswered.get(arm, 0) for arm in arms},
            seconds={arm: self.seconds.get(arm, 0.0) + other.seconds.get(arm, 0.0) for arm in arms},
        )


class ScoringMeasured(Event, event="scoring.measured", key="model"):
    """What a scorer has committed under a revision with a challenger since it last said so."""

    model: str
    revision: int = Field(ge=1)
    champion: int = Field(ge=1)
    challenger: int = Field(ge=1)
    scoring: Scoring
