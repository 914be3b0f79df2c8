"""The same rooms in six services, imports that go one way, telemetry names that are registered."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from schemas.topics import SERVICES

ROOT = Path(__file__).parents[2]
ROOMS = ("__init__.py", "__main__.py", "settings.py", "app.py", "handlers.py", "store.py", "queries.sql", "migrations")
SIGNAL = re.compile(r"""(?:Counter|Gauge|Histogram)\(\s*["'](modelbus_\w+)["']""")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_rooms(service: str) -> None:
    house = ROOT / "services" / service
    missing = [room for room in ROOMS if not (house / room).exists()]
    work = "jobs.py" if service in {"trainer", "validator"} else "stream.py"
    if service != "registry" and not (house / work).exists():
        missing.append(work)
    if not ((house / "domain.py").exists() or (house / "domain").is_dir()):
        missing.append("domain")

    assert missing == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_what_it_hears_decides_and_says(service: str) -> None:
    tree = ast.parse((ROOT / "services" / service / "__init__.py").read_text())
    words = (ast.get_docstring(tree) or "").lower()

    assert len(tree.body) == 1
    assert all(word in words for word in ("hears", "decides", "says"))


@pytest.mark.parametrize("service", SERVICES)
def test_only_app_py_may_know_the_bus_framework(service: str) -> None:
    for path in (ROOT / "services" / service).rglob("*.py"):
        assert path.name == "app.py" or "faststream" not in path.read_text(), path


@pytest.mark.parametrize("service", SERVICES)
def test_the_domain_does_no_io_and_has_no_clock(service: str) -> None:
    house = ROOT / "services" / service
    files = [*house.glob("domain.py"), *house.glob("domain/*.py")]
    libraries = {
        "asyncpg",
        "aiokafka",
        "confluent_kafka",
        "minio",
        "deltalake",
        "httpx",
        "logging",
        "os",
        "time",
        "random",
    }
    plumbing = {f"shared.{module}" for module in ("postgres", "outbox", "objects", "tables", "telemetry", "kafka")}

    for path in files:
        assert not (libraries | plumbing) & set(_imports(path)), path
        assert ".now(" not in path.read_text(), path


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@pytest.mark.parametrize("service", SERVICES)
def test_handlers_are_plain_functions_named_after_their_event(service: str) -> None:
    tree = ast.parse((ROOT / "services" / service / "handlers.py").read_text())
    public = [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_")]

    assert public
    assert all(node.name.startswith("on_") and not node.decorator_list for node in public)


def test_imports_go_one_way() -> None:
    contracts = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert contracts.returncode == 0, contracts.stdout


def test_every_metric_is_registered_and_every_registered_metric_exists() -> None:
    registered = {metric["name"] for metric in yaml.safe_load((ROOT / "ops" / "telemetry.yaml").read_text())["metrics"]}
    sources = [path for folder in ("shared", "services") for path in (ROOT / folder).rglob("*.py")]

    defined = {name for path in sources for name in SIGNAL.findall(path.read_text())}

    assert defined == registered
