"""What the validator says."""

from schemas.events.base import Event
from schemas.events.parts import Artifact, Candidate, Card, Gate


class ModelValidated(Event, event="model.validated", version=(1, 3), key="model"):
    """Every gate that was asked for passed.

    1.2 added `attestation`, the bundle that signs the version's files; 1.3 `card`.
    """

    model: str
    run_id: str
    candidate: Candidate
    gates: tuple[Gate, ...]
    report: Artifact
    attestation: Artifact | None = None
    card: Card | None = None


class ModelRejected(Event, event="model.rejected", version=(1, 2), key="model"):
    """At least one gate failed; the reasons say which and why. 1.2 added `card`."""

    model: str
    run_id: str
    candidate: Candidate
    gates: tuple[Gate, ...]
    report: Artifact | None
    explanation: str
    card: Card | None = None
