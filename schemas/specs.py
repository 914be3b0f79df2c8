"""What a team declares: a stream of events and the models that live on it. Durations are event time."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.durations import Duration, Share

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
MAX_CATEGORY_BYTES = 150_000
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A frozen value inside a spec or an event; unknown fields are refused when it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FloatFeature(Part):
    """A number. Outside [min, max] it is scored and flagged, or the record is rejected."""

    type: Literal["float"]
    min: Finite | None = None
    max: Finite | None = None
    on_range: Literal["flag", "reject"] = "flag"
    required: bool = False

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"expected min < max, got min {self.min:g} and max {self.max:g}")
        return self


class CategoryFeature(Part):
    """One of the declared values. An unseen one is scored as missing and flagged, or the record is rejected."""

    type: Literal["category"]
    values: tuple[str, ...] = Field(min_length=1, max_length=10_000)
    unseen: Literal["allow", "reject"] = "allow"
    slice: bool = False
    sensitive: bool = False
    required: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if repeated := {v for v in self.values if self.values.count(v) > 1}:
            raise ValueError(f"expected distinct values, got {sorted(repeated)} more than once")
        return self


class BoolFeature(Part):
    """True or false; missing is allowed unless required."""

    type: Literal["bool"]
    slice: bool = False
    sensitive: bool = False
    required: bool = False


Feature = Annotated[FloatFeature | CategoryFeature | BoolFeature, Field(discriminator="type")]


class Label(Part):
    """What comes back: its type, and how long after the event it has matured for certain.

    `feedback: selective`: only what was answered with true gets a label, as a loan that was refused never shows whether
    it would have been paid back. Then a share of the refused events may be chosen by lot to `explore`: their
    predictions say so, and whoever acts on them acts as if the answer were true.
    """

    type: Literal["bool", "category", "float"]
    values: tuple[str, ...] = ()
    delay: Duration
    feedback: Literal["complete", "selective"] = "complete"
    explore: Annotated[Share, Field(lt=1)] = 0.0

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if (self.type == "category") != bool(self.values):
            raise ValueError("expected values with a category label, and only there")
        if self.feedback == "selective" and self.type != "bool":
            raise ValueError("expected selective feedback with a bool label, and only there: true is what gets a label")
        if self.explore and self.feedback != "selective":
            raise ValueError("expected a share to explore with selective feedback, and only there")
        return self


class StreamSpec(Part):
    """A stream: `data.<stream>` and `labels.<stream>`, keyed by entity."""

    stream: Name
    entity: FeatureName
    partitions: int = Field(default=4, ge=1, le=1024)
    features: dict[FeatureName, Feature] = Field(min_length=1)
    label: Label
    lateness: Duration = timedelta(hours=1)
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"

    @model_validator(mode="after")
    def _fits_an_event(self) -> Self:
        """An event that names two versions carries the categories five times, and must fit a Kafka record."""
        written = sum(
            len(value.encode()) + 3
            for feature in self.features.values()
            if isinstance(feature, CategoryFeature)
            for value in feature.values
        )
        if written > MAX_CATEGORY_BYTES:
            raise ValueError(f"expected at most {MAX_CATEGORY_BYTES} bytes of category values in all, got {written}")
        return self


Estimator: TypeAlias = Literal["hist_gradient_boosting", "logistic_regression", "ridge"]
Task: TypeAlias = Literal["binary", "multiclass", "regression"]
TASKS_OF: Final[Mapping[Estimator, frozenset[Task]]] = {
    "hist_gradient_boosting": frozenset({"binary", "multiclass", "regression"}),
    "logistic_regression": frozenset({"binary", "multiclass"}),
    "ridge": frozenset({"regression"}),
}


class Training(Part):
    """On what and how a version is trained."""

    window: Duration
    min_rows: int = Field(ge=100)
    estimators: tuple[Estimator, ...] = Field(min_length=1)
    trials: int = Field(default=12, ge=1, le=1000)
    seed: int = Field(default=7, ge=0, lt=2**32)


class MetricGate(Part):
    """Bounds of one quality metric: absolute, and against the champion on the same rows."""

    min: Finite | None = None
    max: Finite | None = None
    not_worse_than_champion: Annotated[float, Field(ge=0)] | None = None


class MaxGate(Part):
    max: Annotated[float, Field(ge=0)]


class SliceGate(Part):
    """Largest allowed fall of the main metric from the whole to any slice of a feature with `slice: true`."""

    max_gap: Annotated[float, Field(ge=0)]
    min_rows: int = Field(default=200, ge=10)


class WeakSpotsGate(Part):
    """Largest allowed excess loss in any part of the rows that a search finds, declared as a slice or not.

    Excess: by how much more is lost there than by always answering with the part's own mean, as a share of what that
    costs over all rows. Above 0 the model is worth less than nothing there.
    """

    max_excess: Annotated[float, Field(ge=0)] = 0.05
    min_rows: int = Field(default=200, ge=50)


class LeakageGate(Part):
    """A feature that says this much by itself is suspected to know the answer: ROC AUC of classes, R² of a number."""

    max_alone: Annotated[float, Field(gt=0, le=1)] = 0.98


class RepresentationGate(Part):
    """Of the rows that were learned from: the least share of each group of a sensitive feature, and how far the labels
    of two groups may differ, by the share of a class or in standard deviations of a number.
    """

    min_share: Annotated[Share, Field(lt=1)] = 0.01
    max_label_gap: Annotated[float, Field(ge=0)] | None = None


class FairnessGate(Part):
    """Largest allowed differences between the groups of sensitive features."""

    demographic_parity: Annotated[float, Field(ge=0, le=1)] | None = None
    equalized_odds: Annotated[float, Field(ge=0, le=1)] | None = None


class RobustnessGate(Part):
    """Largest allowed drop of the main metric when inputs are disturbed.

    Noise is a share of a feature's standard deviation; missing, unseen (of categories) and extremes (of numbers, at the
    ends of the declared range or ten standard deviations out) are shares of the values.
    """

    noise: Share = 0.02
    missing: Share = 0.1
    unseen: Share = 0.0
    extremes: Share = 0.0
    max_drop: Annotated[float, Field(ge=0)] = 0.05


class Gates(Part):
    """What a candidate must pass. An absent gate is reported as `not asked`, never passed over in silence.

    `monotonic`: raising the feature never moves the score the other way. `invariant`: exchanging the feature's values
    between rows moves the answers by so much on average at most (a probability, or standard deviations of a number).
    """

    roc_auc: MetricGate | None = None
    accuracy: MetricGate | None = None
    f1: MetricGate | None = None
    log_loss: MetricGate | None = None
    brier: MetricGate | None = None
    mae: MetricGate | None = None
    rmse: MetricGate | None = None
    r2: MetricGate | None = None
    calibration_error: MaxGate | None = None
    slices: SliceGate | None = None
    weak_spots: WeakSpotsGate | None = None
    fairness: FairnessGate | None = None
    representation: RepresentationGate | None = None
    leakage: LeakageGate | None = None
    robustness: RobustnessGate | None = None
    monotonic: dict[FeatureName, Literal["increasing", "decreasing"]] = {}
    invariant: dict[FeatureName, Annotated[float, Field(gt=0)]] = {}
    latency_p99_ms: Annotated[float, Field(gt=0)] | None = None
    size_mb: Annotated[float, Field(gt=0)] | None = None


class Rollout(Part):
    """Shadow events, then canary shares, then champion; or back."""

    shadow: int = Field(default=2000, ge=0)
    canary: tuple[Annotated[Share, Field(gt=0)], ...] = (0.05, 0.25)
    margin: Annotated[float, Field(gt=0)] = 0.01
    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    max_labels: int = Field(default=20_000, ge=100)
    approval: Literal["none", "required", "four_eyes"] = "none"
    expires: Duration = timedelta(days=3)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.canary) != sorted(set(self.canary)):
            raise ValueError(f"expected rising canary shares, got {list(self.canary)}")
        return self


class Monitoring(Part):
    """Windows of so many predictions; so many false alarms a year are accepted."""

    window: int = Field(default=2000, ge=100)
    false_alarms_per_year: Annotated[float, Field(gt=0)] = 4


class Retraining(Part):
    """What asks for a new version; `first` and a person's request always may."""

    on: tuple[Literal["drift", "decay", "schedule"], ...] = ("drift", "decay", "schedule")
    every: Duration = timedelta(days=30)
    cooldown: Duration = timedelta(days=1)


class Costs(Part):
    false_positive: Annotated[float, Field(ge=0)] = 1
    false_negative: Annotated[float, Field(ge=0)] = 1

    @property
    def threshold(self) -> float:
        """The probability from which `true` costs less than `false`: fp / (fp + fn), 0.5 where neither costs.

        Source: Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001, eq. 2.
        """
        both = self.false_positive + self.false_negative
        return self.false_positive / both if both else 0.5


class ModelSpec(Part):
    """A model on a stream, and the policy it lives under.

    `purpose`: what its answers are for, and what they are not for; its model cards say so.
    """

    model: Name
    stream: Name
    owner: str = Field(min_length=1, max_length=200)
    purpose: str = Field(default="", max_length=2000)
    task: Task
    features: tuple[FeatureName, ...] = Field(min_length=1)
    training: Training
    gates: Gates = Gates()
    rollout: Rollout = Rollout()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    costs: Costs | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.features)) != len(self.features):
            raise ValueError("expected distinct features")
        return self

    def problems_on(self, stream: StreamSpec) -> list[str]:
        """What keeps this model from living on `stream`, in words; empty when nothing does."""
        wanted = {"binary": "bool", "multiclass": "category", "regression": "float"}[self.task]
        found = [f"features: {name!r} is not declared by stream {stream.stream!r}, which has {sorted(stream.features)}"
                 for name in self.features if name not in stream.features]  # fmt: skip
        if stream.label.type != wanted:
            found.append(f"task: {self.task} needs a {wanted} label, stream {stream.stream!r} has {stream.label.type}")
        return found

    def unsuitable(self) -> str | None:
        """Why these estimators cannot learn this task, and which can; None when they can."""
        wrong = [each for each in self.training.estimators if self.task not in TASKS_OF[each]]
        able = [each for each, tasks in TASKS_OF.items() if self.task in tasks]
        return f"{wrong}, which cannot learn a {self.task} task; {able} can" if wrong else None
