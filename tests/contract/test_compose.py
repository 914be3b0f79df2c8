"""The container layers against the compose specification, and against what the services really read and measure."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from schemas.topics import SERVICES
from shared.settings import KafkaSettings, PostgresSettings, S3Settings, SigningSettings, TelemetrySettings

ROOT = Path(__file__).parents[2]
LAYERS = ("core.yaml", "observability.yaml")
PLATFORM = (KafkaSettings, PostgresSettings, S3Settings, TelemetrySettings)
PARTS_OF_DEPLOYER = {"scorer": "ScorerSettings", "gateway": "GatewaySettings"}
OURS = (*SERVICES, *PARTS_OF_DEPLOYER)
EXPORTERS = {"OTEL_EXPORTER_OTLP_ENDPOINT"}  # read by OpenTelemetry itself
METRIC = re.compile(r"\b(modelbus_\w+?)(?:_bucket|_sum|_count)?\b(?=[{\[\s)]|$)")


def layer(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "compose" / name).read_text())
    return read


def merged(service: str) -> dict[str, str]:
    environment: dict[str, str] = {}
    for name in LAYERS:
        environment |= layer(name)["services"].get(service, {}).get("environment", {})
    return environment


def settings_of(service: str) -> tuple[type[BaseSettings], ...]:
    owner = "deployer" if service in PARTS_OF_DEPLOYER else service
    module = importlib.import_module(f"services.{owner}.settings")
    loads = (SigningSettings,) if service in PARTS_OF_DEPLOYER else ()
    return (*PLATFORM, *loads, getattr(module, PARTS_OF_DEPLOYER.get(service, "Settings")))


def names(settings: type[BaseSettings], *, required: bool = False) -> set[str]:
    prefix = settings.model_config.get("env_prefix", "")
    fields = {name for name, field in settings.model_fields.items() if field.is_required() or not required}
    return {f"{prefix}{field}".upper() for field in fields}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_the_compose_specification(name: str) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", ROOT / "compose" / name]

    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("service", OURS)
def test_a_service_is_given_what_it_needs_and_nothing_that_it_does_not_read(service: str) -> None:
    given = set(merged(service))
    known = {name for settings in settings_of(service) for name in names(settings)}
    needed = {name for settings in settings_of(service) for name in names(settings, required=True)}

    assert given - known - EXPORTERS == set()
    assert needed - given == set()


@pytest.mark.parametrize("service", OURS)
def test_what_a_service_is_given_is_what_its_settings_accept(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (name, value) in enumerate(merged(service).items()):
        monkeypatch.setenv(name, re.sub(r"\$\{[^}]+\}", f"a-secret-of-its-own-{number}", value))

    for settings in settings_of(service):
        settings()


def test_every_container_has_a_pinned_image_limits_and_a_way_to_tell_its_health() -> None:
    for name in LAYERS:
        for service, container in layer(name)["services"].items():
            if name == "observability.yaml" and service in OURS:
                continue
            assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", container["image"]), service
            assert container["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, service
            assert "healthcheck" in container or service in {"otel-collector", "jaeger"}, service  # no shell in them


def test_kafka_writes_where_its_volume_is() -> None:
    kafka = layer("core.yaml")["services"]["kafka"]

    assert kafka["volumes"] == [f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}"]


def test_only_the_validator_is_given_the_private_key() -> None:
    services = layer("core.yaml")["services"]

    assert [service for service in services if "signing_key" in services[service].get("secrets", [])] == ["validator"]


def test_services_start_after_the_parts_they_need() -> None:
    services = layer("core.yaml")["services"]

    for service in OURS:
        assert {"kafka", "postgres", "minio"} <= services[service]["depends_on"].keys()


def test_no_secret_has_a_value_in_the_files() -> None:
    text = "".join((ROOT / "compose" / name).read_text() for name in LAYERS)

    assert not re.search(r"(PASSWORD|TOKEN|SECRET_KEY): (?!\$\{)\S", text)


def test_the_command_and_folders_of_the_image_exist() -> None:
    dockerfile = (ROOT / "compose" / "Dockerfile").read_text()

    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / each).exists() for each in copied.split()), copied


def test_dashboards_and_rules_ask_for_metrics_that_exist() -> None:
    registered = {metric["name"] for metric in yaml.safe_load((ROOT / "ops" / "telemetry.yaml").read_text())["metrics"]}
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "ops" / "grafana" / "dashboards").glob("*.json")]
    rules = yaml.safe_load((ROOT / "ops" / "prometheus" / "rules.yaml").read_text())
    asked = [target["expr"] for board in dashboards for panel in board["panels"] for target in panel.get("targets", [])]
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]

    unknown = {name for expression in asked for name in METRIC.findall(expression) if name not in registered}

    assert asked
    assert unknown == set()
