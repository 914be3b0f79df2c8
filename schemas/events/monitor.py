"""What the monitor says. It alone decides by time, so its events carry the cut they mean."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event
from schemas.events.parts import Cut, Offsets, Span, Time
from schemas.specs import ModelSpec, Part, StreamSpec

Reason = Literal["first", "drift", "decay", "schedule", "person"]


class TrainingRequested(Event, event="training.requested", version=(1, 3), key="model"):
    """Train this model on this cut. The run's id names the lifecycle.

    `since`: the world is thought to have changed then; the run may learn from less than the window. 1.2 added it.
    """

    model: str
    run_id: str
    reason: Reason
    explanation: str
    spec: ModelSpec
    stream_spec: StreamSpec
    cut: Cut
    quarantined: tuple[Span, ...] = ()
    since: Time | None = None


class FeatureDrift(Part):
    """How far one feature (or `score`) of a window lies from the version's reference.

    `p_value` is that of the distance when nothing drifts; `effect` what the feature's shift adds to the expected loss
    of a prediction; `since` the beginning of the window in which the drift began, if it has drifted.
    """

    feature: str
    statistic: Literal["ks", "psi", "chi_square"]
    value: float
    threshold: float
    drifted: bool
    p_value: float | None = None
    effect: float | None = None
    since: Time | None = None


class Quality(Part):
    """Realised quality over the matured, labelled predictions of one version.

    `errors` are standard errors; `cost` a prediction's by the cost matrix; `expected` what was estimated for the same
    stretch of time without labels, and `disagrees` whether that lies beyond chance: then what leads from inputs to
    labels has changed. Where decisions hide labels, it is `biased`: it speaks of what was answered with true alone;
    unless some of the rest is explored: then labels are weighted, and worth as much as `effective` ones that are not.
    """

    labelled: int = Field(ge=0)
    metrics: dict[str, float] = {}
    errors: dict[str, float] = {}
    cost: float | None = None
    expected: dict[str, float] = {}
    disagrees: bool = False
    biased: bool = False
    effective: float | None = None


class SliceQuality(Part):
    """Of the predictions of a version's newest matured ones whose feature has this value."""

    feature: str
    value: str
    quality: Quality


class Estimated(Part):
    """Quality estimated without labels; `limits` says when that is wrong, `errors` are standard errors of sampling.

    It is `biased` where it was learned from labels that decisions had chosen.
    """

    method: Literal["cbpe", "dle"]
    metrics: dict[str, float]
    errors: dict[str, float] = {}
    cost: float | None = None
    limits: str
    biased: bool = False


class Reading(Part):
    """How far a model's predictions, its stream's data and labels had been read, and the model's clock by then."""

    heard_to: Offsets
    data_to: Offsets
    labels_to: Offsets
    clock: Time


class WindowMeasured(Event, event="window.measured", version=(1, 4), key="model"):
    """A closed window of served predictions; recomputed from the log at its vectors, the numbers are equal.

    The window's own predictions lie between `predictions_from` and `predictions_to`. What matures later, and the
    counts, are those at `clock` of predictions before `heard_to` and of labels before `labels_to`; what had settled was
    let go when it closed, and at each place of `cleared` before. 1.1 added `clock`, `heard_to` and `estimated`; 1.2
    what is biased, and the quality of `arms` and `slices`; 1.3 the revisions of the declarations by which it was
    measured; 1.4 `cleared`.
    """

    model: str
    version: int
    window: int = Field(ge=0)
    predictions_from: Offsets
    predictions_to: Offsets
    data_to: Offsets
    labels_to: Offsets
    time_min: Time
    time_max: Time
    predictions: int = Field(ge=0)
    verdict: Literal["measured", "insufficient_data"]
    drift: tuple[FeatureDrift, ...] = ()
    quality: Quality
    joined: int = Field(ge=0)
    pending: int = Field(ge=0)
    expired: int = Field(ge=0)
    sampled_out: int = Field(default=0, ge=0)
    clock: Time | None = None
    heard_to: Offsets = {}
    estimated: Estimated | None = None
    arms: dict[Literal["champion", "canary"], Quality] = {}
    slices: tuple[SliceQuality, ...] = ()
    model_revision: int = Field(default=0, ge=0)
    stream_revision: int = Field(default=0, ge=0)
    cleared: tuple[Reading, ...] = ()


class Groups(Part):
    """Sums over groups of pairs that may hang together: what a variance between groups is made of.

    Each pair is in one group, of an entity or of a stretch of time; `products` are those of a group's count and total.
    """

    by: Literal["entity", "time"]
    groups: int = Field(ge=0)
    n: int = Field(ge=0)
    counts_squared: int = Field(ge=0)
    products: float
    totals_squared: float


class Pairs(Part):
    """Paired losses of events that both arms scored, challenger minus champion."""

    n: int = Field(ge=0)
    total: float
    total_squares: float
    groups: tuple[Groups, ...] = ()


class ArmMeasured(Part):
    """One arm of a rollout, over all events it scored and those matured."""

    scored: int = Field(ge=0)
    labelled: int = Field(ge=0)
    metrics: dict[str, float] = {}


class ExpectedPairs(Part):
    """Paired losses that are expected of both arms' answers without labels (CBPE, DLE).

    `doubted`: what was expected of the champion disagrees with what was realised, so that the estimates say nothing.
    """

    pairs: Pairs
    doubted: bool = False


class RolloutMeasured(Event, event="rollout.measured", version=(1, 1), key="model"):
    """The evidence about a challenger so far: cumulative over its rollout, and of the current revision alone.

    `pairs` are of matured labels. 1.1 added their groups, what is `expected` of all events that both arms scored, and
    how far each arm's scores of them lie from its own reference.
    """

    model: str
    revision: int
    champion: int
    challenger: int
    measured_at: Time
    pairs: Pairs
    pairs_of_revision: Pairs
    paired_scores: int = Field(ge=0)
    arms: dict[Literal["champion", "challenger"], ArmMeasured]
    expected: ExpectedPairs | None = None
    scores: dict[Literal["champion", "challenger"], FeatureDrift] = {}


class AlertRaisedV1(Event, event="alert.raised", version=(1, 0), key="model"):
    """The first form of an alert: one feature. Read for ever, upcast to v2."""

    model: str
    alert: str
    kind: Literal["drift", "decay", "data_fault", "operations"]
    severity: Literal["warning", "critical"]
    feature: str
    explanation: str
    raised_at: Time


class AlertRaised(Event, event="alert.raised", version=(2, 0), key="model"):
    """Something needs attention; names every feature that drifted, strongest first."""

    model: str
    alert: str
    kind: Literal["drift", "decay", "data_fault", "operations"]
    severity: Literal["warning", "critical"]
    features: tuple[str, ...]
    explanation: str
    raised_at: Time
    version: int | None = None
    window: int | None = None


class AlertResolved(Event, event="alert.resolved", key="model"):
    model: str
    alert: str
    explanation: str
    resolved_at: Time


class DataQuarantined(Event, event="data.quarantined", key="stream"):
    """A stretch of data that is broken rather than drifted; training leaves it out."""

    stream: str
    span: Span
    features: tuple[str, ...]
    explanation: str
