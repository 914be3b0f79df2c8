"""`modelbus up`: the stack, then the services, until a signal; then all of it down again, services first."""

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from compose.embedded.services import processes
from compose.embedded.stack import Stack


@asynccontextmanager
async def running(folder: Path, scorers: int = 1) -> AsyncIterator[Stack]:
    """The stack with its services, all ready. Raises StackInUse, StartFailed."""
    async with Stack(folder) as stack:
        await stack.supervisor.start(*processes(stack.environment, scorers))
        yield stack


async def up(folder: Path, scorers: int = 1, on_ready: Callable[[Stack], Awaitable[None] | None] | None = None) -> int:
    """Run until SIGINT or SIGTERM, whenever it comes; returns the exit code, 0. Raises StackInUse, StartFailed.

    `on_ready` is called once with the stack when all is ready; a coroutine runs until it ends or the signal comes.
    Further signals change nothing: the order of stopping is kept, and each process has its own time to stop in.
    """
    serving = asyncio.create_task(_serve(folder, scorers, on_ready))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not serving.cancelling():
            serving.cancel()

    for word in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(word, stop)
    try:
        await asyncio.wait([serving])
    finally:
        for word in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(word)
    if not serving.cancelled():
        serving.result()
    return 0


async def _serve(folder: Path, scorers: int, on_ready: Callable[[Stack], Awaitable[None] | None] | None) -> None:
    async with running(folder, scorers) as stack:
        if on_ready is not None and inspect.isawaitable(waiting := on_ready(stack)):
            await waiting
        await asyncio.Event().wait()
