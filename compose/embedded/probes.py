"""Is a part ready? Each probe asks the real thing over its own protocol, so an open port alone does not count."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

from compose.embedded.folder import LOOPBACK

METADATA, METADATA_VERSION = 3, 1


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a port on the loopback."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def http_answers(port: int, path: str, status: int = 200) -> bool:
    """Whether GET `path` is answered with this status."""
    async with connection(port) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.readline()
        return answer.split()[1:2] == [str(status).encode()]


async def kafka_answers(port: int) -> bool:
    """Whether the broker lists itself (Kafka protocol, Metadata request v1 for no topic)."""
    async with connection(port) as (reader, writer):
        request = struct.pack(">hhihi", METADATA, METADATA_VERSION, 1, -1, 0)
        writer.write(struct.pack(">i", len(request)) + request)
        _length, _correlation, brokers = struct.unpack(">iii", await reader.readexactly(12))
        return bool(brokers > 0)


async def postgres_accepts(port: int, user: str, database: str) -> bool:
    """Whether the server asks for a password (protocol 3.0: R), so is neither starting nor stopping (E)."""
    async with connection(port) as (reader, writer):
        body = struct.pack(">i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
        writer.write(struct.pack(">i", len(body) + 4) + body)
        return await reader.readexactly(1) == b"R"
