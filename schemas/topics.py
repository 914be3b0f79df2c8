"""Every topic, typed, with one writer each, in the order of the flow. No topic is named anywhere else."""

from dataclasses import dataclass
from typing import Final

from schemas.events import deployer, ingestor, monitor, registry, trainer, validator
from schemas.events.base import Event
from schemas.records import CorrectionRecord, DataRecord, LabelRecord, PredictionRecord
from schemas.specs import Part

SERVICES: Final = ("ingestor", "trainer", "validator", "registry", "deployer", "monitor")
MAX_RECORD_BYTES: Final = 1024 * 1024  # what a producer may send; dead letters have room for the headers on top
DEAD_LETTER_ROOM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class DataTopic:
    """A family of topics of the data plane: one per stream or per model."""

    name: str
    key: str
    writer: str
    readers: tuple[str, ...]
    record: type[Part]

    def of(self, owner: str) -> str:
        """The topic of one stream or model.

        >>> DATA.of("flights")
        'data.flights'
        """
        return f"{self.name}.{owner}"

    def owner(self, topic: str) -> str | None:
        """Whose topic this is, or None when it is of another family.

        >>> DATA.owner("data.flights"), DATA.owner("labels.flights")
        ('flights', None)
        """
        prefix = f"{self.name}."
        return topic.removeprefix(prefix) if topic.startswith(prefix) else None


@dataclass(frozen=True, kw_only=True)
class LifecycleTopic:
    """A topic of the control plane: written by one service, kept for ever, never compacted."""

    writer: str
    readers: tuple[str, ...]
    key: str
    events: tuple[type[Event], ...]
    partitions: int = 3

    @property
    def name(self) -> str:
        return f"lifecycle.{self.writer}"


DATA: Final = DataTopic(
    name="data",
    key="entity",
    writer="producers",
    readers=("ingestor", "deployer", "monitor"),
    record=DataRecord,
)
LABELS: Final = DataTopic(
    name="labels", key="entity", writer="producers", readers=("ingestor", "monitor"), record=LabelRecord
)
INGESTOR: Final = LifecycleTopic(
    writer="ingestor",
    readers=("monitor", "registry"),
    key="stream",
    events=(ingestor.DatasetCommitted, ingestor.EntityErased),
)
MONITOR: Final = LifecycleTopic(
    writer="monitor",
    readers=("trainer", "deployer", "registry"),
    key="model",
    events=(
        monitor.TrainingRequested,
        monitor.WindowMeasured,
        monitor.RolloutMeasured,
        monitor.AlertRaisedV1,
        monitor.AlertRaised,
        monitor.AlertResolved,
        monitor.DataQuarantined,
    ),
)
TRAINER: Final = LifecycleTopic(
    writer="trainer",
    readers=("validator", "registry", "monitor"),
    key="model",
    events=(trainer.TrainingProgressed, trainer.ModelTrained, trainer.TrainingFailed),
)
VALIDATOR: Final = LifecycleTopic(
    writer="validator",
    readers=("registry", "monitor"),
    key="model",
    events=(validator.ModelValidated, validator.ModelRejected),
)
REGISTRY: Final = LifecycleTopic(
    writer="registry",
    readers=("ingestor", "deployer", "monitor"),
    key="model",
    events=(
        registry.StreamApplied,
        registry.ModelApplied,
        registry.ModelRegistered,
        registry.ApprovalRequested,
        registry.ApprovalGiven,
        registry.ModelApproved,
        registry.ModelRefused,
        registry.ModelRetired,
        registry.ModelCommented,
        registry.ErasureOrdered,
        registry.EntityForgotten,
        registry.RolloutOrdered,
        registry.TrainingOrdered,
        registry.AuditAdvanced,
    ),
)
DEPLOYER: Final = LifecycleTopic(
    writer="deployer",
    readers=("registry", "monitor", "deployer", "validator"),
    key="model",
    events=(
        deployer.RolloutChanged,
        deployer.RolloutSwitched,
        deployer.RolloutEnded,
        deployer.PredictionsWithdrawn,
        deployer.CorrectionsPublished,
        deployer.LoadFailed,
        deployer.ScoringMeasured,
    ),
)
PREDICTIONS: Final = DataTopic(
    name="predictions",
    key="entity",
    writer="deployer",
    readers=("consumers", "monitor", "ingestor"),
    record=PredictionRecord,
)
SHADOW: Final = DataTopic(name="shadow", key="entity", writer="deployer", readers=("monitor",), record=PredictionRecord)
CORRECTIONS: Final = DataTopic(
    name="corrections", key="entity", writer="deployer", readers=("consumers",), record=CorrectionRecord
)
DEAD_LETTERS: Final = "dead-letters"  # the one exception to a single writer: any service parks here, bytes untouched
OPENLINEAGE: Final = "openlineage"  # run events of trainings, gates and rollouts by that standard; said by the registry

LIFECYCLE: Final = (INGESTOR, MONITOR, TRAINER, VALIDATOR, REGISTRY, DEPLOYER)
DATA_PLANE: Final = (DATA, LABELS, PREDICTIONS, SHADOW, CORRECTIONS)
TOPIC_OF: Final = {event: topic for topic in LIFECYCLE for event in topic.events}
EVENT_OF: Final = {(event.event, event.version_of_schema[0]): event for event in TOPIC_OF}
LATEST_MAJOR: Final = {name: max(major for other, major in EVENT_OF if other == name) for name, _ in EVENT_OF}
