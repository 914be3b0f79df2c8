"""Settings of the deployer's three processes."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.settings import HttpSettings


class Settings(HttpSettings):
    """The rollout."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_DEPLOYER_", frozen=True)


class ScorerSettings(HttpSettings):
    """A scorer. Slots listen on `http_port` + slot; port 0 is any free one."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_SCORER_", frozen=True)

    batch_records: int = Field(default=5000, ge=1)
    # a frozen scorer holds up read_committed readers of its partitions for this long
    transaction_timeout_seconds: int = Field(default=10, ge=1)
    stalled_after_seconds: int = Field(default=60, ge=10)

    def port_of(self, slot: int) -> HttpSettings:
        """The HTTP settings of one slot."""
        return HttpSettings(http_host=self.http_host, http_port=self.http_port + slot if self.http_port else 0)


class GatewaySettings(HttpSettings):
    """The gateway."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_GATEWAY_", frozen=True)

    caller_token: SecretStr = Field(min_length=16)
    # longer than a scorer's partitions take to move to another, when it dies
    deadline_seconds: float = Field(default=30, gt=0)
    max_in_flight: int = Field(default=10_000, ge=1000)
