"""What is drawn of a candidate: curves and counts over the held-out rows, as plain numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.validator.domain import bootstrap
from services.validator.domain.evidence import Evidence, Scored
from shared.quality import Floats

_POINTS = 101  # of a ROC curve
_BINS = 10
_BARS = 20
Json = dict[str, Any]


def scorable(evidence: Evidence) -> Scored | None:
    """The scored rows, where there are any and the answers can be compared with the truth."""
    scored = evidence.scored
    if scored is None or not len(scored.truth) or scored.flaw(len(evidence.signature.classes)):
        return None
    return scored


def curves(evidence: Evidence) -> Json:
    """binary: ROC and reliability; multiclass: reliability of the answered class; regression: truth by tenths."""
    scored = scorable(evidence)
    if scored is None:
        return {}
    truth, answers = scored.truth, scored.answers
    if evidence.task == "regression":
        return {"tenths": _by_tenths(truth, answers)}
    if evidence.task == "binary":
        return {"roc": roc(truth, answers[:, 1]), "reliability": _reliability(truth, answers[:, 1])}
    return {"reliability": _reliability((bootstrap.answered(answers) == truth).astype(np.float64), answers.max(axis=1))}


def drawn(evidence: Evidence) -> Json:
    """The curves, the champion's beside them, how answers are spread, and what was confused with what."""
    scored = scorable(evidence)
    if scored is None:
        return {}
    found = curves(evidence) | {"spread": _spread(evidence, scored)}
    if evidence.task == "binary" and scored.champion is not None:
        found["champion_roc"] = roc(scored.truth, scored.champion[:, 1])
    if evidence.task != "regression":
        found["confusion"] = confusion(evidence)
    return found


def roc(truth: Floats, score: Floats) -> list[list[float]]:
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


def _spread(evidence: Evidence, scored: Scored) -> Json:
    """Counts of answers in 20 bars: probabilities by what was true, or how far numbers were off."""
    if evidence.task == "regression":
        missed = scored.answers - scored.truth
        return _bars({"answer minus truth": missed}, *np.quantile(missed, [0.005, 0.995]))
    classes = evidence.signature.classes
    if evidence.task == "binary":
        parts = {classes[code]: scored.answers[scored.truth == code, 1] for code in (0, 1)}
        return _bars(parts, 0.0, 1.0)
    right, given = bootstrap.answered(scored.answers) == scored.truth, scored.answers.max(axis=1)
    return _bars({"wrong": given[~right], "right": given[right]}, 0.0, 1.0)


def _bars(parts: Mapping[str, Floats], low: float, high: float) -> Json:
    edges = np.linspace(low, max(high, low + 1e-9), _BARS + 1)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in parts.items()}
    return {"edges": edges.tolist(), "counts": counts}


def confusion(evidence: Evidence) -> list[list[int]]:
    """Rows by truth (down) and by what scorers would answer (across)."""
    classes = len(evidence.signature.classes)
    places = evidence.rows.truth.astype(np.intp) * classes + evidence.said
    counts: list[list[int]] = np.bincount(places, minlength=classes**2).reshape(classes, classes).tolist()
    return counts
