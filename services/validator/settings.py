"""Settings of the validator."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """How much one judgement may use."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_VALIDATOR_", frozen=True)

    timeout_seconds: float = Field(default=300, gt=0)
    memory_mb: int = Field(default=4096, ge=512)
    signing_key: Path  # PEM, of an elliptic curve; readable by the validator alone
