"""What the registry is told from outside."""

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """Where it listens, and one bearer token a role."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_REGISTRY_", frozen=True)

    viewer_token: SecretStr = Field(min_length=16)
    operator_token: SecretStr = Field(min_length=16)
    approver_token: SecretStr = Field(min_length=16)
    expiry_poll_seconds: float = Field(default=5, gt=0)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({self.viewer_token, self.operator_token, self.approver_token}) < 3:
            raise ValueError("expected a token of its own for each role")
        return self
