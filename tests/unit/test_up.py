"""Stopping what `modelbus up` runs: in order, however often the signal comes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from compose.embedded import up as module


async def test_a_second_signal_does_not_break_off_the_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    @asynccontextmanager
    async def running(*_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for part in ("services", "stack"):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0.01)  # the loop takes the signal in meanwhile
                stopped.append(part)

    monkeypatch.setattr(module, "running", running)

    code = await module.up(tmp_path, on_ready=lambda _: os.kill(os.getpid(), signal.SIGTERM))

    assert (code, stopped) == (0, ["services", "stack"])
