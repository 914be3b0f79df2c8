"""Settings of the ingestor."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """When a table is committed: at so many records or bytes, or when its oldest record has waited so long."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_INGESTOR_", frozen=True)

    commit_rows: int = Field(default=250_000, ge=1)
    commit_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    commit_seconds: float = Field(default=2.0, gt=0)
    compact_files: int = Field(default=64, ge=2)  # so many small files of a table are rewritten as few
    clean_seconds: float = Field(default=3600.0, gt=0)  # from one look for what nobody needs to the next
    keep_days: float = Field(default=3650.0, gt=0)  # any version stays readable so long; a pinned one for ever
    stalled_after_seconds: float = Field(default=180.0, gt=0)
