"""What the ingestor says."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event
from schemas.events.parts import Digest, Offsets, Time
from schemas.specs import Part

Kind = Literal["data", "labels", "predictions"]  # of tables; each is fed by the topics of the same name


class FeatureProfile(Part):
    """Counts of one column over the rows of a commit."""

    missing: int = 0
    flagged: int = 0
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    top: dict[str, int] = {}


class DatasetCommitted(Event, event="dataset.committed", key="stream"):
    """A table has a new version that holds every accepted record up to `offsets`."""

    stream: str
    kind: Kind
    table: str
    version: int = Field(ge=0)
    offsets: Offsets
    rows_added: int = Field(ge=0)
    rows_total: int = Field(ge=0)
    time_min: Time | None
    time_max: Time | None
    rejected: int = Field(default=0, ge=0)
    profile: dict[str, FeatureProfile] = {}


class ErasedTable(Part):
    """Rows of an entity that are gone, and in how many files they lay; no version before `version` is left."""

    table: str
    version: int = Field(ge=0)
    rows: int = Field(ge=0)
    files: int = Field(ge=0)


class Remainder(Part):
    """A topic that may still hold records of the entity, until when at the latest; null is for ever."""

    topic: str
    expires_at: Time | None


class Affected(Part):
    """A registered version whose cut held rows that are gone: its bytes cannot be made again."""

    model: str
    version: int = Field(ge=1)


class EntityErased(Event, event="entity.erased", key="receipt"):
    """What an erasure took, and what only time will take. Of an entity's events that came later nothing is gone."""

    receipt: Digest
    tables: tuple[ErasedTable, ...]
    letters: int = Field(ge=0)
    remaining: tuple[Remainder, ...]
    affected: tuple[Affected, ...]
