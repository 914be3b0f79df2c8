"""A model card: what a version is, how good, for whom, of what it was made and why it may serve or not. JSON.

Mitchell et al.: Model Cards for Model Reporting, FAT* 2019.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from schemas.events.parts import Candidate
from services.validator.domain import bootstrap
from services.validator.domain.data_gates import alone
from services.validator.domain.evidence import Evidence
from services.validator.domain.fairness_gates import gaps
from services.validator.domain.figures import drawn, scorable
from services.validator.domain.gate import Finding
from services.validator.domain.importance import importance
from services.validator.domain.limits import limits
from services.validator.domain.report import plain
from services.validator.domain.slice_gates import slices
from services.validator.domain.spot_gates import weak_spots
from services.validator.domain.summary import summary
from shared.quality import HIGHER_IS_BETTER, main_metric, metrics

_MIN_ROWS = 200  # of a weak spot, where no gate says another
Json = dict[str, Any]


def card(
    candidate: Candidate, evidence: Evidence, findings: Sequence[Finding], surroundings: Mapping[str, Any]
) -> Json:
    """All that the page shows, as plain numbers and sentences.

    `surroundings` are those of the report, and the contents of `manifest` and `reference`, empty where not readable.
    """
    failed = [finding.gate for finding in findings if finding.gate.verdict == "failed"]
    spec = candidate.spec
    content = {
        "model": candidate.model,
        "run_id": candidate.run_id,
        "owner": spec.owner,
        "purpose": spec.purpose,
        "task": spec.task,
        "answers": _answers(candidate),
        "verdict": "rejected" if failed else "validated",
        "reasons": [gate.reason for gate in failed],
        "gates": [finding.gate.model_dump(mode="json") for finding in findings],
        "champion": surroundings.get("champion"),
        "data": surroundings["data"] | {"features": _features(candidate, surroundings["reference"])},
        "made": _made(candidate, surroundings["manifest"]),
        "rollout": spec.rollout.model_dump(mode="json"),
        "artifacts": candidate.model_dump(mode="json", include={"onnx", "skops", "manifest", "reference"}),
    } | _measured(evidence, findings)
    found: Json = plain(content)
    return found | {"summary": summary(found), "limits": limits(candidate, found)}


def canonical(content: Json) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _answers(candidate: Candidate) -> Json:
    stream, costs = candidate.stream_spec, candidate.spec.costs
    return {
        "stream": stream.stream,
        "entity": stream.entity,
        "classes": list(candidate.signature.classes),
        "delay_seconds": stream.label.delay / timedelta(seconds=1),
        "feedback": stream.label.feedback,
        "threshold": (costs.threshold if costs else 0.5) if candidate.spec.task == "binary" else None,
        "costs": costs.model_dump() if costs else None,
    }


def _measured(evidence: Evidence, findings: Sequence[Finding]) -> Json:
    """What only a candidate that could be asked has."""
    if scorable(evidence) is None:
        return {"quality": [], "figures": {}, "importance": {}, "slices": [], "weak_spots": [], "fairness": []}
    details = {finding.gate.name: finding.detail for finding in findings}
    gate, groups = evidence.spec.gates.weak_spots, evidence.rows.groups
    return {
        "metric": main_metric(evidence.task)[0],
        "quality": _quality(evidence),
        "cost": _cost(evidence),
        "figures": drawn(evidence),
        "importance": importance(evidence),
        "slices": details.get("slices", {}).get("slices") or slices(evidence, [each for each in groups if each.slice]),
        "weak_spots": details.get("weak_spots", {}).get("parts")
        or weak_spots(evidence, gate.min_rows if gate else _MIN_ROWS),
        "fairness": _fairness(evidence),
        "robustness": details.get("robustness", {}).get("drops", {}),
        "latency": details.get("latency_p99_ms", {}),
        "alone": details.get("leakage", {}).get("features") or alone(evidence),
    }


def _quality(evidence: Evidence) -> list[Json]:
    """Each metric with its 95 % confidence, beside the champion and one who always says the mean."""
    rows, found = evidence.rows, []
    champion = metrics(evidence.task, rows.truth, rows.champion) if rows.champion is not None else {}
    constant = metrics(evidence.task, rows.truth, _constant(evidence))
    for name, value in evidence.metrics.items():
        low, high = bootstrap.interval(evidence.replicates(name))
        found.append(
            {
                "metric": name,
                "value": value,
                "confidence": [low, high],
                "champion": champion.get(name),
                "constant": constant.get(name),
                "higher_is_better": HIGHER_IS_BETTER[name],
            }
        )
    return found


def _constant(evidence: Evidence) -> Any:
    """For every held-out row the mean of the rows that were learned from."""
    truth = evidence.learned.truth if evidence.learned and len(evidence.learned.truth) else evidence.rows.truth
    rows, classes = len(evidence.rows.truth), len(evidence.signature.classes)
    if not classes:
        return np.full(rows, truth.mean())
    return np.tile(np.bincount(truth.astype(np.intp), minlength=classes) / len(truth), (rows, 1))


def _cost(evidence: Evidence) -> Json | None:
    """By the declared costs and per 1000 rows: the candidate, the champion, and the cheaper constant."""
    costs = evidence.spec.costs
    if costs is None or evidence.task != "binary":
        return None
    truth, champion = evidence.rows.truth == 1, evidence.rows.champion

    def cost(said: Any) -> float:
        wrong = costs.false_positive * (said & ~truth).mean() + costs.false_negative * (~said & truth).mean()
        return float(1000 * wrong)

    nothing, everything = np.zeros_like(truth), np.ones_like(truth)
    return {
        "candidate": cost(evidence.said == 1),
        "champion": None if champion is None else cost(champion[:, 1] >= costs.threshold),
        "constant": min(cost(nothing), cost(everything)),
    }


def _fairness(evidence: Evidence) -> list[Json]:
    if evidence.task == "regression":
        return []
    sensitive = [group for group in evidence.rows.groups if group.sensitive]
    criteria = ("demographic_parity", "equalized_odds")
    return [
        {"criterion": criterion} | each
        for group in sensitive
        for criterion in criteria
        for each in gaps(evidence, group, criterion)
    ]


def _features(candidate: Candidate, reference: Mapping[str, Any]) -> list[Json]:
    """Each feature as declared and as the rows of the run had it."""
    found = []
    for column in candidate.signature.features:
        declared, part = candidate.stream_spec.features[column.name], reference.get("features", {}).get(column.name, {})
        counts, missing = part.get("counts", []), part.get("missing", part.get("unseen", 0))
        rows = sum(counts) + missing
        found.append(
            {
                "name": column.name,
                "type": column.type,
                "declared": declared.model_dump(mode="json", include={"min", "max"}) if column.type == "float" else {},
                "values": len(column.values),
                "never": [value for value, count in zip(column.values, counts, strict=False) if count == 0],
                "missing": missing / rows if rows else None,
                "between": [part["edges"][0], part["edges"][-1]] if part.get("edges") else None,
                "sensitive": getattr(declared, "sensitive", False),
                "slice": getattr(declared, "slice", False),
            }
        )
    return found


def _made(candidate: Candidate, manifest: Mapping[str, Any]) -> Json:
    """With what and how, by the manifest."""
    names = ("chosen", "code_version", "lock_hash", "libraries", "python", "seed", "quarantined", "since")
    return {name: manifest.get(name) for name in names} | {
        "trials": len(manifest.get("trials", [])),
        "split": manifest.get("split", {}),
        "window_seconds": candidate.spec.training.window / timedelta(seconds=1),
    }
