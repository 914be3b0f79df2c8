"""What happens to models as OpenLineage run events, for catalogues that know nothing of modelbus.

https://openlineage.io/spec/2-0-2/OpenLineage.json. Three kinds of runs: a training, the gates, a rollout; each is told
by its start and its end. Plain JSON: the library for it brings two HTTP clients and takes most of a second to import.
"""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from schemas.events.deployer import RolloutChanged, RolloutEnded
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Artifact, Candidate, Cut, Gate
from schemas.events.trainer import ModelTrained, TrainingFailed
from schemas.events.validator import ModelRejected, ModelValidated
from schemas.specs import ModelSpec
from schemas.topics import PREDICTIONS

Json = dict[str, Any]
Job = Literal["train", "validate", "rollout"]
State = Literal["START", "COMPLETE", "ABORT", "FAIL", "OTHER"]
NAMESPACE = "modelbus"
PRODUCER = "urn:modelbus:registry"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:modelbus:runs")
_TESTED = {"passed": "pass", "failed": "fail"}
_ENDED: dict[str, State] = {"promoted": "COMPLETE", "rolled_back": "ABORT", "replaced": "ABORT"}


def requested(event: TrainingRequested, at: datetime) -> list[Json]:
    """A training starts, on versions of two tables."""
    job = _job("train", event.spec)
    facets = {"nominalTime": _facet("1-0-1", "NominalTimeRunFacet", nominalStartTime=_time(event.cut.time))}
    return [_event("START", at, _run(event.run_id, facets), job, inputs=_tables(event.spec.stream, event.cut))]


def trained(event: ModelTrained, at: datetime) -> list[Json]:
    """A training has ended with a candidate, and its gates begin."""
    candidate = event.candidate
    inputs, made = _tables(candidate.spec.stream, candidate.cut), [_model(candidate)]
    return [
        _event("COMPLETE", at, _run(event.run_id), _job("train", candidate.spec), inputs=inputs, outputs=made),
        _event("START", at, _run(f"{event.run_id}/gates"), _job("validate", candidate.spec), inputs=made),
    ]


def failed(event: TrainingFailed, at: datetime) -> list[Json]:
    """A training has ended with nothing."""
    why = f"{event.reason}: {event.explanation}"
    error = _facet("1-0-1", "ErrorMessageRunFacet", message=why, programmingLanguage="python")
    return [_event("FAIL", at, _run(event.run_id, {"errorMessage": error}), _named_job("train", event.model))]


def judged(event: ModelValidated | ModelRejected, at: datetime) -> list[Json]:
    """The gates have spoken; each is a test."""
    tests = _facet("1-0-1", "TestRunFacet", tests=[_test(gate) for gate in event.gates])
    run, job = _run(f"{event.run_id}/gates", {"test": tests}), _job("validate", event.candidate.spec)
    return [_event("COMPLETE", at, run, job, inputs=[_model(event.candidate)], outputs=_report(event))]


def began(event: RolloutChanged, first_revision: int, at: datetime) -> list[Json]:
    """A version starts to be rolled out to the predictions of its model; a first one is champion at once."""
    candidate = (event.challenger or event.champion).candidate
    run, job = _run(f"{event.model}/rollout/{first_revision}"), _job("rollout", candidate.spec)
    about: dict[str, Any] = {"inputs": [_model(candidate)], "outputs": [_dataset(PREDICTIONS.of(event.model))]}
    states: list[State] = ["START"] if event.challenger else ["START", "COMPLETE"]
    return [_event(state, at, run, job, **about) for state in states]


def ended(event: RolloutEnded, first_revision: int, at: datetime, *, again: bool = False) -> list[Json]:
    """A rollout is over; one that was not promoted is aborted. What falls `again`, as a champion, had its end."""
    facets = {}
    if event.outcome != "promoted":
        why = f"{event.outcome}: {event.reason}"
        facets["errorMessage"] = _facet("1-0-1", "ErrorMessageRunFacet", message=why, programmingLanguage="python")
    run = _run(f"{event.model}/rollout/{first_revision}", facets)
    outputs = [_dataset(PREDICTIONS.of(event.model))]
    return [
        _event(
            "OTHER" if again else _ENDED[event.outcome], at, run, _named_job("rollout", event.model), outputs=outputs
        )
    ]


def key_of(event: Json) -> str:
    """As OpenLineage's own Kafka transport keys its records: those of a job keep their order."""
    return f"run:{event['job']['namespace']}/{event['job']['name']}"


def encoded(event: Json) -> bytes:
    return json.dumps(event, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _event(
    state: State, at: datetime, run: Json, job: Json, *, inputs: Sequence[Json] = (), outputs: Sequence[Json] = ()
) -> Json:
    about = {"eventType": state, "eventTime": _time(at), "producer": PRODUCER, "schemaURL": SCHEMA}
    return about | {"run": run, "job": job, "inputs": list(inputs), "outputs": list(outputs)}


def _run(name: str, facets: Json | None = None) -> Json:
    """A run's id is a UUID by the specification, so it is made of its name."""
    return {"runId": str(uuid.uuid5(_IDS, name)), "facets": facets or {}}


def _job(kind: Job, spec: ModelSpec) -> Json:
    owned = _facet("1-0-1", "OwnershipJobFacet", owners=[{"name": f"team:{spec.owner}", "type": "MAINTAINER"}])
    return {**_named_job(kind, spec.model), "facets": {"ownership": owned}}


def _named_job(kind: Job, model: str) -> Json:
    return {"namespace": NAMESPACE, "name": f"{model}.{kind}", "facets": {}}


def _tables(stream: str, cut: Cut) -> list[Json]:
    versions = {"data": cut.data_version, "labels": cut.labels_version}
    return [_dataset(f"{kind}/{stream}", str(version)) for kind, version in versions.items()]


def _model(candidate: Candidate) -> Json:
    return _dataset(f"models/{candidate.model}", candidate.onnx.digest)


def _report(event: ModelValidated | ModelRejected) -> list[Json]:
    report: Artifact | None = event.report
    return [_dataset(f"reports/{event.model}", report.digest)] if report else []


def _dataset(name: str, version: str | None = None) -> Json:
    if version is None:
        return {"namespace": NAMESPACE, "name": name, "facets": {}}
    facet = _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=version)
    return {"namespace": NAMESPACE, "name": name, "facets": {"version": facet}}


def _test(gate: Gate) -> Json:
    measured = {"expected": gate.threshold, "actual": gate.value}
    told = {name: f"{value:g}" for name, value in measured.items() if isinstance(value, int | float)}
    status = _TESTED.get(gate.verdict, "skip")
    return {"name": gate.name, "status": status, "severity": "error", "description": gate.reason} | told


def _facet(version: str, name: str, **fields: Any) -> Json:
    return {"_producer": PRODUCER, "_schemaURL": f"{_FACETS}/{version}/{name}.json#/$defs/{name}", **fields}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
