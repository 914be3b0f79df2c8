"""From the first process to the last check."""

import asyncio
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from cli.client import Registry
from cli.demonstration import evidence, report
from cli.demonstration.feeder import Feeder
from cli.demonstration.follower import Follower
from cli.demonstration.holds import Holds
from cli.demonstration.kills import Killer
from cli.demonstration.lags import Lags, Monitor
from cli.demonstration.picture import Picture
from cli.demonstration.plan import Declared, Plan
from cli.demonstration.reading import Said, last_published, topics_of
from cli.demonstration.settle import NotSettled, Settling
from cli.demonstration.traces import zipkin_at
from cli.demonstration.view import View
from cli.up import where
from compose.embedded.stack import Stack
from compose.embedded.up import running
from shared.settings import KafkaSettings

_TICK_SECONDS = 0.1
_LAGS_EVERY_SECONDS = 0.25
_SETTLED_WITHIN_SECONDS = 240.0


class Demonstration:
    """One run on a stack that is up; `follow` goes on until cancelled, or to the settled end of the plan."""

    def __init__(self, *, plan: Plan, declared: Declared, stack: Stack, console: Console) -> None:
        kafka, stream = KafkaSettings(), declared.stream
        port = int(stack.environment["MODELBUS_MONITOR_HTTP_PORT"])
        self.holds = Holds(partitions=stream.partitions)
        self.picture = Picture()
        self.feeder = Feeder(plan=plan, stream=stream.stream, kafka=kafka, holds=self.holds)
        self.follower = Follower(
            kafka=kafka,
            models=declared.names,
            on_event=self._hear,
            on_prediction=self.picture.hear_prediction,
            on_dead_letter=self.picture.hear_dead_letter,
        )
        self.monitor: Monitor | None = None
        self.killer = _killer(plan, stack)
        self._plan = plan
        self._lateness = stream.lateness
        self._lags = Lags(
            kafka=kafka, stream=stream.stream, models=declared.names, partitions=stream.partitions, port=port
        )
        self._settling = Settling(
            stream=stream.stream, models=declared.names, lags=self._lags, holds=self.holds, picture=self.picture
        )
        self._view = View(picture=self.picture, feeder=self.feeder, where=_where(stack, declared), console=console)

    def _hear(self, said: Said) -> None:
        self.holds.hear(said.event)
        self.picture.hear(said)

    async def follow(self) -> None:
        """Until cancelled; with `exit`, until everything has settled.

        Raises:
            NotSettled: it did not, in time.
            FeederFailed: a record was not acknowledged.
        """
        with self._view.open():
            self.follower.start()
            self.feeder.start()
            self._looking = asyncio.create_task(self._look())
            try:
                await self._until_published()
                await (self._until_settled() if self._plan.exit else self._for_ever())
            finally:
                self._looking.cancel()
                await asyncio.gather(self._looking, return_exceptions=True)
                await asyncio.to_thread(self.feeder.stop)
                await asyncio.to_thread(self.follower.stop)

    async def _look(self) -> None:
        """How far the consumers are: what holds event time beside the lifecycles."""
        while True:
            self.monitor = await asyncio.to_thread(self._lags.monitor)
            with suppress(KafkaException):  # a broker that was slow to answer is asked again
                self.holds.behind = await asyncio.to_thread(self._lags.too_far, self.monitor, self._ahead())
            self.holds.wanted = self.monitor.wanted if self.monitor else frozenset()
            await asyncio.sleep(_LAGS_EVERY_SECONDS)

    def _ahead(self) -> timedelta:
        """Event time that is published beyond the monitor's clock, which stays the stream's lateness behind."""
        clock = self.monitor.clock if self.monitor and self.monitor.clock else self._plan.start - self._lateness
        return self.feeder.at - clock - self._lateness

    async def _tick(self) -> None:
        if self.follower.failure is not None:
            raise self.follower.failure
        if self._looking.done():
            self._looking.result()
        self._view.refresh()
        await asyncio.sleep(_TICK_SECONDS)

    async def _until_published(self) -> None:
        while not self.feeder.done:
            if self.killer is not None and (victim := self.killer.turn(time.monotonic())):
                with self.picture.lock:
                    self.picture.news.append(f"killed {victim}")
            await self._tick()

    async def _for_ever(self) -> None:
        self._view.phase = "all published; Ctrl-C ends it"
        while True:
            await self._tick()

    async def _until_settled(self) -> None:
        self._view.phase = "settling"
        deadline = time.monotonic() + _SETTLED_WITHIN_SECONDS
        asked = asyncio.create_task(asyncio.to_thread(self._settling.unsettled, self.monitor))
        while True:
            await self._tick()
            if not asked.done():
                continue
            if not (missing := asked.result()):
                return
            if time.monotonic() > deadline:
                raise NotSettled(f"not settled in {_SETTLED_WITHIN_SECONDS:.0f} s: {'; '.join(missing)}")
            asked = asyncio.create_task(asyncio.to_thread(self._settling.unsettled, self.monitor))


async def demonstrate(plan: Plan, declared: Declared, console: Console) -> int:
    """Start, declare, stream, and with `exit` settle and report; returns the exit code.

    Raises:
        StackInUse, StartFailed: the stack.
        RegistryError: the declarations were refused.
        NotSettled, FeederFailed: the run did not come to its end.
    """
    began = time.monotonic()
    async with running(plan.folder, plan.scorers) as stack:
        os.environ.update(stack.environment)  # for the settings that clients of this process read
        await asyncio.to_thread(_apply, plan, declared)
        if plan.keep and (last := await asyncio.to_thread(last_published, KafkaSettings(), declared.stream.stream)):
            plan = replace(plan, start=max(plan.start, last))  # what was published at that very time comes again
        start_up_seconds = time.monotonic() - began
        console.print(f"ready and declared in {start_up_seconds:.1f} s; logs in {stack.folder}/logs")
        demonstration = Demonstration(plan=plan, declared=declared, stack=stack, console=console)
        await demonstration.follow()
        how = report.Circumstances(
            start_up_seconds=start_up_seconds,
            wall_seconds=time.monotonic() - began,
            published=demonstration.feeder.published,
            held_seconds=demonstration.feeder.pace.held_seconds,
            given_up=demonstration.holds.given_up,
            killed=demonstration.killer.killed if demonstration.killer else {},
            monitor=demonstration.monitor,
        )
        return await asyncio.to_thread(_conclude, plan, declared, how, stack, console)


def _conclude(plan: Plan, declared: Declared, how: report.Circumstances, stack: Stack, console: Console) -> int:
    """Count everything from the topics, and say what holds."""
    zipkin = zipkin_at(stack.environment["OTEL_EXPORTER_ZIPKIN_ENDPOINT"])
    made = report.make(plan, evidence.gather(declared), how, zipkin)
    if plan.report is not None:
        plan.report.write_text(json.dumps(made, indent=1, default=str))
    console.print(_verdicts(made))
    return 1 if report.failed(made) else 0


def _apply(plan: Plan, declared: Declared) -> None:
    with Registry("operator", actor="demo") as registry:
        registry.apply(declared.text, source=plan.specs.name, reason="the demo")


def _killer(plan: Plan, stack: Stack) -> Killer | None:
    if plan.kill_every_seconds is None:
        return None
    return Killer(stack.supervisor, every_seconds=plan.kill_every_seconds, seed=plan.seed, now=time.monotonic())


def _where(stack: Stack, declared: Declared) -> Table:
    table = where(stack.environment)
    table.add_row("topics", ", ".join(topics_of(declared.stream.stream, declared.names)[:4]) + ", lifecycle.*")
    table.add_row("look closer", f"modelbus --stack {stack.folder} status")
    return table


def _verdicts(made: report.Json) -> Table:
    words = {True: "[green]holds[/]", False: "[red]FAILS[/]", None: "[dim]not due[/]"}
    table = Table("check", "verdict", "why", title="what must hold", title_justify="left")
    for name, check in made["checks"].items():
        table.add_row(name, words[check["ok"]], check["explanation"])
    return table
