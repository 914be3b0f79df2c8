"""What the validator says of its jobs: from gates to the word about a candidate."""

from collections.abc import Sequence
from typing import Final

from schemas.events.base import Event
from schemas.events.parts import Artifact, Candidate, Card, Gate
from schemas.events.validator import ModelRejected, ModelValidated
from shared.jobs import Failure, Job, Words
from shared.parent import Payload

_LONGEST_EXPLANATION = 4000  # characters; the end of a traceback says most


def judged(
    candidate: Candidate, gates: Sequence[Gate], report: Artifact, card: Card, attestation: Artifact | None
) -> ModelValidated | ModelRejected:
    """Validated when no gate failed, whatever was not asked for or had no champion; else rejected, with all reasons."""
    said = {"model": candidate.model, "run_id": candidate.run_id, "candidate": candidate, "card": card}
    failed = [gate.reason for gate in gates if gate.verdict == "failed"]
    if not failed:
        return ModelValidated(**said, gates=tuple(gates), report=report, attestation=attestation)
    return ModelRejected(**said, gates=tuple(gates), report=report, explanation="; ".join(failed))


def progressed(_job: Job, _progress: Payload) -> Sequence[Event]:
    """Judging takes seconds: nothing is said on the way."""
    return ()


def finished(job: Job, result: Payload) -> Sequence[Event]:
    """Every gate has its verdict."""
    gates = [Gate.model_validate(gate) for gate in result["gates"]]
    report, card = Artifact.model_validate(result["report"]), Card.model_validate(result["card"])
    bundle = Artifact.model_validate(result["attestation"]) if result["attestation"] else None
    return [judged(_candidate(job), gates, report, card, bundle)]


def failed(job: Job, failure: Failure) -> Sequence[Event]:
    """A candidate that could not be judged does not serve."""
    candidate, why = _candidate(job), failure.explanation[-_LONGEST_EXPLANATION:]
    return [
        ModelRejected(
            model=candidate.model,
            run_id=candidate.run_id,
            candidate=candidate,
            gates=(),
            report=None,
            explanation=f"the gates could not be judged ({failure.reason}): {why}",
        )
    ]


def _candidate(job: Job) -> Candidate:
    return Candidate.model_validate(job.request["candidate"])


WORDS: Final = Words(progressed=progressed, finished=finished, failed=failed)
