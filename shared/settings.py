"""Settings of the platform, read once from the environment. Services add their own in services/<name>/settings.py."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """How to reach the broker."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_KAFKA_", frozen=True)

    bootstrap_servers: str
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: str | None = None
    replication_factor: int = Field(default=1, ge=1)
    # names this replica among those of its service: one that restarts takes its partitions back at once (KIP-345)
    replica: str | None = None

    def librdkafka(self) -> dict[str, Any]:
        """The same as properties of confluent-kafka."""
        properties = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "ssl.ca.location": self.ssl_ca_file,
        }
        if self.security_protocol.startswith("SASL"):
            properties |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password.get_secret_value() if self.sasl_password else None,
            }
        return {name: value for name, value in properties.items() if value is not None}


class PostgresSettings(BaseSettings):
    """One database; each service has a schema of its own in it."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_POSTGRES_", frozen=True)

    dsn: SecretStr
    pool_size: int = Field(default=5, ge=2)


class S3Settings(BaseSettings):
    """One bucket of any S3 with conditional writes (If-None-Match)."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_S3_", frozen=True)

    endpoint: str
    access_key: str
    secret_key: SecretStr
    bucket: str = "modelbus"
    region: str = "us-east-1"
    secure: bool = False


class SigningSettings(BaseSettings):
    """Whose signature a version must bear to be loaded: a key in PEM, or a folder of several while one is replaced."""

    model_config = SettingsConfigDict(env_prefix="MODELBUS_SIGNING_", frozen=True)

    public_key: Path

    @property
    def public_keys(self) -> list[Path]:
        return sorted(self.public_key.glob("*.pem")) if self.public_key.is_dir() else [self.public_key]


class TelemetrySettings(BaseSettings):
    """The standard OTEL_* names; the exporters read their own endpoints."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", frozen=True)

    traces_exporter: Literal["none", "otlp", "zipkin"] = "none"
    exporter_zipkin_endpoint: str = "http://localhost:9411/api/v2/spans"


class HttpSettings(BaseSettings):
    """Where a process answers /livez, /readyz and /metrics; subclasses add the service's prefix."""

    model_config = SettingsConfigDict(frozen=True)

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535)
