"""What the API answers, as pydantic models. Times are UTC; lists come in pages."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.events.deployer import Scoring
from schemas.events.monitor import RolloutMeasured, WindowMeasured
from schemas.events.parts import Artifact, Card, Cut, Gate, Signature
from schemas.specs import ModelSpec, StreamSpec

Json = dict[str, Any]
Item = TypeVar("Item")


class View(BaseModel):
    """An answer; readers ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True)


class Page(View, Generic[Item]):
    """A bounded part of a list; `next` goes into `after` for the part behind it, null at the end."""

    items: list[Item]
    next: str | None


class Because(BaseModel):
    """The body of every act: why."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")  # Postgres keeps no NUL


class Ordered(View):
    """An act was said on the bus under this id."""

    event_id: str


class FieldChangeView(View):
    field: str
    old: Any
    new: Any


class ChangeView(View):
    """What happens to one stream or model; `topics` are created for it."""

    kind: Literal["stream", "model"]
    name: str
    verdict: Literal["created", "changed", "unchanged"]
    revision: int
    fields: list[FieldChangeView]
    topics: list[str]


class PlanView(View):
    dry_run: bool
    changes: list[ChangeView]


class StreamView(View):
    name: str
    revision: int
    spec: StreamSpec
    actor: str
    applied_at: AwareDatetime
    models: list[str]


class Serving(View):
    """Who serves a model; revision 0: nobody yet. `share` is the challenger's part of the traffic."""

    rollout_revision: int
    phase: Literal["serving", "shadow", "canary"] | None
    champion: int | None
    challenger: int | None
    share: float
    step: int
    frozen: bool


class ModelView(View):
    name: str
    stream: str
    stream_revision: int
    revision: int
    spec: ModelSpec
    actor: str
    applied_at: AwareDatetime
    serving: Serving


class StageView(View):
    stage: str
    at: AwareDatetime
    actor: str
    reason: str


class ApprovalView(View):
    actor: str
    reason: str
    at: AwareDatetime


class VersionSummary(View):
    """A version in a list; `failed_gates` by name, `metrics` are the trainer's on its test rows."""

    model: str
    version: int
    run_id: str
    stage: str
    created_at: AwareDatetime
    metrics: dict[str, float]
    rows: int
    failed_gates: list[str]
    explanation: str | None
    approval: str | None
    expires_at: AwareDatetime | None
    trace_id: str | None


class StepView(View):
    """One revision of who serves; `switched` says from which input offset on each partition followed."""

    revision: int
    phase: str
    champion: int
    challenger: int | None
    share: float
    step: int
    frozen: bool
    reason: str
    at: AwareDatetime
    switched: dict[int, int]


class RolloutView(View):
    model: str
    version: int
    first_revision: int
    started_at: AwareDatetime
    ended_at: AwareDatetime | None
    outcome: Literal["promoted", "rolled_back", "replaced"] | None
    reason: str | None
    evidence: RolloutMeasured | None
    scoring: Scoring | None
    withdrawn: Json | None
    trace_id: str | None
    steps: list[StepView]


class Artifacts(View):
    onnx: Artifact
    skops: Artifact
    manifest: Artifact
    reference: Artifact


class ErasedView(View):
    """An erasure, by its receipt."""

    receipt: str
    erased_at: AwareDatetime


class VersionView(VersionSummary):
    """All that is known of a version; `erasures` may have taken rows that it learned from."""

    spec: ModelSpec
    stream_spec: StreamSpec
    cut: Cut
    signature: Signature
    artifacts: Artifacts
    gates: list[Gate]
    report: Artifact | None
    attestation: Artifact | None
    card: Card | None
    stages: list[StageView]
    approvals: list[ApprovalView]
    rollout: RolloutView | None
    erasures: list[ErasedView]


class RunView(View):
    """A training run: `requested_at` and `finished_at` are wall time, `cut_time` is event time."""

    run_id: str
    model: str
    state: Literal["requested", "training", "trained", "registered", "rejected", "failed"]
    reason: str | None
    request: str | None
    cut_time: AwareDatetime | None
    requested_at: AwareDatetime | None
    stage: str | None
    done: int | None
    total: int | None
    best_score: float | None
    fit_seconds: float | None
    run_seconds: float | None
    version: int | None
    failure: str | None
    explanation: str | None
    trace_id: str | None
    finished_at: AwareDatetime | None


class AlertView(View):
    alert: str
    model: str
    kind: str
    severity: str
    features: list[str]
    explanation: str
    version: int | None
    quality_window: int | None
    raised_at: AwareDatetime
    resolved_at: AwareDatetime | None
    resolution: str | None


class TableView(View):
    """The latest version of a Delta table; `offsets` by partition, `rejected_total` over all its commits."""

    name: str
    stream: str
    kind: Literal["data", "labels", "predictions"]
    version: int
    offsets: dict[int, int]
    commits: int
    rows_total: int
    rejected_total: int
    time_min: AwareDatetime | None
    time_max: AwareDatetime | None
    committed_at: AwareDatetime


class AuditView(View):
    position: int
    at: AwareDatetime
    actor: str
    action: str
    subject: str
    reason: str
    what: Json
    event_id: str
    previous_hash: str
    hash: str


def audit_view(row: Mapping[str, Any]) -> AuditView:
    """Of a row of the table, whose `what` is text."""
    return AuditView.model_validate({**row, "what": json.loads(row["what"])})


class BreakView(View):
    position: int
    why: str


class ChainView(View):
    """The audit log is intact up to row `rows`; the bus tells of it up to `said_up_to`; null `broken`: all is well."""

    rows: int
    hash: str
    said_up_to: int
    broken: BreakView | None


class ModelStatus(View):
    """A model at a glance: what serves, what is being made, what is wrong."""

    name: str
    stream: str
    owner: str
    serving: Serving
    versions: dict[str, int]
    champion: VersionSummary | None
    challenger: VersionSummary | None
    awaiting: list[int]
    run: RunView | None
    rollout: RolloutView | None
    window: WindowMeasured | None
    open_alerts: list[AlertView]


class StreamStatus(View):
    name: str
    revision: int
    partitions: int
    models: list[str]


class StatusView(View):
    at: datetime
    streams: list[StreamStatus]
    models: list[ModelStatus]
    tables: list[TableView]
