"""A record that ends its process again and again is found in a child, and parked, so that its partition goes on."""

import asyncio
import base64
import json
import logging
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import asyncpg

from services.ingestor.domain.blocks import Refused
from services.ingestor.domain.buffer import Batch
from services.ingestor.domain.sources import Source
from services.ingestor.store import Store
from shared.postgres import AWAY

DEATHS = 2  # so many processes may end over the same records before they are tried in a child
_AT_A_TIME = 1000  # records; only where these are not outlived, each alone
_READ_SECONDS = 60.0  # a child's start included
_ERROR = "a process that reads nothing but this record does not outlive it"
log = logging.getLogger(__name__)


class Isolation:
    """Knows of earlier lives that ended while they read what this one is about to read."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._life = uuid.uuid4().hex

    async def killers(self, source: Source, batch: Batch) -> list[Refused] | None:
        """To be asked before a batch is read; None when nothing speaks against it, or Postgres is away.

        Raises:
            RuntimeError: the batch cannot be sifted.
        """
        try:
            async with self._pool.acquire() as connection:
                deaths = await Store(connection).attempt(source.topic, batch.starts, self._life)
        except AWAY as error:
            log.warning("%s: earlier attempts cannot be looked up: %r", source.table, error)
            return None
        if deaths < DEATHS:
            return None
        log.error("%s: %s processes ended over what starts at %s", source.table, deaths, dict(batch.starts))
        return await sift(source, batch, attempts=deaths + 1)

    async def survived(self, source: Source) -> None:
        """An attempt failed, and not by the end of its process."""
        try:
            async with self._pool.acquire() as connection:
                await Store(connection).survived(source.topic, self._life)
        except AWAY as error:
            log.warning("%s: an attempt stays unaccounted for: %r", source.table, error)


async def sift(source: Source, batch: Batch, *, attempts: int) -> list[Refused]:
    """The records of a batch that end, or hold up, a process that reads nothing but them."""
    found = []
    async with _Trial(source) as trial:
        for block in batch.unread:
            for start in range(0, len(block), _AT_A_TIME):
                rows = range(start, min(start + _AT_A_TIME, len(block)))
                if await trial.outlived([block.values[row] for row in rows]):
                    continue
                fatal = [row for row in rows if not await trial.outlived([block.values[row]])]
                found += [Refused(block.origin(row), "exhausted", _ERROR, attempts) for row in fatal]
    for killer in found:
        log.error("%s: %s@%s: %s", source.topic, killer.taken.partition, killer.taken.offset, _ERROR)
    return found


class _Trial:
    """A child that reads records; a new one each time that it does not outlive them."""

    def __init__(self, source: Source) -> None:
        self._asked = {"kind": source.kind, "spec": source.spec.model_dump(mode="json")}
        self._child: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def outlived(self, values: Sequence[bytes | None]) -> bool:
        """Whether a child has read these records."""
        if self._child is None:
            await self._start()
        return await self._says([None if value is None else base64.b64encode(value).decode() for value in values])

    async def _start(self) -> None:
        """Raises RuntimeError when a child cannot even start: then the records are not to blame."""
        command = [sys.executable, "-m", "services.ingestor.trial"]
        self._child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        if not await self._says(self._asked, []):
            raise RuntimeError("the process that reads records for trial does not start")

    async def _says(self, *lines: object) -> bool:
        assert self._child
        assert self._child.stdin
        assert self._child.stdout
        try:
            self._child.stdin.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            await self._child.stdin.drain()
            answered = await asyncio.wait_for(self._child.stdout.readline(), _READ_SECONDS) != b""
        except (OSError, TimeoutError):
            answered = False
        if not answered:
            await self._end()
        return answered

    async def _end(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()
            self._child = None
