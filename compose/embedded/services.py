"""The processes of modelbus itself: six services, and the deployer's further parts: scorers and a gateway."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from compose.embedded.folder import SCORER_PORTS
from compose.embedded.probes import http_answers
from compose.embedded.stack import SERVICES
from compose.embedded.supervisor import Process

CHECKOUT = Path(__file__).parents[2]
# one core each: they scale by processes, and their libraries would start a thread for every core; deltalake's own
# allocator would keep, for each thread that it ever had, most of what that has freed
FRUGAL = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "_RJEM_MALLOC_CONF": "background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0",
    "PYTHONUNBUFFERED": "1",
}
VALIDATOR_ALONE = {"MODELBUS_VALIDATOR_SIGNING_KEY"}
ONE_OF_EACH = {"MODELBUS_KAFKA_REPLICA": "embedded"}


def processes(environment: Mapping[str, str], scorers: int = 1) -> list[Process]:
    """What runs on a stack with this environment: each service once, a gateway, scorers of slots 0 … scorers - 1."""
    if not 1 <= scorers <= SCORER_PORTS.step:
        raise ValueError(f"{scorers} scorers; expected 1 to {SCORER_PORTS.step}")
    shared = {name: value for name, value in environment.items() if name not in VALIDATOR_ALONE}
    services = [_service(name, environment if name == "validator" else shared) for name in SERVICES]
    return [*services, *(_scorer(slot, shared) for slot in range(scorers)), _gateway(shared)]


def _service(name: str, environment: Mapping[str, str]) -> Process:
    return _process(name, (f"services.{name}",), int(environment[f"MODELBUS_{name.upper()}_HTTP_PORT"]), environment)


def _scorer(slot: int, environment: Mapping[str, str]) -> Process:
    port = int(environment["MODELBUS_SCORER_HTTP_PORT"]) + slot
    return _process(f"scorer-{slot}", ("services.deployer.scorer", "--slot", str(slot)), port, environment)


def _gateway(environment: Mapping[str, str]) -> Process:
    return _process(
        "gateway", ("services.deployer.gateway",), int(environment["MODELBUS_GATEWAY_HTTP_PORT"]), environment
    )


def _process(name: str, module: tuple[str, ...], port: int, environment: Mapping[str, str]) -> Process:
    return Process(
        name=name,
        argv=(sys.executable, "-m", *module),
        environment=FRUGAL | ONE_OF_EACH | dict(os.environ) | dict(environment),
        folder=CHECKOUT,
        ready=lambda: http_answers(port, "/readyz"),
        grace_seconds=15,
    )
