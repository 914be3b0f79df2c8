"""A gateway as a child process, and requests as the protocol writes them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.scoring_world import ROOT, free_port

TOKEN = "a-caller-of-the-tests"
GRANTED = {"Authorization": f"Bearer {TOKEN}"}


class Gateway:
    """A child to ask and to kill."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.port = free_port()
        self._log = folder / "gateway.log"
        named = {"http_port": self.port, "caller_token": TOKEN, **settings}
        self._settings = {f"MODELBUS_GATEWAY_{name.upper()}": str(value) for name, value in named.items()}
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.deployer.gateway"],
                cwd=ROOT,
                env=os.environ | self._settings,
                stderr=log,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def answers(self, path: str) -> bool:
        """Whether a path answers 200 now."""
        try:
            return httpx.get(f"{self.url}{path}", headers=GRANTED).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def serves(self, model: str) -> bool:
        return self.answers("/v2/health/ready") and self.answers(f"/v2/models/{model}/ready")

    def infer(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v2/models/{path}/infer", json=body, headers=GRANTED | headers, timeout=150)

    def described(self) -> dict[str, Any]:
        """Its OpenAPI document."""
        document: dict[str, Any] = httpx.get(f"{self.url}/openapi.json", headers=GRANTED).json()
        return document

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics").text

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def gateway(folder: Path, **settings: Any) -> Iterator[Gateway]:
    """A running gateway; it is stopped in the end."""
    running = Gateway(folder, **settings)
    try:
        yield running
    finally:
        running.stop(signal.SIGKILL)


def asking(count: int = 1, entity: Any = "machine-1", **more: Any) -> dict[str, Any]:
    """A request of so many rows on the stream of tests/scoring_world.py."""
    heat = [(row % 9 - 4) / 2 for row in range(count)]
    colour = [("red", "green")[row % 2] for row in range(count)]
    return {
        "parameters": {"entity": entity},
        "inputs": [
            {"name": "heat", "shape": [count], "datatype": "FP64", "data": heat},
            {"name": "colour", "shape": [count, 1], "datatype": "BYTES", "data": colour},
        ],
        **more,
    }


def output(answer: httpx.Response, name: str) -> list[Any]:
    """The data of one output tensor."""
    (found,) = [each["data"] for each in answer.json()["outputs"] if each["name"] == name]
    return list(found)
