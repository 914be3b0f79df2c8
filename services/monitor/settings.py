"""Settings of the monitor, prefix MODELBUS_MONITOR_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """Bounds of memory and of the time between snapshots."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_MONITOR_", frozen=True)

    round_records: int = Field(default=20_000, ge=100)  # at most so many records a round, over all topics of a stream
    pending: int = Field(default=100_000, ge=100)  # predictions of a model that wait for labels; beyond, sampled by id
    early_labels: int = Field(default=50_000, ge=100)  # labels of a model that wait for their predictions
    unanswered_rows: int = Field(default=50_000, ge=100)  # feature rows of a stream that wait for their predictions
    round_seconds: float = Field(default=0.2, ge=0)  # a new round starts at most this often
    snapshot_seconds: float = Field(
        default=2.0, gt=0
    )  # state that decided nothing, or of a backlog, is written this often
