"""What the ingestor says."""

from typing import Literal

from pydantic import Field

from schemas.events.base import Event
from schemas.events.parts import Offsets, Time
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
