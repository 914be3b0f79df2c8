"""How commands find the registry, and what they say when they cannot."""

import socket

import pytest
import typer
from typer.testing import CliRunner

from cli.client import Registry, RegistryError, settings
from cli.main import app as modelbus
from shared.settings import KafkaSettings

TOKEN = {"MODELBUS_REGISTRY_OPERATOR_TOKEN": "operator-token"}


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_without_a_stack_the_registry_cannot_be_found() -> None:
    with pytest.raises(RegistryError, match=r"no stack runs in \.modelbus;"):
        Registry("viewer", environment={})
    with pytest.raises(RegistryError, match="no stack runs in elsewhere;"):
        Registry("viewer", environment={"MODELBUS_FOLDER": "elsewhere"})


def test_a_higher_roles_token_will_do_and_a_lower_ones_will_not() -> None:
    environment = {"MODELBUS_REGISTRY_HTTP_PORT": "1", **TOKEN}

    with Registry("viewer", environment=environment), Registry("operator", environment=environment):
        pass
    with pytest.raises(RegistryError, match="MODELBUS_REGISTRY_APPROVER_TOKEN"):
        Registry("approver", environment=environment)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "name its folder (--stack), or set MODELBUS_KAFKA_BOOTSTRAP_SERVERS"),
        (
            {"BOOTSTRAP_SERVERS": "k:1", "SECURITY_PROTOCOL": "sasl_ssl"},
            "MODELBUS_KAFKA_SECURITY_PROTOCOL: Input should",
        ),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str], told: str
) -> None:
    monkeypatch.delenv("MODELBUS_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(f"MODELBUS_KAFKA_{name}", value)

    with pytest.raises(typer.Exit):
        settings(KafkaSettings)

    assert told in capsys.readouterr().err


def test_a_registry_that_is_not_up_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELBUS_REGISTRY_URL", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("MODELBUS_REGISTRY_OPERATOR_TOKEN", "operator-token")

    found = CliRunner().invoke(modelbus, ["status"])

    assert found.exit_code == 1
    assert "does not answer" in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize("version", ["flood", "flood:", "flood:x", ":3"])
def test_a_version_is_written_model_colon_number(version: str) -> None:
    found = CliRunner().invoke(modelbus, ["approve", version])

    assert found.exit_code == 2
    assert "MODEL:VERSION" in found.stderr


def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    found = CliRunner().invoke(modelbus, ["train", "../audit"])

    assert found.exit_code == 2
    assert "a model's name" in found.stderr
