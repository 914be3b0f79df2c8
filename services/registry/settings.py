"""What the registry is told from outside."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from shared.access import NAME
from shared.settings import HttpSettings

Token = Annotated[SecretStr, Field(min_length=16)]


class Settings(HttpSettings):
    """Where it listens, and one bearer token a role.

    `approvers` have tokens of their own (JSON: {"bob": "…"}): then four eyes are proven to be two people's.
    """

    model_config = SettingsConfigDict(env_prefix="MODELBUS_REGISTRY_", frozen=True)

    viewer_token: Token
    operator_token: Token
    approver_token: Token
    approvers: dict[str, Token] = {}
    expiry_poll_seconds: float = Field(default=5, gt=0)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        tokens = [self.viewer_token, self.operator_token, self.approver_token, *self.approvers.values()]
        if len(set(tokens)) < len(tokens):
            raise ValueError("expected a token of its own for each role and approver")
        if odd := [name for name in self.approvers if not NAME.fullmatch(name)]:
            raise ValueError(f"approvers: expected names of 1 to 64 letters, digits or any of _ . @ + -, got {odd}")
        return self
