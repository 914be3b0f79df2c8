"""The parent's end of a job's child (shared/child.py): start it on a leash, hear it line by line, end it."""

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from shared import leash

Payload = dict[str, Any]
_LONGEST_LINE_BYTES = 64 * 2**20
_STDERR_LINES = 40
_REPEATABLE = {
    "OMP_NUM_THREADS": "1",  # more would change the order of sums
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # sets come in one order
}
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "memory allocation of", "Cannot allocate memory", "malloc of size")


class Crashed(Exception):
    """The child ended without an outcome; the message is its last words."""

    @property
    def out_of_memory(self) -> bool:
        """Whether it died of its memory limit, as far as its last words tell."""
        return any(sign in str(self) for sign in _OUT_OF_MEMORY)


class Child:
    """A running child."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process
        self._errors: deque[str] = deque(maxlen=_STDERR_LINES)
        self._collecting = asyncio.create_task(self._collect())

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self._process.returncode is None

    async def ask(self, request: Payload) -> None:
        """Hand over the request."""
        assert self._process.stdin
        with suppress(ConnectionError):  # it died before it read; its silence will tell
            self._process.stdin.write(json.dumps(request).encode())
            await self._process.stdin.drain()
        self._process.stdin.close()

    async def lines(self) -> AsyncIterator[Payload]:
        """What it says, until its outcome.

        Raises:
            Crashed: it ended in silence, or in the middle of a line.
        """
        assert self._process.stdout
        async for line in self._process.stdout:
            if line.endswith(b"\n"):
                yield json.loads(line)
        raise Crashed(await self.last_words())

    async def last_words(self) -> str:
        """How it ended, and what it logged last; waits for its end."""
        status = await self._process.wait()
        await self._collecting
        end = f"signal {-status}" if status < 0 else f"exit status {status}"
        return "\n".join([f"the child ended with {end}", *self._errors])

    async def end(self) -> None:
        """Kill it if it still runs."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._collecting

    async def _collect(self) -> None:
        assert self._process.stderr
        async for line in self._process.stderr:
            self._errors.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def open_child(module: str, memory_bytes: int) -> AsyncIterator[Child]:
    """`python -m module`, dead when the block ends or when this process does; must be opened in the main thread."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(memory_bytes)),
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE_BYTES,
        env=os.environ | _REPEATABLE,
        start_new_session=True,  # Ctrl-C is for the service, which gives the job back; to the child it were a crash
    )
    child = Child(process)
    try:
        yield child
    finally:
        await child.end()
