"""Whether the artifacts are what they claim: safe, of the declared shape, equal in both forms, small and fast."""

import numpy as np

from schemas.specs import Gates
from services.validator.domain.evidence import Evidence
from services.validator.domain.gate import Check, Measured
from shared.dataset import classes_of
from shared.matrix import signature_of
from shared.quality import Floats

_MOST_DIFFERENCE = 1e-4
_MOST_ROWS_APART = 0.001  # of the rows may lie on the other side of a float32 threshold
_BYTES_PER_MB = 1_000_000


class Safety(Check):
    """Always on: every artifact has its digest, is readable, and holds nothing but the types and operators allowed."""

    name = "safety"
    needs = ()

    def asked(self, gates: Gates) -> float | None:  # noqa: ARG002 - always on
        return 0.0

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        found = evidence.safety
        reason = (
            "; ".join(found) or "digests match, operators and types are on the lists, nothing lies outside the file"
        )
        return Measured(value=float(len(found)), passed=len(found) <= threshold, reason=f"safety: {reason}")


class SignatureHolds(Check):
    """Always on: columns, types and values as the model and its stream declare them, and answers of that shape."""

    name = "signature"
    needs = ()

    def asked(self, gates: Gates) -> float | None:  # noqa: ARG002 - always on
        return 0.0

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        found = [*evidence.misfits, *_undeclared(evidence), *_odd_answers(evidence)]
        columns = len(evidence.signature.features)
        reason = "; ".join(found) or f"{columns} columns and the answers are as declared"
        return Measured(value=float(len(found)), passed=len(found) <= threshold, reason=f"signature: {reason}")


def _undeclared(evidence: Evidence) -> list[str]:
    """Where the signature is not that of the declared features, in words."""
    if missing := sorted(set(evidence.spec.features) - set(evidence.stream_spec.features)):
        return [f"the stream does not declare {missing}"]
    expected = signature_of(evidence.stream_spec, evidence.spec.features, classes_of(evidence.stream_spec))
    found = []
    if evidence.signature.features != expected.features:
        odd = [
            feature.name for feature in evidence.signature.features if feature not in expected.features
        ] or "their order"
        found.append(f"expected the columns {[each.name for each in expected.features]} as declared, {odd} differ")
    if evidence.signature.classes != expected.classes:
        found.append(f"expected the classes {expected.classes}, got {evidence.signature.classes}")
    return found


def _odd_answers(evidence: Evidence) -> list[str]:
    """Where the answers to the held-out rows, or to a row with every value missing, are not what was promised."""
    if evidence.scored is None or not len(evidence.scored.truth):
        return []
    if flaw := evidence.scored.flaw(len(evidence.signature.classes)):
        return [flaw]
    blank = np.full((1, evidence.scored.inputs.shape[1]), np.nan, dtype=np.float32)
    every = np.concatenate([evidence.scored.answers, evidence.scored.predict(blank)])
    if not np.isfinite(every).all():
        return ["expected finite answers when every value is missing"]
    if evidence.signature.classes and (every.min() < -1e-6 or np.abs(every.sum(axis=1) - 1).max() > 1e-3):
        return ["expected probabilities that are not negative and sum to 1"]
    return []


class Parity(Check):
    """Always on: ONNX answers as scikit-learn does on the held-out rows.

    Differences of probabilities, or of values in standard deviations of scikit-learn's answers. ONNX compares in
    float32, so a row within rounding of a tree's threshold may take the other branch: one row in a thousand may.
    """

    name = "parity"
    needs = ("rows", "scikit_learn")

    def asked(self, gates: Gates) -> float | None:  # noqa: ARG002 - always on
        return _MOST_DIFFERENCE

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        ours, theirs = evidence.rows.answers, evidence.rows.scikit_learn
        assert theirs is not None
        if ours.shape != theirs.shape:
            reason = f"parity: ONNX answers in shape {ours.shape}, scikit-learn in {theirs.shape}"
            return Measured(value=None, passed=False, reason=reason)
        apart = differences(ours, theirs)
        spared = int(_MOST_ROWS_APART * len(apart))
        value = float(np.sort(apart)[len(apart) - 1 - spared])
        beyond = int((~(apart <= threshold)).sum())
        return Measured(
            value=value,
            passed=beyond <= spared,
            reason=f"ONNX and scikit-learn differ by more than {threshold:g} in {beyond} of {len(apart)} rows, by"
            f" {float(apart.max()):.2g} at most; expected at most {spared} such rows",
            detail={"largest": float(apart.max()), "rows_beyond": beyond},
        )


def differences(ours: Floats, theirs: Floats) -> Floats:
    """Largest absolute difference of each row; values are scaled by the spread of `theirs`.

    >>> differences(np.array([[0.2, 0.8]]), np.array([[0.25, 0.75]])).round(6).tolist()
    [0.05]
    """
    if ours.ndim == 2:
        return np.asarray(np.abs(ours - theirs).max(axis=1), dtype=np.float64)
    return np.abs(ours - theirs) / max(float(theirs.std()), 1e-12)


class Latency(Check):
    """The 99th percentile of 1000 one-row calls of ONNX Runtime on one thread, warmed up, of the best round."""

    name = "latency_p99_ms"

    def asked(self, gates: Gates) -> float | None:
        return gates.latency_p99_ms

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        calls = evidence.rows.latencies_ms
        middle, value = (float(each) for each in np.quantile(calls, [0.5, 0.99]))
        return Measured(
            value=value,
            passed=value <= threshold,
            reason=f"99 % of {len(calls)} one-row calls took at most {value:.3f} ms, half of them {middle:.3f} ms;"
            f" expected at most {threshold:g} ms",
            detail={"p50_ms": middle, "p99_ms": value, "calls": len(calls)},
        )


class Size(Check):
    """Size of the ONNX file, in megabytes of 10^6 bytes."""

    name = "size_mb"
    needs = ()

    def asked(self, gates: Gates) -> float | None:
        return gates.size_mb

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        value = evidence.size_bytes / _BYTES_PER_MB
        return Measured(
            value=value,
            passed=value <= threshold,
            reason=f"the ONNX file has {value:.3f} MB; expected at most {threshold:g} MB",
        )
