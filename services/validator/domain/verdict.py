"""From gates to the word about a candidate."""

from collections.abc import Sequence

from schemas.events.parts import Artifact, Candidate, Gate
from schemas.events.validator import ModelRejected, ModelValidated


def judged(candidate: Candidate, gates: Sequence[Gate], report: Artifact) -> ModelValidated | ModelRejected:
    """Validated when no gate failed, whatever was not asked for or had no champion; else rejected, with all reasons."""
    said = {"model": candidate.model, "run_id": candidate.run_id, "candidate": candidate}
    failed = [gate.reason for gate in gates if gate.verdict == "failed"]
    if not failed:
        return ModelValidated(**said, gates=tuple(gates), report=report)
    return ModelRejected(**said, gates=tuple(gates), report=report, explanation="; ".join(failed))


def unjudged(candidate: Candidate, reason: str, explanation: str) -> ModelRejected:
    """A candidate that could not be judged does not serve."""
    return ModelRejected(
        model=candidate.model,
        run_id=candidate.run_id,
        candidate=candidate,
        gates=(),
        report=None,
        explanation=f"the gates could not be judged ({reason}): {explanation}",
    )
