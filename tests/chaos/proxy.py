"""A TCP proxy whose lines can be made bad: refused, held, lost, slowed, or ended at the one request that matters."""

import asyncio
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from compose.embedded.folder import LOOPBACK

Way = Literal["asks", "answers"]
Spotter = Callable[[bytes], Collection[str]]
"""Names what it knows in the bytes that a client sends; one for each connection."""
BOTH: frozenset[Way] = frozenset({"asks", "answers"})
_CHUNK_BYTES = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: the other side is told at once, and gets nothing more


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What happens to bytes on their way. Those held go on afterwards; a connection that lost some then ends."""

    refuses: bool = False
    holds: frozenset[Way] = frozenset()
    loses: frozenset[Way] = frozenset()
    delay_seconds: float = 0.0  # of each piece of an answer

    def meets(self, way: Way) -> bool:
        """Whether it does something to bytes that go this way."""
        return way in self.holds | self.loses or (way == "answers" and self.delay_seconds > 0)


FAIR = Weather()


@dataclass(kw_only=True)
class Trap:
    """Waits for one request, then loses it, or its answer: `seconds` later the connection ends."""

    spots: str
    loses: Way
    seconds: float = 0.0
    sprung: bool = False


@dataclass(eq=False)
class _Line:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    muted: bool = False  # its trap has sprung: no answer gets through any more
    gaps: bool = False

    def end(self) -> None:
        for writer in (self.client, self.server):
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


@dataclass(eq=False)
class Proxy:
    """One port before another on the loopback; it belongs to the event loop it is started in."""

    spotter: Callable[[], Spotter] = lambda: lambda _: ()
    port: int = 0
    target: int = 0
    trap: Trap | None = None
    touched: int = 0  # connections and pieces that its weather has met
    _weather: Weather = FAIR
    _weathers: list[Weather] = field(default_factory=list)
    _turned: asyncio.Event = field(default_factory=asyncio.Event)
    _lines: set[_Line] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port; `target` may be told later."""
        self._server = await asyncio.start_server(self._connected, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()

    @contextmanager
    def under(self, weather: Weather) -> Iterator[None]:
        """It is like this while the block runs, and like whatever else comes over it meanwhile."""
        self._turn([*self._weathers, weather])
        try:
            yield
        finally:
            self._turn([each for each in self._weathers if each is not weather])

    def _turn(self, weathers: list[Weather]) -> None:
        self._weathers, self._weather = weathers, _together(weathers)
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
        for line in list(self._lines):
            if self._weather.refuses or (line.gaps and not self._weather.loses):
                line.end()
                self.touched += 1

    def reset(self) -> int:
        """End every connection there is; returns how many there were."""
        lines = list(self._lines)
        for line in lines:
            line.end()
        return len(lines)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, server)
        if self._weather.refuses:
            line.end()
            self.touched += 1
            return
        self._lines.add(line)
        ways = partial(self._pump, line, "asks", reader, server), partial(self._pump, line, "answers", answers, writer)
        pumps = [asyncio.create_task(way()) for way in ways]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._lines.discard(line)
        line.end()

    async def _pump(self, line: _Line, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spot = self.spotter() if way == "asks" else lambda _: ()
        while data := await reader.read(_CHUNK_BYTES):
            spotted = spot(data)  # always: it follows where requests begin
            if self.trap and self.trap.spots in spotted and self._spring(line, self.trap):
                return
            if await self._passes(line, way):
                writer.write(data)
                await writer.drain()

    def _spring(self, line: _Line, trap: Trap) -> bool:
        """Whether the request is lost with its connection."""
        self.trap, trap.sprung = None, True
        if trap.loses == "answers":
            line.muted = True
            asyncio.get_running_loop().call_later(trap.seconds, line.end)
        return trap.loses == "asks"

    async def _passes(self, line: _Line, way: Way) -> bool:
        self.touched += self._weather.meets(way)
        while way in self._weather.holds:
            await self._turned.wait()
        if way == "answers":
            await asyncio.sleep(self._weather.delay_seconds)
        lost = way in self._weather.loses
        line.gaps |= lost
        return not lost and not (line.muted and way == "answers")


def _together(weathers: Sequence[Weather]) -> Weather:
    return Weather(
        refuses=any(each.refuses for each in weathers),
        holds=frozenset().union(*(each.holds for each in weathers)),
        loses=frozenset().union(*(each.loses for each in weathers)),
        delay_seconds=max((each.delay_seconds for each in weathers), default=0.0),
    )


class KafkaRequests:
    """Spots the requests of a Kafka client: each is its length, then its kind, both big-endian (the protocol guide).

    >>> spot = KafkaRequests()
    >>> sorted(spot(bytes([0, 0, 0, 3, 0, 26, 9, 0, 0, 0, 2])))
    ['EndTxn']
    >>> sorted(spot(bytes([0, 28])))
    ['TxnOffsetCommit']
    """

    NAMES = {0: "Produce", 26: "EndTxn", 28: "TxnOffsetCommit"}

    def __init__(self) -> None:
        self._head, self._skip = b"", 0

    def __call__(self, data: bytes) -> set[str]:
        data, at, found = self._head + data, self._skip, set()
        while at + 6 <= len(data):
            length, kind = struct.unpack_from(">ih", data, at)
            found.add(self.NAMES.get(kind, ""))
            at += 4 + length
        self._head, self._skip = data[at:], max(0, at - len(data))
        return found


def delta_commits(data: bytes) -> Collection[str]:
    """Spots the request that makes a version of a Delta table."""
    return ("commit",) if data.startswith(b"PUT ") and b"_delta_log/" in data[:300] else ()


def postgres_commits(data: bytes) -> Collection[str]:
    """Spots the end of a Postgres transaction."""
    return ("commit",) if data.startswith(b"Q") and b"COMMIT" in data[:20] else ()
