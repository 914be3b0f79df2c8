"""The report: every gate with its evidence, the curves, the data and the surroundings. JSON, canonical."""

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

from schemas.events.parts import Candidate
from services.validator.domain.evidence import Evidence
from services.validator.domain.figures import curves, scorable
from services.validator.domain.gate import Finding

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
        "curves": curves(evidence),
        **surroundings,
    }
    return json.dumps(plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _metrics(evidence: Evidence) -> dict[str, float]:
    return evidence.metrics if scorable(evidence) else {}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
