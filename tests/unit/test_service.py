"""A service's loops end when it ends, and the one that ended it is named at once."""

import asyncio
import logging

import pytest

from shared import service
from shared.stopping import until_stopped


async def test_a_loop_whose_clean_up_hides_its_end_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_CANCEL_AGAIN_SECONDS", 0.01)
    rounds = 0

    async def relay() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            try:
                try:
                    await asyncio.sleep(60)
                finally:
                    if rounds < 3:
                        raise ConnectionError("the connection has gone")
            except ConnectionError:
                continue

    task = asyncio.create_task(relay())
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await service._cancel([task])

    assert (task.cancelled(), rounds) == (True, 3)


async def test_the_loop_that_breaks_is_named_before_the_others_have_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"), caplog.at_level(logging.ERROR):
        await until_stopped([asyncio.create_task(broken(), name="stream")])

    assert caplog.messages == ["stream broke, so all ends: ValueError('seven')"]
