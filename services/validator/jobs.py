"""The child of one judgement: reads artifacts and tables from S3, asks the gates, writes the report."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.events.parts import Candidate, Card, Gate, Release
from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, StreamSpec
from services.validator.artifacts import Loaded, Split, Unusable, fetch, load, onnx_predict
from services.validator.attestation import attested
from services.validator.domain.card import canonical, card
from services.validator.domain.evidence import Evidence, Group, Learned, Predict, Scored
from services.validator.domain.gate import Finding, judge
from services.validator.domain.report import report
from services.validator.page import page
from services.validator.settings import Settings
from shared import child
from shared.dataset import Dataset, Reader, read_dataset
from shared.matrix import Inputs, Projection
from shared.objects import Objects
from shared.quality import Floats
from shared.settings import S3Settings
from shared.tables import Tables

_CALLS, _WARM_UP_CALLS, _LONGEST_SECONDS = 1000, 50, 5.0
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skops", "scipy", "pyarrow", "deltalake")
Json = dict[str, Any]


def validate(request: child.Payload, _progress: child.Progress) -> child.Payload:
    """{"candidate", "champion"} → {"gates", "report", "card", "attestation"}; none is attested whom a gate failed."""
    settings = S3Settings()
    objects = Objects(settings)
    candidate = Candidate.model_validate(request["candidate"])
    champion = Release.model_validate(request["champion"]) if request["champion"] else None
    judged = judgement(candidate, champion, objects, Tables(settings))
    passed, told = all(gate.verdict != "failed" for gate in judged.gates), judged.report
    bundle = attested(candidate, told, objects, Settings().signing_key) if passed else None
    return {
        "gates": [gate.model_dump(mode="json") for gate in judged.gates],
        "report": objects.put_now(told).model_dump(mode="json"),
        "card": _stored(judged.card, objects).model_dump(mode="json"),
        "attestation": bundle.model_dump(mode="json") if bundle else None,
    }


def _stored(shown: Json, objects: Objects) -> Card:
    return Card(page=objects.put_now(page(shown)), data=objects.put_now(canonical(shown)))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the gates found, and how it is told. `made` are the contents of the manifest and of the reference."""

    candidate: Candidate
    evidence: Evidence
    findings: tuple[Finding, ...]
    surroundings: Json
    made: Json

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple(finding.gate for finding in self.findings)

    @property
    def report(self) -> bytes:
        return report(self.candidate, self.evidence, self.findings, self.surroundings)

    @property
    def card(self) -> Json:
        return card(self.candidate, self.evidence, self.findings, self.surroundings | self.made)


def judgement(candidate: Candidate, champion: Release | None, objects: Objects, tables: Reader) -> Judgement:
    """Ask the gates about a candidate beside the champion, if there is one."""
    loaded = load(objects, candidate)
    learned, rows = _rows(tables, candidate, loaded)
    evidence = _evidence(candidate, loaded, learned, rows, rival_of(objects, candidate, champion, loaded.split))
    surroundings = {
        "data": _data(candidate, loaded.split, learned, rows),
        "champion": champion.model_dump(mode="json", include={"version": True, "candidate": {"run_id", "onnx"}})
        if champion
        else None,
        "environment": _environment(),
    }
    return Judgement(
        candidate=candidate,
        evidence=evidence,
        findings=judge(evidence),
        surroundings=surroundings,
        made={"manifest": loaded.manifest, "reference": loaded.reference},
    )


def _rows(tables: Reader, candidate: Candidate, loaded: Loaded) -> tuple[Dataset | None, Dataset | None]:
    """The rows that the candidate was made from, and those it has not seen; None when it cannot be asked about them."""
    if loaded.split is None or loaded.predict is None:
        return None, None
    split = loaded.split
    dataset = read_dataset(tables, candidate.spec, candidate.stream_spec, candidate.cut, loaded.quarantined)
    learned = dataset.last(split.learned_rows, split.calibrate_until)
    return learned, dataset.part(split.calibrate_until, split.test_until)


@dataclass(frozen=True)
class Rival:
    """The champion on the candidate's stream, and its name; or None, and why there is none to compare with."""

    note: str
    predict: Callable[[Dataset], Floats] | None = None


def rival_of(objects: Objects, candidate: Candidate, champion: Release | None, split: Split | None) -> Rival:
    """Load the champion.

    Raises:
        Fault: S3 failed.
    """
    if champion is None:
        return Rival("there is no champion yet")
    other, name = champion.candidate, f"champion version {champion.version}"
    if (other.spec.task, other.signature.classes) != (candidate.spec.task, candidate.signature.classes):
        return Rival(f"{name} answers another question")
    if gone := sorted({f.name for f in other.signature.features} - candidate.stream_spec.features.keys()):
        return Rival(f"{name} needs {gone}, which the stream no longer declares")
    try:
        predict = onnx_predict(fetch(objects, other.onnx), other)
    except Unusable as error:
        return Rival(f"{name} could not be loaded: {error}")
    if split and other.cut.time > split.calibrate_until:
        name += f", which may have learned from these rows up to {other.cut.time.isoformat()}"
    project = Projection(other.signature, candidate.stream_spec)
    return Rival(name, lambda rows: predict(project(rows.matrix)))


def _evidence(
    candidate: Candidate, loaded: Loaded, learned: Dataset | None, rows: Dataset | None, rival: Rival
) -> Evidence:
    scored, made_from = None, None
    misfits: tuple[str, ...] = ()
    if loaded.predict is not None and rows is not None:
        try:
            scored = _scored(candidate, loaded, rows, rival)
            made_from = _learned(candidate, learned) if learned is not None else None
        except _Misfit as error:
            misfits = (str(error),)
    return Evidence(
        spec=candidate.spec,
        stream_spec=candidate.stream_spec,
        signature=candidate.signature,
        seed=candidate.spec.training.seed,
        size_bytes=loaded.size_bytes,
        scored=scored,
        learned=made_from,
        safety=tuple(loaded.safety),
        misfits=misfits,
    )


def _learned(candidate: Candidate, rows: Dataset) -> Learned:
    inputs = Projection(candidate.signature, candidate.stream_spec)(rows.matrix)
    return Learned(truth=rows.labels, inputs=inputs, groups=groups(candidate.stream_spec, rows))


class _Misfit(Exception):
    """The candidate does not take the inputs that its signature promises."""


def _scored(candidate: Candidate, loaded: Loaded, rows: Dataset, rival: Rival) -> Scored:
    predict = loaded.predict
    assert predict is not None
    if gone := sorted({f.name for f in candidate.signature.features} - candidate.stream_spec.features.keys()):
        raise _Misfit(f"expected features of the stream, got {gone}")
    inputs = Projection(candidate.signature, candidate.stream_spec)(rows.matrix)
    champion, champion_note = _answers(rival.predict, rows, rival.note)
    scikit_learn, scikit_learn_note = _answers(loaded.scikit_learn, inputs, "the scikit-learn form could not be loaded")
    return Scored(
        truth=rows.labels,
        inputs=inputs,
        groups=groups(candidate.stream_spec, rows),
        predict=predict,
        champion=champion,
        champion_note=champion_note,
        scikit_learn=scikit_learn,
        scikit_learn_note=scikit_learn_note,
        latencies_ms=latencies_ms(predict, inputs, candidate.spec.gates.latency_p99_ms),
    )


def _answers(predict: Callable[[Any], Floats] | None, rows: Any, note: str) -> tuple[Floats | None, str]:
    """Another model's finite answers to the same rows, or None and why not."""
    if predict is None or not len(rows):
        return None, note
    try:
        answers = predict(rows)
    except Exception as error:  # whatever the libraries raise, this model cannot be compared with
        return None, f"{note}: it does not take these rows: {error}"
    return (answers, note) if np.isfinite(answers).all() else (None, f"{note}: its answers are not finite")


def groups(stream_spec: StreamSpec, rows: Dataset) -> tuple[Group, ...]:
    """Every feature of the stream that slices or is sensitive, whether the model uses it or not."""
    found = []
    for column, (name, feature) in enumerate(stream_spec.features.items()):
        if isinstance(feature, FloatFeature) or not (feature.slice or feature.sensitive):
            continue
        values = feature.values if isinstance(feature, CategoryFeature) else ("false", "true")
        assert isinstance(feature, (CategoryFeature, BoolFeature))
        found.append(
            Group(
                feature=name,
                values=values,
                codes=rows.matrix[:, column],
                slice=feature.slice,
                sensitive=feature.sensitive,
            )
        )
    return tuple(found)


def latencies_ms(
    predict: Predict, inputs: Inputs, threshold: float | None, clock: Callable[[], float] = time.perf_counter
) -> Floats:
    """Wall times of 1000 one-row calls, warmed up: of the best of several rounds, as timeit does.

    What a busy machine adds is not the candidate's: while half the calls are fast enough, there are more rounds, until
    one passes or five seconds are over.
    """
    single = [inputs[row : row + 1] for row in range(min(len(inputs), _CALLS))]
    if not single:
        return np.zeros(0)
    for row in range(_WARM_UP_CALLS):
        predict(single[row % len(single)])
    limit, started = np.inf if threshold is None else threshold, clock()
    best = _round(predict, single, clock)
    while np.quantile(best, 0.5) <= limit < np.quantile(best, 0.99):
        if clock() - started > _LONGEST_SECONDS:
            break
        best = min(best, _round(predict, single, clock), key=lambda times: float(np.quantile(times, 0.99)))
    return best


def _round(predict: Predict, single: list[Inputs], clock: Callable[[], float]) -> Floats:
    times = np.empty(_CALLS)
    for call in range(_CALLS):
        start = clock()
        predict(single[call % len(single)])
        times[call] = clock() - start
    return times * 1000


def _data(candidate: Candidate, split: Split | None, learned: Dataset | None, rows: Dataset | None) -> Json:
    return {
        "stream": candidate.stream_spec.stream,
        "cut": candidate.cut.model_dump(mode="json"),
        "after": split.calibrate_until.isoformat() if split else None,
        "until": split.test_until.isoformat() if split else None,
        "rows": len(rows) if rows is not None else 0,
        "labels_mean": float(rows.labels.mean()) if rows is not None and len(rows) else None,
        "learned": _span(learned),
        "held_out": _span(rows),
    }


def _span(rows: Dataset | None) -> Json | None:
    """Of rows, where there are any: how many, the first and the last time, the mean label."""
    if rows is None or not len(rows):
        return None
    times = {"from": str(rows.times[0]), "until": str(rows.times[-1])}
    return times | {"rows": len(rows), "labels_mean": float(rows.labels.mean())}


def _environment() -> Json:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


if __name__ == "__main__":
    child.answer(validate)
