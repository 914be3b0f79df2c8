"""Keeps named processes running: starts, probes, restarts with back-off, bounds their logs, stops them in reverse."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from compose.embedded.errors import StackError, StartFailed

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.1, 5.0
STEADY_AFTER_SECONDS = 10.0
ATTEMPTS_TO_START = 5
PROBE_SECONDS, PROBE_READY_SECONDS, PROBE_TIMEOUT_SECONDS = 0.1, 1.0, 5.0
LEFTOVER_GRACE_SECONDS = 5.0
MAX_LOG_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Process:
    """A program to keep running.

    `prepare` runs before every start. `ready` is asked again and again; an OSError counts as no. `death_signal` is
    what the kernel sends when the supervisor itself is gone. `uid` is the user to become, which only root can.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str]
    folder: Path
    prepare: Callable[[], Awaitable[None]] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 10.0
    ready_within_seconds: float = 60.0
    uid: int | None = None
    reach: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """What a process is now; `born` (clock ticks since boot) tells it from a later one with the same pid."""

    name: str
    pid: int | None = None
    born: int | None = None
    restarts: int = 0
    ready: bool = False


def dependent(
    argv: tuple[str, ...], death_signal: signal.Signals, uid: int | None = None, *, reach: bool = False
) -> tuple[str, ...]:
    """The command that runs `argv` so that it dies with this process (child.py)."""
    child = str(Path(__file__).with_name("child.py"))
    user = "-" if uid is None else str(uid)
    rights = "reach" if reach else "-"
    return (sys.executable, "-I", "-S", child, str(os.getpid()), str(int(death_signal)), user, rights, *argv)


def back_off_seconds(failures: int) -> float:
    """How long to wait after the n-th failure in a row.

    >>> [back_off_seconds(n) for n in (1, 2, 3, 10)]
    [0.1, 0.2, 0.4, 5.0]
    """
    return min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (failures - 1))


def born(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None when there is none (proc(5), stat, field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Supervisor:
    """Runs processes below `folder`: logs/<name>.log, and processes.json, which tells others what runs.

    Everything belongs to the event loop's thread: the children die when that thread ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waves: list[list[_Keeper]] = []

    async def start(self, *processes: Process) -> None:
        """Start these together and return when all are ready; later calls stop first. Raises StartFailed."""
        if not self._waves:
            await self._end_leftovers()
        wave = [_Keeper(process, self.folder / "logs", self._write) for process in processes]
        self._waves.append(wave)
        for keeper in wave:
            keeper.begin()
        try:
            async with asyncio.TaskGroup() as waiting:
                for keeper in wave:
                    waiting.create_task(keeper.first_ready())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def stop(self) -> None:
        """Stop all: the last started first, those started together at the same time."""
        while self._waves:
            await asyncio.gather(*(keeper.end() for keeper in self._waves[-1]))
            self._waves.pop()
            self._write()
        (self.folder / "processes.json").unlink(missing_ok=True)

    def status(self) -> list[State]:
        """The states in the order of starting."""
        return [keeper.state for wave in self._waves for keeper in wave]

    def kill(self, name: str) -> None:
        """SIGKILL one process, to see it come back. KeyError when it is unknown or not running."""
        pids = {state.name: state.pid for state in self.status() if state.pid is not None}
        os.kill(pids[name], signal.SIGKILL)

    def _write(self) -> None:
        record = {"supervisor": os.getpid(), "processes": [asdict(state) for state in self.status()]}
        fresh = self.folder / "processes.json.new"
        fresh.write_text(json.dumps(record, indent=1))
        fresh.rename(self.folder / "processes.json")

    async def _end_leftovers(self) -> None:
        """End what an owner that was killed may have left; the kernel has already told it to go."""
        try:
            record = json.loads((self.folder / "processes.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        states = [State(**state) for state in record["processes"]]
        # SIGINT ends Java, Go, PostgreSQL (fast) and Python alike
        await asyncio.gather(*(end(s.pid, signal.SIGINT, birth=s.born) for s in states if s.pid is not None))


async def end(pid: int, *signals: signal.Signals, birth: int | None = None) -> None:
    """End a process that need not be a child: each signal in turn, then SIGKILL, until it is gone.

    `birth` guards against a pid that is another process's by now.
    """
    birth = born(pid) if birth is None else birth
    for word in itertools.chain(signals, itertools.repeat(signal.SIGKILL)):
        if birth is None or born(pid) != birth:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, word)
        await _gone(pid, birth)


async def _gone(pid: int, birth: int) -> None:
    for _ in range(int(LEFTOVER_GRACE_SECONDS / PROBE_SECONDS)):
        if born(pid) != birth:
            return
        await asyncio.sleep(PROBE_SECONDS)


async def run(
    argv: tuple[str, ...],
    stdin: str = "",
    *,
    environment: Mapping[str, str],
    folder: Path,
    uid: int | None = None,
    reach: bool = False,
) -> str:
    """What a program says, run to its end, dependent like the others. Raises StackError with that when it fails."""
    child = await asyncio.create_subprocess_exec(
        *dependent(argv, signal.SIGKILL, uid, reach=reach),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        output, _ = await child.communicate(stdin.encode())
    except asyncio.CancelledError:
        child.kill()
        await child.communicate()
        raise
    if child.returncode:
        raise StackError(f"{argv[0]} failed with {child.returncode}: {output.decode(errors='replace')[-2000:]}")
    return output.decode(errors="replace")


class _Keeper:
    """One process, kept running by one task; cancelling the task stops the process."""

    def __init__(self, process: Process, logs: Path, changed: Callable[[], None]) -> None:
        self.process = process
        self.state = State(name=process.name)
        self.log = logs / f"{process.name}.log"
        self._changed = changed
        self._was_ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._keep(), name=self.process.name)

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def first_ready(self) -> None:
        name, limit_seconds = self.process.name, self.process.ready_within_seconds
        deadline = time.monotonic() + limit_seconds
        while not self._was_ready.is_set():
            if self.state.restarts >= ATTEMPTS_TO_START:
                raise StartFailed(name, f"ended {ATTEMPTS_TO_START} times before it was ready", self.log)
            if time.monotonic() > deadline:
                raise StartFailed(name, f"was not ready in {limit_seconds:.0f} s", self.log)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._was_ready.wait()

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            ending = await self._run()
            failures = 1 if time.monotonic() - began > STEADY_AFTER_SECONDS else failures + 1
            delay = back_off_seconds(failures)
            self._note(f"{ending}; again in {delay:.1f} s")
            await asyncio.sleep(delay)
            self._change(restarts=self.state.restarts + 1)

    async def _run(self) -> str:
        """One life of the process, from its preparation to its end; returns how it ended."""
        try:
            if self.process.prepare is not None:
                await self.process.prepare()
            child = await self._spawn()
        except Exception as error:  # whatever keeps it from starting is its log's to tell, and is tried again
            return f"not started: {error}"
        self._change(pid=child.pid, born=born(child.pid))
        watch = asyncio.create_task(self._watch())
        try:
            return f"ended with {await child.wait()}"
        except asyncio.CancelledError:
            await self._terminate(child)
            raise
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            _kill_group(child.pid)
            self._change(pid=None, born=None, ready=False)

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = self.process
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *dependent(process.argv, process.death_signal, process.uid, reach=process.reach),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=process.folder,
                env=dict(process.environment),
                start_new_session=True,  # Ctrl-C in the terminal is the supervisor's alone
            )

    async def _terminate(self, child: asyncio.subprocess.Process) -> None:
        try:
            child.send_signal(self.process.stop_signal)
            async with asyncio.timeout(self.process.grace_seconds):
                await child.wait()
        except ProcessLookupError:
            await child.wait()
        except TimeoutError:
            self._note(f"still there {self.process.grace_seconds:.0f} s after {self.process.stop_signal.name}: killed")
            child.kill()
            await child.wait()

    async def _watch(self) -> None:
        """Keep `ready` true to the process and its log within bounds."""
        for _ in itertools.count():
            ready = await self._probe()
            if ready:
                self._was_ready.set()
            if ready != self.state.ready:
                self._change(ready=ready)
            self._bound_log()
            await asyncio.sleep(PROBE_READY_SECONDS if ready else PROBE_SECONDS)

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):  # wait_for of 3.11 may swallow a cancellation
                return await self.process.ready()
        except (OSError, EOFError, TimeoutError):
            return False

    def _bound_log(self) -> None:
        """Move a full log aside; the process goes on writing, as it appends to the same, now empty file."""
        if self.log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def _note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"[supervisor] {self.process.name} {text}\n")

    def _change(self, **changes: int | bool | None) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]  # the fields differ in type
        self._changed()


def _kill_group(leader: int) -> None:
    """What the process started goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
