"""The validator's words, report and loading of what it does not trust."""

import dataclasses
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.pipeline import Pipeline

from schemas.events.parts import Artifact, Candidate, Cut, Gate, Signature
from schemas.events.validator import ModelRejected, ModelValidated
from services.validator.artifacts import Unusable, check_reference, read_manifest, skops_predict
from services.validator.domain.gate import judge
from services.validator.domain.report import report
from services.validator.domain.words import WORDS
from services.validator.jobs import latencies_ms
from shared.jobs import Failure, Job
from tests.unit.test_gates import evidence_of

CUT = Cut(
    time=datetime(2013, 3, 1, tzinfo=UTC),
    data_version=3,
    labels_version=2,
    data_offsets={0: 9, 1: 4},
    labels_offsets={},
)
ARTIFACT = Artifact(digest="sha256:" + "ab" * 32, size_bytes=3)
PASSED = Gate(name="parity", value=0.0, threshold=1e-4, verdict="passed", reason="equal")
NO_CHAMPION = Gate(name="roc_auc_vs_champion", value=None, threshold=-0.01, verdict="no_champion", reason="none yet")
FAILED = Gate(name="size_mb", value=9.0, threshold=5.0, verdict="failed", reason="it has 9 MB")


def candidate() -> Candidate:
    evidence = evidence_of()
    return Candidate(
        model="m", run_id="r", spec=evidence.spec, stream_spec=evidence.stream_spec, cut=CUT,
        signature=evidence.signature, onnx=ARTIFACT, skops=ARTIFACT, manifest=ARTIFACT, reference=ARTIFACT, metrics={},
        rows=10,
    )  # fmt: skip


def job() -> Job:
    request = json.loads(json.dumps({"candidate": candidate().model_dump(mode="json"), "champion": None}))
    return Job(
        id="r", kind="validate", subject="m", request=request, correlation_id="c", causation_id=None, traceparent=None,
        losses=0, crashes=0, lease=uuid.uuid4(),
    )  # fmt: skip


def result(*gates: Gate) -> dict[str, object]:
    artifact, told = ARTIFACT.model_dump(mode="json"), [gate.model_dump(mode="json") for gate in gates]
    return {"gates": told, "report": artifact, "attestation": artifact, "card": {"page": artifact, "data": artifact}}


def manifest(**changes: object) -> bytes:
    written = candidate().model_dump(mode="json", include={"model", "run_id", "spec", "stream_spec", "cut"})
    split = {
        "train_until": "2013-02-01T00:00:00+00:00",
        "calibrate_until": "2013-02-10T00:00:00+00:00",
        "test_until": "2013-02-28T00:00:00+00:00",
        "rows": {"train": 70, "calibrate": 15, "test": 15},
    }
    digests = {"onnx": ARTIFACT.digest, "reference": ARTIFACT.digest}
    return json.dumps(written | {"split": split, "quarantined": [], "digests": digests} | changes).encode()


def test_a_candidate_without_a_failed_gate_is_validated_even_without_a_champion() -> None:
    (event,) = WORDS.finished(job(), result(PASSED, NO_CHAMPION))

    assert isinstance(event, ModelValidated)
    assert event.candidate == candidate()
    assert event.gates == (PASSED, NO_CHAMPION)
    assert event.attestation == ARTIFACT


def test_a_candidate_with_a_failed_gate_is_rejected_with_its_reason() -> None:
    (event,) = WORDS.finished(job(), result(PASSED, FAILED))

    assert isinstance(event, ModelRejected)
    assert event.explanation == "it has 9 MB"
    assert event.report == ARTIFACT


def test_a_candidate_that_could_not_be_judged_is_rejected_with_the_end_of_the_explanation() -> None:
    failure = Failure(reason="timed_out", explanation="x" * 9000 + " expected an end in 300 s")

    (event,) = WORDS.failed(job(), failure)

    assert isinstance(event, ModelRejected)
    assert (event.report, event.gates) == (None, ())
    assert "timed_out" in event.explanation
    assert event.explanation.endswith("expected an end in 300 s")
    assert len(event.explanation) < 5000


def test_a_report_holds_every_gate_with_its_evidence_and_no_number_that_is_not_one() -> None:
    evidence = evidence_of({"roc_auc": {"min": 0.9}, "robustness": {}})
    findings = judge(evidence)

    data = report(candidate(), evidence, findings, {"data": {"mean": float("nan")}})

    content = json.loads(data)
    assert content["failed"] == ["roc_auc"]
    assert content["verdict"] == "rejected"
    assert [gate["name"] for gate in content["gates"]] == [finding.gate.name for finding in findings]
    assert content["data"]["mean"] is None
    assert content["curves"]["roc"][0] == [0.0, 0.0]
    assert content["curves"]["roc"][-1] == [1.0, 1.0]
    assert data == report(candidate(), evidence, findings, {"data": {"mean": float("nan")}})


def test_a_roc_curve_encloses_the_area_that_the_metric_says() -> None:
    evidence = evidence_of()

    points = np.array(json.loads(report(candidate(), evidence, (), {}))["curves"]["roc"])

    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(evidence.metrics["roc_auc"], abs=0.002)


def test_the_report_of_a_candidate_that_was_not_scored_has_no_curves() -> None:
    evidence = dataclasses.replace(evidence_of(), scored=None, safety=("onnx: expected ONNX bytes",))

    content = json.loads(report(candidate(), evidence, judge(evidence), {}))

    assert (content["curves"], content["metrics"]) == ({}, {})
    assert "safety" in content["failed"]


def test_a_manifest_of_the_candidate_gives_the_split_times() -> None:
    split, quarantined = read_manifest(manifest(), candidate())

    assert split.calibrate_until == datetime(2013, 2, 10, tzinfo=UTC)
    assert split.learned_rows == 85
    assert quarantined == ()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"run_id": "other"}, "run_id"),
        ({"cut": {}}, "cut"),
        ({"digests": {}}, "digests"),
        ({"split": {}}, "split times"),
        ({"quarantined": [{"start": "never"}]}, "quarantined"),
        (
            {
                "split": {
                    "train_until": "2013-02-01T00:00:00+00:00",
                    "calibrate_until": "2013-02-10T00:00:00+00:00",
                    "test_until": "2013-04-28T00:00:00+00:00",
                    "rows": {"train": 70, "calibrate": 15},
                }
            },
            "up to the cut",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_its_candidate_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(Unusable, match=complaint):
        read_manifest(manifest(**changes), candidate())


def test_what_is_no_manifest_is_refused() -> None:
    for data in (b"", b"[]", b"\xff", b"{}"):
        with pytest.raises(Unusable):
            read_manifest(data, candidate())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"features": {}, "score": {"counts": [], "edges": []}}'])
def test_what_is_no_reference_is_refused(data: bytes) -> None:
    with pytest.raises(Unusable, match="bins"):
        check_reference(data, candidate())


def test_an_object_that_is_no_estimator_is_refused() -> None:
    with pytest.raises(Unusable, match="expected a scikit-learn estimator, got list"):
        skops_predict(skops.io.dumps([1, 2]), classify=True)


def test_an_estimator_that_cannot_classify_is_refused() -> None:
    with pytest.raises(Unusable, match="cannot classify"):
        skops_predict(skops.io.dumps(Pipeline([("nothing", "passthrough")])), classify=True)


def test_a_type_that_is_not_listed_is_refused_whatever_the_file_says() -> None:
    with pytest.raises(Unusable, match="Untrusted"):
        skops_predict(skops.io.dumps(Signature(features=())), classify=True)


class Timed:
    """A model whose n-th call takes `seconds(n)`, on a clock of its own."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds, self.calls, self.now = seconds, 0, 0.0

    def predict(self, inputs: Any) -> Any:
        self.now += self.seconds(self.calls)
        self.calls += len(inputs)

    def latencies_ms(self, threshold: float | None) -> Any:
        return latencies_ms(self.predict, np.zeros((5, 2), dtype=np.float32), threshold, lambda: self.now)


def test_a_slow_model_is_seen_as_slow_in_one_round_of_warm_calls() -> None:
    model = Timed(lambda call: 9.0 if call < 50 else 0.006)

    times = model.latencies_ms(threshold=5)

    assert model.calls == 1050
    assert times == pytest.approx(np.full(1000, 6.0))


def test_a_busy_machine_gets_more_rounds_until_one_passes() -> None:
    model = Timed(lambda call: 0.02 if call < 3050 and call % 20 == 0 else 0.0001)

    times = model.latencies_ms(threshold=5)

    assert model.calls == 4050
    assert np.quantile(times, 0.99) == pytest.approx(0.1)


def test_a_model_that_is_often_slow_is_given_up_after_five_seconds_with_its_best_round() -> None:
    model = Timed(lambda call: 0.02 if call % 20 == 0 else 0.0001)

    times = model.latencies_ms(threshold=5)

    assert 4050 < model.calls < 9050
    assert np.quantile(times, 0.99) == pytest.approx(20)
