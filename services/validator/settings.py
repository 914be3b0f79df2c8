"""Settings of the validator."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """What one judgement may use."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_VALIDATOR_", frozen=True)

    job_timeout_seconds: float = Field(default=300.0, gt=0)
    job_memory_bytes: int = Field(default=4 * 2**30, ge=2**29)
