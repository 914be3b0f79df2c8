"""How each kind of fault is done to the world, and undone."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field

from tests.chaos.plan import Fault
from tests.chaos.proxy import BOTH, Proxy, Trap, Weather
from tests.chaos.world import START_SECONDS, World, aside
from tests.scoring_world import free_port, until

RESET_SOON_SECONDS = 0.1
TRAP_SECONDS = 60.0
ZOMBIE_SECONDS = 3.0
WEATHERS = {
    "cut": Weather(refuses=True),
    "hold": Weather(holds=BOTH),
    "mute": Weather(loses=frozenset({"answers"})),
    "deafen": Weather(loses=frozenset({"asks"})),
}


@dataclass(kw_only=True)
class Struck:
    """A fault as it went: Unix times, and whether it met what it was meant for: a process at work, lines in use."""

    fault: Fault
    began: float = field(default_factory=time.time)
    ended: float | None = None
    hit: bool = True


class Striker:
    """Does faults to a world; `log` is what was done."""

    def __init__(self, world: World) -> None:
        self.log: list[Struck] = []
        self._world = world
        self._ways: dict[str, Callable[[Struck], Awaitable[None]]] = {
            "kill": self._signal,
            "leave": self._signal,
            "freeze": self._freeze,
            "join": self._join,
            "twin": self._twin,
            "reset": self._reset,
            "outage": self._outage,
            "delay": self._weather,
            "lose request": self._trap,
            "lose answer": self._trap,
            "silence after": self._trap,
            **dict.fromkeys(WEATHERS, self._weather),
        }

    async def strike(self, fault: Fault) -> None:
        """Returns when it is over."""
        struck = Struck(fault=fault)
        self.log.append(struck)
        await self._ways[fault.kind](struck)
        struck.ended = time.time()

    async def _signal(self, struck: Struck) -> None:
        number = signal.SIGKILL if struck.fault.kind == "kill" else signal.SIGTERM
        struck.hit = _sent(await self._world.ready(struck.fault.target), number)

    async def _freeze(self, struck: Struck) -> None:
        """It stands still with what it has begun, and then goes on."""
        pid = await self._world.ready(struck.fault.target)
        struck.hit = _sent(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(struck.fault.seconds if struck.hit else 0)
        finally:
            _sent(pid, signal.SIGCONT)

    async def _join(self, struck: Struck) -> None:
        process = self._world.process(struck.fault.target)
        async with aside(self._world.folder / "joined", process) as starting:
            await asyncio.sleep(struck.fault.seconds)
            struck.hit = starting.done() and starting.exception() is None

    async def _twin(self, struck: Struck) -> None:
        """Another process takes the slot of one that is frozen, which then goes on as if nothing had been."""
        name = struck.fault.target
        slot = int(name.partition("-")[2])
        process = self._world.process(name, MODELBUS_SCORER_HTTP_PORT=str(free_port() - slot))
        async with AsyncExitStack() as twin:
            starting = await twin.enter_async_context(aside(self._world.folder / f"twin-{name}", process))
            await self._freeze(struck)
            await asyncio.sleep(ZOMBIE_SECONDS)
            struck.hit &= starting.done() and starting.exception() is None

    async def _reset(self, struck: Struck) -> None:
        line = self._world.lines[struck.fault.target]
        with suppress(AssertionError):
            await until(lambda: line.reset() > 0, START_SECONDS, every=0.05)
            return
        struck.hit = False

    async def _outage(self, struck: Struck) -> None:
        lines = [line for name, line in self._world.lines.items() if name.endswith(f"/{struck.fault.target}")]
        await _over(lines, Weather(refuses=True), struck)

    async def _weather(self, struck: Struck) -> None:
        fault = struck.fault
        weather = WEATHERS[fault.kind] if fault.kind in WEATHERS else Weather(delay_seconds=float(fault.detail))
        await _over([self._world.lines[fault.target]], weather, struck)

    async def _trap(self, struck: Struck) -> None:
        """Waits for the request; where its answer is lost, the client hears nothing for some time."""
        fault, line = struck.fault, self._world.lines[struck.fault.target]
        trap = Trap(
            spots=fault.detail,
            loses="asks" if fault.kind == "lose request" else "answers",
            seconds=fault.seconds if fault.kind == "silence after" else RESET_SOON_SECONDS,
        )
        line.trap = trap
        with suppress(AssertionError):
            await until(lambda: trap.sprung, TRAP_SECONDS)
        if line.trap is trap:
            line.trap = None
        struck.hit = trap.sprung
        await asyncio.sleep(fault.seconds if trap.sprung else 0)


async def _over(lines: Sequence[Proxy], weather: Weather, struck: Struck) -> None:
    """As long as the fault lasts; it met something where a connection, or what goes over one, was touched."""
    before = sum(line.touched for line in lines)
    with ExitStack() as over:
        for line in lines:
            over.enter_context(line.under(weather))
        await asyncio.sleep(struck.fault.seconds)
    struck.hit = sum(line.touched for line in lines) > before


def _sent(pid: int | None, number: signal.Signals) -> bool:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
    return False
