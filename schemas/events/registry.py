"""What the registry says: the declarations, the versions, and what people ordered."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event
from schemas.events.parts import Digest, Gate, Release, Time
from schemas.specs import ModelSpec, Part, StreamSpec


class StreamApplied(Event, event="stream.applied", version=(1, 1), key="stream"):
    """A stream is declared, or changed compatibly; its topics exist."""

    stream: str
    revision: int = Field(ge=1)
    spec: StreamSpec
    actor: str
    reason: str


class ModelApplied(Event, event="model.applied", version=(1, 2), key="model"):
    """A model is declared or changed; carries its stream, so that no reader waits for another topic."""

    model: str
    revision: int = Field(ge=1)
    spec: ModelSpec
    stream_spec: StreamSpec
    actor: str
    reason: str


class ModelRegistered(Event, event="model.registered", version=(1, 3), key="model"):
    """A validated candidate has its number. With approval `none` it may be rolled out at once."""

    model: str
    version: int = Field(ge=1)
    release: Release
    gates: tuple[Gate, ...]
    approval: Literal["none", "required", "four_eyes"]


class ApprovalRequested(Event, event="approval.requested", key="model"):
    model: str
    version: int = Field(ge=1)
    approval: Literal["required", "four_eyes"]
    expires_at: Time


class ApprovalGiven(Event, event="approval.given", key="model"):
    """Somebody said yes, and somebody else has to, too."""

    model: str
    version: int = Field(ge=1)
    actor: str
    reason: str


class ModelApproved(Event, event="model.approved", version=(1, 3), key="model"):
    """Everyone needed said yes; the release may be rolled out."""

    model: str
    version: int = Field(ge=1)
    release: Release
    actors: tuple[str, ...]
    reason: str


class ModelRefused(Event, event="model.refused", key="model"):
    model: str
    version: int = Field(ge=1)
    actor: str
    reason: str


class ModelRetired(Event, event="model.retired", key="model"):
    model: str
    version: int = Field(ge=1)
    actor: str
    reason: str


class ModelCommented(Event, event="model.commented", key="model"):
    """What a person has to say about a model, or a version of it."""

    model: str
    version: int | None = Field(ge=1)
    actor: str
    text: str


class ErasureOrdered(Event, event="erasure.ordered", key="receipt"):
    """A person asks that an entity be taken out of what is kept of these streams.

    `receipt` is the digest of {"entity", "salt"}. Those bytes lie in the object store until the entity is gone; who has
    kept the salt can prove whom the receipt is about, and nobody else can find it out.
    """

    receipt: Digest
    streams: tuple[str, ...] = Field(min_length=1)
    actor: str
    reason: str


class EntityForgotten(Event, event="entity.forgotten", key="receipt"):
    """Somebody was taken out of tables, dead letters and reports; who it was, stands nowhere.

    `expires_at`: when the last record in the log is gone at the latest; null when the log holds none, or for ever.
    """

    receipt: Digest
    rows: int = Field(ge=0)
    letters: int = Field(ge=0)
    artifacts: int = Field(ge=0)
    expires_at: Time | None
    actor: str
    reason: str


class RolloutOrdered(Event, event="rollout.ordered", key="model"):
    """A person's word to the deployer. `rollback` ends a running rollout, or restores the champion before."""

    model: str
    order: Literal["rollback", "freeze", "unfreeze", "promote"]
    actor: str
    reason: str


class TrainingOrdered(Event, event="training.ordered", key="model"):
    """A person's word to the monitor: request a run now."""

    model: str
    actor: str
    reason: str


class AuditRow(Part):
    """A row of the audit log as it was sealed; `what` is the very text."""

    at: Time
    actor: str
    action: str
    subject: str
    reason: str
    event_id: str
    what: str
    previous_hash: str


class AuditAdvanced(Event, event="audit.advanced", version=(1, 1), key="chain"):
    """The audit log has a new last row. Said with every act, so that a chain cut short or sealed anew is found.

    1.1 added the row itself: the log can be written again from the bus, and says in which order all else was heard.
    """

    chain: Literal["registry.audit"]
    position: int = Field(ge=1)
    hash: Digest
    row: AuditRow | None = None
