"""Settings of the trainer."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """How much its runs may use."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_TRAINER_", frozen=True)

    concurrency: int = Field(default=1, ge=1)
    timeout_seconds: float = Field(default=900, gt=0)
    memory_mb: int = Field(default=4096, ge=512)
