"""The report: everything that was seen, and the checks it stands up to, as one JSON document."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cli.client import Registry
from cli.demonstration import checks
from cli.demonstration.counting import Count, latencies_ms
from cli.demonstration.evidence import Evidence, by_model, traces_apart
from cli.demonstration.lags import Monitor
from cli.demonstration.lifecycles import Run
from cli.demonstration.plan import Plan
from cli.demonstration.quality import Gain, Served
from cli.demonstration.resolving import Resolved, resolved, sampled
from cli.demonstration.traces import Trace, Zipkin
from shared.objects import Objects
from shared.settings import S3Settings

Json = dict[str, Any]
_TRACES_WITHIN_SECONDS = 15.0  # the last spans are on their way
_ASK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How the run went, as the demo itself saw it. Seconds are wall time."""

    start_up_seconds: float
    wall_seconds: float
    published: Mapping[str, int]
    held_seconds: Mapping[str, float]
    given_up: list[str]
    killed: Mapping[str, int] = field(default_factory=dict)
    monitor: Monitor | None = None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is worked out of the evidence, once."""

    runs: list[Run]
    counts: Mapping[str, Count]
    served: Mapping[str, Served]
    gains: Mapping[str, Gain]
    traces: Mapping[str, Trace]
    label_states: Mapping[str, Mapping[str, int]]
    resolved: list[Resolved]


def make(plan: Plan, evidence: Evidence, how: Circumstances, zipkin: Zipkin) -> Json:
    """All of it; `checks` says what holds. Asks registry, object store and Zipkin."""
    runs = evidence.lifecycles.runs()
    numbers = _numbers(evidence.declared.names)
    for run in runs:
        run.version = run.version or numbers.get(run.run_id)
    found = Findings(
        runs=runs,
        counts=evidence.counts(),
        served=evidence.served(),
        gains=evidence.gains(Objects(S3Settings())),
        traces=_traces(runs, zipkin) if plan.traced else {},
        label_states=by_model(how.monitor.joins) if how.monitor else {},
        resolved=_resolved(evidence.predictions()),
    )
    verdicts = _verdicts(plan, evidence, how, found)
    return {
        "checks": {name: asdict(check) for name, check in verdicts.items()},
        **_course(plan, how),
        **_data_plane(evidence, how, found),
        **_control_plane(evidence, found),
        "resolved_seconds": sorted(each.seconds for each in found.resolved),
    }


def failed(report: Json) -> list[str]:
    """Names of the checks that do not hold."""
    return [name for name, check in report["checks"].items() if check["ok"] is False]


def _verdicts(plan: Plan, evidence: Evidence, how: Circumstances, found: Findings) -> dict[str, checks.Check]:
    lifecycles, promises, due = evidence.lifecycles, plan.promises, plan.until >= plan.promises.due
    rows = {name: event.rows_total for name, event in lifecycles.tables().items()}
    predictions = evidence.predicted_events()
    apart = {run.run_id: traces_apart(lifecycles.of_run(run.run_id), run.trace_id) for run in found.runs}
    whole = ("lifecycles_complete", checks.lifecycles_complete(lifecycles))
    if plan.traced:
        whole = ("traces_whole", checks.traces_whole(found.runs, found.traces, apart))
    return {
        "one_prediction_an_event": checks.one_prediction_an_event(found.counts),
        "tables_hold_everything": checks.tables_hold_everything(rows, evidence.expected_rows()),
        "labels_add_up": checks.labels_add_up(found.label_states, predictions),
        "nothing_given_up": checks.nothing_given_up(how.given_up),
        "second_version": checks.second_version(lifecycles, evidence.declared.names, promises, due=due),
        "quality": checks.quality(found.served, promises, due=due),
        "gain": checks.gain(found.gains, promises, due=due),
        "predictions_resolve": checks.predictions_resolve(found.resolved),
        whole[0]: whole[1],
    }


def _course(plan: Plan, how: Circumstances) -> Json:
    return {
        "event_time": {"from": plan.start.isoformat(), "until": plan.until.isoformat()},
        "start_up_seconds": how.start_up_seconds,
        "wall_seconds": how.wall_seconds,
        "held_seconds": {"total": sum(how.held_seconds.values()), **how.held_seconds},
        "killed": dict(how.killed),
    }


def _data_plane(evidence: Evidence, how: Circumstances, found: Findings) -> Json:
    topics = evidence.topics
    tables = sorted(evidence.lifecycles.tables().items())
    return {
        "events": {"published": how.published.get("data", 0), "records": len(topics.data)},
        "predictions": {model: _predictions(count) for model, count in found.counts.items()},
        "unserved": {model: count.unserved for model, count in found.counts.items()},
        "dead_letters": {"total": sum(topics.dead_reasons.values()), **topics.dead_reasons},
        "labels": {
            "published": how.published.get("label", 0),
            "records": evidence.label_records,
            **found.label_states,
        },
        "tables": {name: {"version": event.version, "rows": event.rows_total} for name, event in tables},
        "latency_ms": {model: _latency(latencies_ms(topics, model)) for model in found.counts},
        "quality": {
            model: {**asdict(each), "over_first_version": _gain(found.gains.get(model))}
            for model, each in found.served.items()
        },
    }


def _control_plane(evidence: Evidence, found: Findings) -> Json:
    lifecycles = evidence.lifecycles
    of_version = ("model", "version", "run_id", "outcome", "rows", "gates")
    return {
        "runs": [_run(run) for run in found.runs],
        "to_champion": [_to_champion(run) for run in found.runs if run.seconds_to_champion is not None],
        "versions": [{name: getattr(run, name) for name in of_version} for run in found.runs if run.gates],
        "rollouts": lifecycles.rollouts(evidence.declared.names),
        "alerts": lifecycles.alerts(),
        "windows": len(lifecycles.windows()),
        "traces": [{"run_id": run_id, **asdict(trace)} for run_id, trace in found.traces.items()],
    }


def _numbers(models: tuple[str, ...]) -> dict[str, int]:
    """Run → the number that the registry gave its candidate, rejected ones too."""
    with Registry("viewer") as registry:
        return {
            each["run_id"]: each["version"] for model in models for each in registry.pages(f"/models/{model}/versions")
        }


def _resolved(predictions: list[str]) -> list[Resolved]:
    with Registry("viewer") as registry:
        return resolved(registry, sampled(predictions))


def _traces(runs: list[Run], zipkin: Zipkin) -> dict[str, Trace]:
    """The traces of all runs; asked again for a while, as long as spans are missing."""
    deadline = time.monotonic() + _TRACES_WITHIN_SECONDS
    while True:
        found = {run.run_id: zipkin.trace(run.trace_id) for run in runs if run.trace_id}
        whole = checks.traces_whole(runs, found, {}).ok is not False
        if whole or time.monotonic() > deadline:
            return found
        time.sleep(_ASK_AGAIN_SECONDS)


def _predictions(count: Count) -> Json:
    return {
        "accepted": count.accepted,
        "answered_once": count.answered_once,
        "by_version_and_arm": dict(sorted(count.by_version_and_arm.items())),
        "faults": count.faults,
    }


def _run(run: Run) -> Json:
    plain = {name: value for name, value in asdict(run).items() if name != "gates"}
    return plain | {"asked_at": run.asked_at.isoformat(), "cut": run.cut.isoformat()}


def _to_champion(run: Run) -> Json:
    names = ("model", "version", "run_id", "seconds_to_champion", "fit_seconds", "run_seconds")
    return {name: getattr(run, name) for name in names}


def _latency(milliseconds: list[int]) -> Json:
    if not milliseconds:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}


def _gain(gain: Gain | None) -> Json | None:
    return None if gain is None else {**asdict(gain), "gain": gain.gain}
