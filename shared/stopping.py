"""How a process waits for its end."""

import asyncio
import logging
import signal

log = logging.getLogger(__name__)


async def until_stopped(loops: list[asyncio.Task[None]]) -> None:
    """Wait for SIGINT or SIGTERM.

    Raises:
        Exception: what a loop died of, or RuntimeError when one ended by itself.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    stop = asyncio.create_task(stopped.wait(), name="stop")
    done, _ = await asyncio.wait({stop, *loops}, return_when=asyncio.FIRST_COMPLETED)
    for task in done - {stop}:
        if error := task.exception():
            log.error("%s broke, so all ends: %r", task.get_name(), error)
        await task
        raise RuntimeError(f"{task.get_name()} ended by itself")
    stop.cancel()
