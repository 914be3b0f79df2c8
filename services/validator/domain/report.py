"""The report: every gate with its evidence, the curves, the data and the surroundings. JSON, canonical."""

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from schemas.events.parts import Candidate
from services.validator.domain.bootstrap import answered
from services.validator.domain.evidence import Evidence, Scored
from services.validator.domain.gate import Finding
from shared.quality import Floats

_POINTS = 101  # of a ROC curve
_BINS = 10
Json = dict[str, Any]


def report(candidate: Candidate, evidence: Evidence, findings: Sequence[Finding], surroundings: Json) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; a number that is not finite is null.

    `surroundings` holds `data` (cut, held-out span, rows), `champion` and `environment`.
    """
    failed = [finding.gate.name for finding in findings if finding.gate.verdict == "failed"]
    content = {
        "model": candidate.model,
        "run_id": candidate.run_id,
        "task": evidence.task,
        "seed": evidence.seed,
        "verdict": "rejected" if failed else "validated",
        "failed": failed,
        "gates": [finding.gate.model_dump(mode="json") | {"evidence": finding.detail} for finding in findings],
        "artifacts": candidate.model_dump(mode="json", include={"onnx", "skops", "manifest", "reference"}),
        "metrics": _metrics(evidence),
        "curves": _curves(evidence),
        **surroundings,
    }
    return json.dumps(_plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _scorable(evidence: Evidence) -> Scored | None:
    scored = evidence.scored
    if scored is None or not len(scored.truth) or scored.flaw(len(evidence.signature.classes)):
        return None
    return scored


def _metrics(evidence: Evidence) -> dict[str, float]:
    return evidence.metrics if _scorable(evidence) else {}


def _curves(evidence: Evidence) -> Json:
    """binary: ROC and reliability; multiclass: reliability of the answered class; regression: truth by tenths."""
    scored = _scorable(evidence)
    if scored is None:
        return {}
    truth, answers = scored.truth, scored.answers
    if evidence.task == "regression":
        return {"tenths": _by_tenths(truth, answers)}
    if evidence.task == "binary":
        return {"roc": _roc(truth, answers[:, 1]), "reliability": _reliability(truth, answers[:, 1])}
    return {"reliability": _reliability((answered(answers) == truth).astype(np.float64), answers.max(axis=1))}


def _roc(truth: Floats, score: Floats) -> list[list[float]]:
    """[share of false found, share of true found] by falling threshold, at most 101 points; empty with one class."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]
    found = np.cumsum(truth[order])[last_of_ties]
    missed = last_of_ties + 1 - found
    if not found[-1] or not missed[-1]:
        return []
    points = np.column_stack([np.r_[0, missed / missed[-1]], np.r_[0, found / found[-1]]])
    kept = np.unique(np.linspace(0, len(points) - 1, _POINTS).round().astype(int))
    return [[round(float(x), 6), round(float(y), 6)] for x, y in points[kept]]


def _reliability(hits: Floats, given: Floats) -> list[Json]:
    """For each of ten bins of probability: rows, mean probability, share of hits."""
    bins = np.clip((given * _BINS).astype(np.intp), 0, _BINS - 1)
    return [
        {"rows": int(rows.sum()), "mean": float(given[rows].mean()), "observed": float(hits[rows].mean())}
        for each in range(_BINS)
        if (rows := bins == each).any()
    ]


def _by_tenths(truth: Floats, values: Floats) -> list[Json]:
    """Mean answer and mean truth in each tenth of the rows, by rising answer."""
    tenths = [rows for rows in np.array_split(np.argsort(values, kind="stable"), _BINS) if len(rows)]
    return [
        {"rows": len(rows), "mean": float(values[rows].mean()), "observed": float(truth[rows].mean())}
        for rows in tenths
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
